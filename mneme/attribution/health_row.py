"""One row of the `health` table: a value against its thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np

_NOT_A_NUMBER = (
    "the figure is not a number: look for NaN or overflow in what both models give (harvest.dtype=float32 has the"
    " widest range), and make the run again"
)


def health_row(
    metric: str,
    title: str,
    value: float | None,
    unit: str,
    advice: str,
    *,
    warn: float | None = None,
    fail: float | None = None,
    low_is_bad: bool = False,
) -> dict[str, Any]:
    """One row. Values beyond `warn` (then `fail`) are bad; beyond is below with `low_is_bad`, else above.

    None: there was nothing to measure it on, which is no fault; it is kept as NaN. A NaN that was measured is a failed
    check, with thresholds or without.
    """
    status, sign = "info", -1 if low_is_bad else 1
    if value is None:
        value = np.nan
    elif np.isnan(value):
        status, advice = "fail", _NOT_A_NUMBER
    elif warn is not None or fail is not None:
        status = "ok"
        if warn is not None and sign * value > sign * warn:
            status = "warn"
        if fail is not None and sign * value > sign * fail:
            status = "fail"
    side = "<" if low_is_bad else ">"
    limits = [
        f"{word} {side} {limit:g}" for word, limit in (("warn", warn), ("fail", fail)) if limit is not None
    ]
    return {
        "metric": metric,
        "title": title,
        "value": float(value),
        "unit": unit,
        "threshold": ", ".join(limits),
        "status": status,
        "advice": advice if status in ("warn", "fail") else "",
    }


def measured(value: float) -> float | None:
    """None for NaN: for figures that are NaN only where there was nothing to measure them on."""
    return None if np.isnan(value) else float(value)
