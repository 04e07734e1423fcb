"""How good the run's labels are, as the report tells it."""

from __future__ import annotations

import math
from typing import Any

from mneme.report.format import ABSENT, count, missing, percent
from mneme.report.latents import LabelQuality
from mneme.store.queries.label_scores import score_summary, unreliable_share
from mneme.store.run import Run

COLUMNS = ("labels", "judge", "test", "latents", "score", "other latents' labels", "random latents")
NOTE = (
    "Balanced accuracy on held-out text, mean over latents, 50 % is guessing; hard: windows where a near latent fires."
    " Random latents fire on tokens drawn by chance: what their labels get, a score gives for nothing."
)


def label_quality(run: Run) -> tuple[LabelQuality, ...]:
    """A row a method, judge and test; baselines beside it."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in score_summary(run).to_dict("records"):
        key = tuple(str(row[name]) for name in ("method", "scorer", "test", "negatives"))
        found.setdefault(key, {})[row["labels"]] = row
    return tuple(
        LabelQuality(
            method=key[0],
            scorer=key[1],
            test=key[2],
            negatives=key[3],
            n=int(rows["own"]["n"]),
            score=_real(rows["own"]["balanced_accuracy"]),
            ci_low=_real(rows["own"]["ci_low"]),
            ci_high=_real(rows["own"]["ci_high"]),
            shuffled=_real(rows.get("shuffled", {}).get("balanced_accuracy")),
            random_latents=_real(rows.get("random latent", {}).get("balanced_accuracy")),
        )
        for key, rows in found.items()
        if "own" in rows
    )


def unreliable(run: Run) -> float | None:
    """Share of scored latents whose label isn't shown to beat other latents' labels."""
    return _real(unreliable_share(run))


def quality_rows(quality: tuple[LabelQuality, ...]) -> list[tuple[str, ...]]:
    """The cells below COLUMNS."""
    return [
        (
            q.method,
            "sentence encoder" if q.scorer == "encoder" else q.scorer,
            f"{q.test}, {q.negatives}",
            count(q.n),
            ABSENT if q.score is None else f"{percent(q.score)} [{percent(q.ci_low)}, {percent(q.ci_high)}]",
            percent(q.shuffled),
            percent(q.random_latents),
        )
        for q in quality
    ]


def unreliable_sentence(share: float | None) -> str:
    """How many labels are called unreliable, and why."""
    if share is None:
        return ""
    return (
        f"{percent(share)} of the scored latents have a label that isn't shown to beat other latents' labels"
        " (the 95 % interval of its gain reaches 0): they are marked unreliable."
    )


def _real(value: Any) -> float | None:
    return None if missing(value) or not math.isfinite(value) else float(value)
