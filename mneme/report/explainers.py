"""Explainers compared on the same latents (`mneme label --compare`), for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mneme.report.collect import text
from mneme.report.compared import Explainer, ExplainerPair
from mneme.report.format import ABSENT, count, decimals, duration, interval, percent
from mneme.store.queries import explainers as comparison
from mneme.store.run import Run

COLUMNS = ("explainer", "labelled", "held-out score", "other latents' labels", "tokens", "money", "time")
SENTENCE = (
    "Explainers compared on the same latents: mean balanced accuracy of their labels on held-out contexts, with its"
    " 95% interval over latents, beside that of other latents' labels."
)


def explainers(run: Run) -> tuple[Explainer, ...]:
    """The explainers compared, in the order asked for."""
    rows = comparison.method_rows(run)
    return tuple(Explainer(**{**row, "method": text(row["method"])}) for row in map(_finite, rows))


def explainer_pairs(run: Run) -> tuple[ExplainerPair, ...]:
    """How far each two of them agree."""
    rows = map(_finite, comparison.pair_rows(run))
    return tuple(
        ExplainerPair(**{**row, "method": text(row["method"]), "other": text(row["other"])}) for row in rows
    )


def table(found: Sequence[Explainer]) -> list[tuple[str, ...]]:
    """Rows under COLUMNS."""
    return [
        (
            e.method,
            f"{count(e.n_labelled)} of {count(e.n_asked)}",
            f"{interval(e.score, e.ci_low, e.ci_high)} (n = {count(e.n_scored)})",
            decimals(e.score_shuffled),
            count(e.tokens),
            ABSENT if e.money is None else f"{e.money:,.4f}",
            duration(e.seconds),
        )
        for e in found
    ]


def agreement(pairs: Sequence[ExplainerPair]) -> list[str]:
    """A sentence a pair that has labels of the same latents."""
    return [
        f"{p.method} and {p.other}: mean cosine of their labels {decimals(p.cosine)}, nearest to the same category in"
        f" {percent(p.same_category)} of {count(p.n)} latents."
        for p in pairs
        if p.n
    ]


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}
