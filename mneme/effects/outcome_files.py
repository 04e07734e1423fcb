"""Outcomes as CSV files: read with care, since what is compared with a prediction must not be guessed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from mneme._util.errors import OutcomesError
from mneme._util.files import write_text
from mneme._util.settings import suggest
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE, KINDS, NATS, NLL, chance_q

NEEDED = ("category", "base", "tuned")
_NUMBERS = (
    *NEEDED[1:],
    *("change", "ci_low", "ci_high", "accuracy_base", "accuracy_tuned", "accuracy_low", "accuracy_high"),
    *("answer_base", "answer_tuned", "n", "chance", "chance_q"),
    *("margin_base", "margin_tuned", "margin_low", "margin_high"),
)
COLUMNS = ("category", *_NUMBERS, "source", "unit", "kind", "benchmark")
"""Of a file and of the run's table `outcomes`; mneme/store/schema.py says what each holds."""
_SHARES = ("accuracy_base", "accuracy_tuned", "chance")


def read_outcomes(path: str | Path, known: Collection[str] | None = None) -> pd.DataFrame:
    """Outcomes from a CSV: category, base and tuned are needed, the other COLUMNS may be left out (NaN).

    Without `kind`, an error rate is a capability and all else NLL; without `benchmark`, that is the file's name.
    `chance_q` is always computed anew.

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
    if "benchmark" not in frame:
        frame["benchmark"] = path.stem
    _check_names(path, frame, known)
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
    for name, words in (("unit", (NATS, ERROR_RATE)), ("kind", tuple(KINDS))):
        if name in frame and (odd := sorted(set(frame[name].dropna().astype(str)) - set(words))):
            raise OutcomesError(f"{path}: unknown {name} {odd[0]!r}: write {' or '.join(words)}")
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
    write_text(path, frame.reindex(columns=list(COLUMNS)).to_csv(index=False, float_format="%.5f"))
    return path


def check_categories(source: str | Path, names: Collection[str], known: Collection[str]) -> None:
    """Raises OutcomesError for a name that is none of the known, with the nearest one suggested, never taken."""
    for name in names:
        if name not in known:
            raise OutcomesError(f"{source}: unknown category {name!r}: {suggest(name, known)}")


def _check_names(path: Path, frame: pd.DataFrame, known: Collection[str] | None) -> None:
    keys = [name for name in ("category", "benchmark", "kind") if name in frame]
    if repeated := sorted(set(frame.loc[frame.duplicated(keys), "category"])):
        raise OutcomesError(f"{path} has more than one row for {', '.join(repeated)}: keep one each")
    if known is not None:
        check_categories(path, frame["category"], known)


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
            frame[name] = {"source": path.name, "unit": NATS, "kind": None}.get(name, np.nan)
    frame["unit"] = frame["unit"].fillna(NATS)
    of_unit = frame["unit"].map({NATS: NLL, ERROR_RATE: CAPABILITY})
    frame["kind"] = frame["kind"].astype(object).fillna(of_unit)
    return frame.assign(chance_q=chance_q(frame))[list(COLUMNS)]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def own_outcomes(folder: str | Path) -> Path:
    """Where a run keeps outcomes that were measured for it."""
    return Path(folder) / "outcomes.csv"


def found_outcomes(file: Path) -> bool:
    """Whether outcomes lie in a file that nobody named: a table without rows, as an export may be, is none."""
    return file.is_file() and not is_empty_table(file)
