"""In what unit a file's outcomes are, and the same in units of which more is worse: nats of NLL, or error rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mneme._util.errors import OutcomesError
from mneme.effects.outcome_kinds import ERROR_RATE, NATS

ACCURACY = "accuracy"
"""A unit that files may have; a run holds error rates instead."""
MODELS = ("base", "tuned")
SHARES = ("accuracy_base", "accuracy_tuned")
WANTED = (
    "category, base and tuned with a unit (nats, error rate or accuracy), or accuracy_base and accuracy_tuned"
)


def in_rising_units(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """With `unit`, and base, tuned, change and ends in units of which more is worse."""
    if not {*MODELS} <= {*frame}:
        frame = frame.assign(**{name: 1 - frame[f"accuracy_{name}"] for name in MODELS}, unit=ERROR_RATE)
        return frame.drop(columns=[name for name in ("change", "ci_low", "ci_high") if name in frame])
    unit = frame["unit"] if "unit" in frame else pd.Series(None, index=frame.index, dtype=object)
    unit = unit.fillna("").astype(str).str.casefold().str.replace("_", " ").replace("", _unit_of(path, frame))
    if odd := sorted(set(unit) - {NATS, ERROR_RATE, ACCURACY}):
        raise OutcomesError(f"{path}: unknown unit {odd[0]!r}: write {NATS}, {ERROR_RATE} or {ACCURACY}")
    check_shares(path, frame[unit != NATS], MODELS)
    frame = frame.assign(unit=unit.replace(ACCURACY, ERROR_RATE))
    turned = unit == ACCURACY
    if not turned.any():
        return frame
    for name in MODELS:
        if (share := f"accuracy_{name}") not in frame:
            frame[share] = np.nan
        frame.loc[turned, share] = frame.loc[turned, name]
        frame.loc[turned, name] = 1 - frame.loc[turned, name]
    if "change" in frame:
        frame.loc[turned, "change"] *= -1
    if {"ci_low", "ci_high"} <= {*frame}:
        low, high = frame.loc[turned, "ci_low"].copy(), frame.loc[turned, "ci_high"].copy()
        frame.loc[turned, "ci_low"], frame.loc[turned, "ci_high"] = -high, -low
    return frame


def _unit_of(path: Path, frame: pd.DataFrame) -> str:
    """The unit of a file that doesn't say: what agrees with its accuracies, else nats where shares can't be."""
    numbers = frame[list(MODELS)]
    if {*SHARES} <= {*frame} and frame[list(SHARES)].notna().all(axis=None):
        shares = frame[list(SHARES)].to_numpy(float)
        for unit, same in ((ACCURACY, shares), (ERROR_RATE, 1 - shares)):
            if np.allclose(numbers.to_numpy(float), same, atol=1e-3):
                return unit
        return NATS
    if ((numbers >= 0) & (numbers <= 1)).all(axis=None) and not _says_all(frame):
        raise OutcomesError(
            f"{path} doesn't say what base and tuned are, and numbers between 0 and 1 may be any: add a column"
            f" unit with {NATS} (of NLL), {ERROR_RATE} or {ACCURACY}"
        )
    return NATS


def _says_all(frame: pd.DataFrame) -> bool:
    return "unit" in frame and bool(frame["unit"].notna().all())


def check_shares(path: Path, frame: pd.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name in frame and ((frame[name] < 0) | (frame[name] > 1)).any():
            raise OutcomesError(
                f"{path}: {name} holds {frame[name].max():g}: write shares in [0, 1], not percent"
            )
