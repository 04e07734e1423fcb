"""The part of the report that is about single latents, and figures over all of them; see `mneme/report/model.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """A window of tokens around a strong activation."""

    document: int
    position: int
    topic: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    """as long as `tokens`"""


@dataclass(frozen=True)
class Remark:
    """What analysts say of a latent; latent None: of the whole run."""

    latent: int | None
    verdict: str
    """accept | reject | needs-work, or ''"""
    note: str
    author: str
    """who changed it last"""
    at: str
    tags: tuple[str, ...] = ()
    bookmark: bool = False
    label: str = ""
    """the analyst's own; '' where the automatic one holds"""


@dataclass(frozen=True)
class Latent:
    """One latent and its evidence."""

    latent: int
    verdict: str
    reason: str
    """why it is uncertain, see mneme/attribution/reasons.py; '' for other verdicts"""
    turned: bool
    """its two decoders point in different directions, and its log ratio is measured along each model's own"""
    label: str
    label_method: str
    score: float | None
    score_shuffled: float | None
    unreliable: bool
    """its label isn't shown to do better than other latents' labels"""
    categories: tuple[str, ...]
    beta_base: float | None
    beta_tuned: float | None
    delta_norm: float | None
    decoder_cosine: float | None
    turn_cosine: float | None
    """of the directions the latent has in the two models' own activations, with interval and q; None: not tested"""
    turn_low: float | None
    turn_high: float | None
    turn_q: float | None
    log_ratio: float | None
    ci_low: float | None
    ci_high: float | None
    q_value: float | None
    firing_rate: float | None
    n_documents: int | None
    kl: float | None
    nll_change: float | None
    severity: float | None
    stability: float | None
    seeds_found: int | None
    """dictionaries of other seeds that have it too, of n_seeds (mneme stability)"""
    n_seeds: int | None
    flags: tuple[str, ...]
    """dense, position bound"""
    contexts: tuple[Context, ...]
    label_automatic: str = ""
    """what an analyst's own label stands in place of"""
    review: Remark | None = None


@dataclass(frozen=True)
class LabelQuality:
    """Held-out balanced accuracy of one method's labels in one test, mean over latents."""

    method: str
    scorer: str
    test: str
    negatives: str
    n: int
    score: float | None
    ci_low: float | None
    ci_high: float | None
    shuffled: float | None
    """other latents' labels"""
    random_latents: float | None
    """labels of latents that fire at random"""


@dataclass(frozen=True)
class Point:
    """A latent of the beta scatter."""

    latent: int
    beta_base: float
    beta_tuned: float
    verdict: str


@dataclass(frozen=True)
class Bin:
    """A bar of the histogram of delta_norm."""

    low: float
    high: float
    n: int
