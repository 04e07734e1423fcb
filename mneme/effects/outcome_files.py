"""Outcomes as CSV files: read with care, since what is compared with a prediction must not be guessed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from mneme.errors import OutcomesError
from mneme.settings import suggest

NEEDED = ("category", "base", "tuned")
COLUMNS = (*NEEDED, "change", "ci_low", "ci_high", "accuracy_base", "accuracy_tuned", "n", "source")
_SHARES = ("accuracy_base", "accuracy_tuned")


def read_outcomes(path: str | Path, known: Collection[str] | None = None) -> pd.DataFrame:
    """Outcomes from a CSV: category, base and tuned are needed, the other COLUMNS may be left out (NaN).

    `known`: the run's categories; a name that isn't among them is refused, with the nearest one suggested
    (never guessed).

    Raises OutcomesError, naming the category or column, for what doesn't fit.
    """
    path = Path(path)
    try:
        frame = pd.read_csv(path, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise OutcomesError(
            f"{path} can't be read as CSV ({_first_line(error)}): give columns {', '.join(NEEDED)}"
        ) from error
    if missing := [name for name in NEEDED if name not in frame]:
        raise OutcomesError(
            f"{path} lacks {', '.join(missing)}: its columns are {', '.join(map(str, frame))}"
        )
    if frame.empty:
        raise OutcomesError(f"{path} has no rows: give one line a category")
    frame["category"] = frame["category"].astype(str).str.strip()
    _check_names(path, frame["category"], known)
    for name in COLUMNS[1:-1]:
        if name in frame:
            frame[name] = _numbers(path, frame, name)
    for name in _SHARES:
        if name in frame and ((frame[name] < 0) | (frame[name] > 1)).any():
            raise OutcomesError(
                f"{path}: {name} holds {frame[name].max():g}: write shares in [0, 1], not percent"
            )
    return _complete(path, frame)


def write_outcomes(frame: pd.DataFrame, path: str | Path) -> Path:
    """The frame as CSV, five digits after the point."""
    path = Path(path)
    frame[list(COLUMNS)].to_csv(path, index=False, float_format="%.5f")
    return path


def _check_names(path: Path, names: pd.Series, known: Collection[str] | None) -> None:
    if repeated := sorted(set(names[names.duplicated()])):
        raise OutcomesError(f"{path} has more than one row for {', '.join(repeated)}: keep one each")
    if known is None:
        return
    for name in names:
        if name not in known:
            raise OutcomesError(f"{path}: unknown category {name!r}: {suggest(name, known)}")


def _numbers(path: Path, frame: pd.DataFrame, name: str) -> pd.Series:
    """The column as numbers; only a column that isn't needed may have empty cells."""
    values = pd.to_numeric(frame[name], errors="coerce")
    bad = values.isna() & (frame[name].notna() | (name in NEEDED)) | np.isinf(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise OutcomesError(
            f"{path}: {name} of {frame['category'].iloc[row]} is {frame[name].iloc[row]}: write a number"
        )
    return values


def _complete(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """All COLUMNS, in order."""
    change = frame["tuned"] - frame["base"]
    if "change" in frame:
        wrong = (frame["change"] - change).abs() > 1e-3 * (1 + change.abs())
        if wrong.any():
            raise OutcomesError(
                f"{path}: change of {frame.loc[wrong, 'category'].iloc[0]} is not tuned - base:"
                " correct it, or leave the column out"
            )
    frame = frame.assign(change=change)
    for name in COLUMNS:
        if name not in frame:
            frame[name] = path.name if name == "source" else np.nan
    return frame[list(COLUMNS)]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
