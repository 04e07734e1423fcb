"""Outcomes as CSV files: read with care, since what is compared with a prediction must not be guessed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from mneme._util.errors import OutcomesError
from mneme._util.files import write_text
from mneme._util.settings import suggest

NEEDED = ("category", "base", "tuned")
_NUMBERS = (
    *NEEDED[1:],
    *("change", "ci_low", "ci_high", "accuracy_base", "accuracy_tuned", "accuracy_low", "accuracy_high"),
    *("answer_base", "answer_tuned", "n"),
)
COLUMNS = ("category", *_NUMBERS, "source", "unit")
NATS, ERROR_RATE = "nats", "error rate"
"""Units of base, tuned and change: NLL in nats; or, where only accuracy is known, the share of wrong answers."""
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
    for name in _NUMBERS:
        if name in frame:
            frame[name] = _numbers(path, frame, name)
    for name in _SHARES:
        if name in frame and ((frame[name] < 0) | (frame[name] > 1)).any():
            raise OutcomesError(
                f"{path}: {name} holds {frame[name].max():g}: write shares in [0, 1], not percent"
            )
    if {"n_base", "n_tuned"} <= set(frame) and (unlike := frame["n_base"] != frame["n_tuned"]).any():
        row = frame[unlike].iloc[0]
        raise OutcomesError(
            f"{path}: {row['category']} has n {row['n_base']} for the base and {row['n_tuned']} for the tuned model:"
            " measure both on the same items"
        )
    if "unit" in frame and (odd := sorted(set(frame["unit"].dropna()) - {NATS, ERROR_RATE})):
        raise OutcomesError(f"{path}: unknown unit {odd[0]!r}: write {NATS} or {ERROR_RATE}")
    return _complete(path, frame)


def is_empty_table(path: Path) -> bool:
    """Whether a file has at most a header: no outcomes at all."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n", 2)
    except (OSError, UnicodeDecodeError):
        return False
    return not any(line.strip() for line in lines[1:])


def write_outcomes(frame: pd.DataFrame, path: str | Path) -> Path:
    """The frame as CSV, five digits after the point; whole or not at all."""
    path = Path(path)
    write_text(path, frame[list(COLUMNS)].to_csv(index=False, float_format="%.5f"))
    return path


def check_categories(source: str | Path, names: Collection[str], known: Collection[str]) -> None:
    """Raises OutcomesError for a name that is none of the known, with the nearest one suggested, never taken."""
    for name in names:
        if name not in known:
            raise OutcomesError(f"{source}: unknown category {name!r}: {suggest(name, known)}")


def _check_names(path: Path, names: pd.Series, known: Collection[str] | None) -> None:
    if repeated := sorted(set(names[names.duplicated()])):
        raise OutcomesError(f"{path} has more than one row for {', '.join(repeated)}: keep one each")
    if known is not None:
        check_categories(path, names, known)


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
            frame[name] = {"source": path.name, "unit": NATS}.get(name, np.nan)
    frame["unit"] = frame["unit"].fillna(NATS)
    return frame[list(COLUMNS)]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def own_outcomes(folder: str | Path) -> Path:
    """Where a run keeps outcomes that were measured for it."""
    return Path(folder) / "outcomes.csv"


def found_outcomes(file: Path) -> bool:
    """Whether outcomes lie in a file that nobody named: a table without rows, as an export may be, is none."""
    return file.is_file() and not is_empty_table(file)
