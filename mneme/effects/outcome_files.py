"""Outcomes as CSV files: read with care, since what is compared with a prediction must not be guessed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from mneme._util.errors import OutcomesError
from mneme._util.files import write_text
from mneme._util.reading import read_whole
from mneme._util.settings import one_line, suggest
from mneme.corpus.rows import read_rows
from mneme.effects.benchmark import outcomes_errors
from mneme.effects.outcome_kinds import CAPABILITY, ERROR_RATE, KINDS, NATS, NLL, chance_q
from mneme.effects.outcome_units import MODELS, SHARES, WANTED, check_shares, in_rising_units

_NUMBERS = (
    *MODELS,
    *("change", "ci_low", "ci_high", "accuracy_base", "accuracy_tuned", "accuracy_low", "accuracy_high"),
    *("answer_base", "answer_tuned", "n", "chance", "chance_q"),
    *("margin_base", "margin_tuned", "margin_low", "margin_high"),
)
COLUMNS = ("category", *_NUMBERS, "source", "unit", "kind", "benchmark")
"""Of a file and of the run's table `outcomes`; mneme/store/schema.py says what each holds."""


def read_outcomes(path: str | Path, known: Collection[str] | None = None) -> pd.DataFrame:
    """Outcomes from a CSV, COLUMNS; what it doesn't have is NaN.

    Needed are category, and base and tuned (in what the column `unit` says), or accuracy_base and accuracy_tuned. A
    fall of accuracy is a rise of the error rate: worse. Without `kind`, an error rate is a capability and all else NLL;
    without `benchmark`, that is the file's name. `chance_q` is always computed anew.

    `known`: the run's categories; a name that isn't among them is refused, with the nearest one suggested
    (never guessed).

    Raises OutcomesError, naming the category or column, for what doesn't fit, and where nothing tells whether numbers
    between 0 and 1 are nats or shares.
    """
    path = Path(path)
    with outcomes_errors():
        frame = pd.DataFrame([row.values for row in read_rows(path, kind=".csv")], dtype=object)
    if frame.empty:
        raise OutcomesError(f"{path} has no rows: give one line a category, with the columns {WANTED}")
    frame = frame.rename(columns=lambda name: str(name).strip().casefold())
    frame = frame.map(lambda cell: (cell.strip() or None) if isinstance(cell, str) else cell)
    if "category" not in frame or not ({*MODELS} <= {*frame} or {*SHARES} <= {*frame}):
        has = one_line(", ".join(map(str, frame)))
        lacks = ", ".join(name for name in ("category", *MODELS) if name not in frame)
        raise OutcomesError(f"{path} lacks {lacks}: give {WANTED}; its columns are {has}")
    frame["category"] = frame["category"].astype(str)
    if "benchmark" not in frame:
        frame["benchmark"] = path.stem
    _check_names(path, frame, known)
    for name in _NUMBERS:
        if name in frame:
            frame[name] = _numbers(path, frame, name)
    if {"n_base", "n_tuned"} <= set(frame) and (unlike := frame["n_base"] != frame["n_tuned"]).any():
        row = frame[unlike].iloc[0]
        raise OutcomesError(
            f"{path}: {row['category']} has n {row['n_base']} for the base and {row['n_tuned']} for the tuned model:"
            " measure both on the same items"
        )
    check_shares(path, frame, (*SHARES, "chance"))
    if "kind" in frame and (odd := sorted(set(frame["kind"].dropna().astype(str)) - set(KINDS))):
        raise OutcomesError(f"{path}: unknown kind {odd[0]!r}: write {' or '.join(KINDS)}")
    return _complete(path, in_rising_units(path, frame))


def is_empty_table(path: Path) -> bool:
    """Whether a file has at most a header: no outcomes at all."""
    try:
        lines = read_whole(path).split("\n", 2)
    except (OSError, ValueError):
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
    needed = name in MODELS or (name in SHARES and "base" not in frame)
    bad = values.isna() & (frame[name].notna() | needed) | np.isinf(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        cell = "empty" if pd.isna(frame[name].iloc[row]) else one_line(str(frame[name].iloc[row]))
        raise OutcomesError(f"{path}: {name} of {frame['category'].iloc[row]} is {cell}: write a number")
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
            frame[name] = {"source": path.name, "kind": None}.get(name, np.nan)
    of_unit = frame["unit"].map({NATS: NLL, ERROR_RATE: CAPABILITY})
    frame["kind"] = frame["kind"].astype(object).fillna(of_unit)
    return frame.assign(chance_q=chance_q(frame))[list(COLUMNS)]


def own_outcomes(folder: str | Path) -> Path:
    """Where a run keeps outcomes that were measured for it."""
    return Path(folder) / "outcomes.csv"


def found_outcomes(file: Path) -> bool:
    """Whether outcomes lie in a file that nobody named: a table without rows, as an export may be, is none."""
    return file.is_file() and not is_empty_table(file)
