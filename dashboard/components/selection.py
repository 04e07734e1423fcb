"""What a gesture on a plot means; and ranges as text, so that a box is part of the URL.

A box is a command, not a state: it becomes bounds of columns ('delta_norm 0.2..0.4, beta_base 0..1'), kept
in a text field that is bound to the URL and can be typed into. The figure then shows the filtered latents,
and the browser's own selection disappears, which is no second command.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from mneme.store.queries.latents import AXES

Ranges = dict[str, tuple[float, float]]
_RANGE = re.compile(r"\s*([a-z_]+)\s+(-?[\d.eE+-]+)\s*\.\.\s*(-?[\d.eE+-]+)\s*")


class Gesture(NamedTuple):
    """What was done: nothing, a box (`ranges`), or a click on one latent (`latent`)."""

    ranges: Ranges
    latent: int | None


def read_gesture(selection: Mapping[str, Any] | None, x: str, y: str | None) -> Gesture:
    """The meaning of Plotly's selection on a figure whose axes are columns `x` and `y` (None: a count).

    A box wins over the points inside it. A click is a point with the latent's number as custom data.
    """
    selection = selection or {}
    boxes = selection.get("box") or []
    if boxes:
        box, ranges = boxes[-1], {}
        for axis, values in ((x, box.get("x")), (y, box.get("y"))):
            numbers = [float(v) for v in values or [] if _finite(v)]
            if axis in AXES and len(numbers) >= 2 and max(numbers) > min(numbers):
                ranges[axis] = (min(numbers), max(numbers))
        return Gesture(ranges, None)
    points = selection.get("points") or []
    if len(points) == 1:
        data = points[0].get("customdata")
        data = data[0] if isinstance(data, (list, tuple)) and data else data
        if _finite(data) and float(data) >= 0 and float(data) == int(float(data)):
            return Gesture({}, int(float(data)))
    return Gesture({}, None)


def write_ranges(ranges: Mapping[str, tuple[float, float]]) -> str:
    """Ranges as text: 'delta_norm 0.2..0.4, beta_base 0..1'."""
    return ", ".join(f"{axis} {low:.4g}..{high:.4g}" for axis, (low, high) in ranges.items())


def read_ranges(text: str | None) -> Ranges:
    """The ranges of a text; what is not one (unknown axis, no number) is left out."""
    found: Ranges = {}
    for part in (text or "").split(","):
        match = _RANGE.fullmatch(part)
        if match is None or match[1] not in AXES:
            continue
        try:
            low, high = sorted((float(match[2]), float(match[3])))
        except ValueError:
            continue
        if math.isfinite(low) and math.isfinite(high):
            found[match[1]] = (low, high)
    return found


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
