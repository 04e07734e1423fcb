"""What other dictionaries find again (`mneme stability`), in a sentence, from the checks that it writes."""

from __future__ import annotations

from collections.abc import Iterable

from mneme.report.format import number, percent
from mneme.report.model import HealthCheck


def sentence(health: Iterable[HealthCheck]) -> str:
    """The three numbers; '' where the check was not made."""
    value = {check.metric: check.value for check in health}
    if value.get("seed_persistence") is None:
        return ""
    parts = [
        f"Dictionaries of other seeds, each from a start of its own, find {percent(value['seed_persistence'])} of the"
        " live latents again (encoder and decoder cosine of 0.7 or more)"
    ]
    if (changed := value.get("seed_persistence_changed")) is not None:
        parts.append(f"{percent(changed)} of those called changed")
    if (resampled := value.get("resampled_persistence")) is not None:
        parts.append(f"on documents drawn anew {percent(resampled)} are found again")
    if (r2 := value.get("change_r2")) is not None:
        overlap = value.get("change_overlap")
        parts.append(
            f"the change itself, token by token, agrees with R2 = {number(r2)} (its directions: {number(overlap)} of 1)"
        )
    return "; ".join(parts) + "."
