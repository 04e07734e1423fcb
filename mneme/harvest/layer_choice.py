"""The layer that a profile of all layers asks for, and what it says of one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

ENOUGH = 0.9
"""Restored share from which on a layer shows enough. Set before any pair was looked at: a dictionary leaves about 15%
of a stream's variance unexplained anyway, and a layer should cost less than the dictionary that reads it."""


class Choice(NamedTuple):
    """The layer that is read, and why."""

    layer: int
    why: str
    """A sentence."""


def auto_layer(profile: pd.DataFrame | None, middle: int, first_changed: int) -> Choice:
    """From the middle on, the earliest layer that restores ENOUGH of the difference of the predictions.

    The middle, or the first changed layer where that comes later, where no share was measured; the layer of the largest
    share where none is enough.
    """
    start = max(middle, first_changed)
    if profile is None:
        return Choice(start, f"{_place(start, middle)}: no layer profile was measured")
    known = profile[(profile["layer"] >= start) & profile["restored"].notna()]
    if known.empty:
        kl = float(profile["kl"].iloc[0])
        return Choice(
            start,
            f"{_place(start, middle)}: the predictions differ too little on the profile's texts (KL {kl:.2g} nats a"
            " token) to tell layers apart",
        )
    enough = known[known["restored"] >= ENOUGH]
    if enough.empty:
        best = known.sort_values("restored", kind="stable").iloc[-1]
        return Choice(
            int(best["layer"]),
            f"no layer's stream holds {ENOUGH:.0%} of the difference of the predictions, this one holds most"
            f" ({best['restored']:.0%})",
        )
    row = enough.sort_values("layer").iloc[0]
    layer = int(row["layer"])
    share = f"{row['restored']:.0%}"
    if layer == middle:
        return Choice(
            layer, f"the middle layer, whose stream holds {share} of the difference of the predictions"
        )
    return Choice(
        layer,
        f"from the middle on, the earliest layer whose stream holds {ENOUGH:.0%} of the difference of the predictions"
        f" ({share})",
    )


def _place(layer: int, middle: int) -> str:
    return "the middle layer" if layer == middle else "the first changed layer"


def restored_at(profile: pd.DataFrame, layer: int) -> float:
    """The restored share at a layer, in between two that were measured the smaller of theirs; NaN where none was."""
    known = profile[profile["restored"].notna()].sort_values("layer")
    places, shares = known["layer"].to_numpy(int), known["restored"].to_numpy(float)
    if layer in places:
        return float(shares[places == layer][0])
    at = int(np.searchsorted(places, layer))
    return float(min(shares[at - 1], shares[at])) if 0 < at < len(places) else float("nan")
