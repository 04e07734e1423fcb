"""Explainers compared, as the report holds them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Explainer:
    """What came of asking one explainer about the same latents as others: see table label_comparison."""

    method: str
    n_asked: int
    n_labelled: int
    n_scored: int
    score: float | None
    ci_low: float | None
    ci_high: float | None
    score_shuffled: float | None
    tokens: int | None
    money: float | None
    seconds: float | None


@dataclass(frozen=True)
class ExplainerPair:
    """How far two explainers agree: see table label_agreement."""

    method: str
    other: str
    n: int
    cosine: float | None
    same_category: float | None
