"""What a run's verdict rests on, and its categories by what is said of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from mneme._util.vocabulary import (
    BETTER,
    CHANGED_INSIDE,
    MOVED,
    SPARSE_ENOUGH,
    WORSE,
)


@dataclass(frozen=True)
class Evidence:
    """What a run's verdict rests on."""

    effects: pd.DataFrame
    """A row a category: name, grp, verdict, reason, shown_by, intended, effect, nll_change, nll_low, nll_high,
    n_documents, measured (one of OUTCOMES); change and unit of what was measured."""
    latents: pd.DataFrame
    """verdict."""
    tokens: int
    """Of the run's text."""
    margin: float
    """effects.nll_margin, nats per token."""
    nll: tuple[float, float, float]
    """Mean NLL change of the run's text and its 95% interval, nats per token; NaN where it was not measured."""
    kl: float
    """Mean KL(base || tuned), nats per token."""
    kl_margin: float
    """The mean KL of a tune on unrelated text."""
    common: float = 0.0
    """The NLL change that most documents share, nats per token: no category's own."""
    own_text: bool = False
    """Whether the base is known to have written the run's text."""
    power: pd.DataFrame | None = None
    """Table `power`; None or empty where it was not measured."""
    explained: float = math.nan
    """Share of the models' difference that the dictionary explains; NaN where not measured, or nothing differs."""
    rank: float = math.nan
    """Effective rank of the difference, directions."""
    failed: tuple[str, ...] = ()
    """Titles of the health checks that failed."""
    layer_shows: bool = True
    """Whether the streams can differ at the layer that was read."""
    null_rate: float = 0.0
    """The largest measured share of latents called changed in a pair that did not change."""
    min_documents: float = 3.0
    """effects.min_documents."""
    behaviour_share: float = 1.0
    """Share of the documents whose predictions were measured."""
    folder: str = "RUN"
    """For commands."""


@dataclass(frozen=True)
class Sorted:
    """The categories by what is said of them; those that were meant to change are apart."""

    known: pd.DataFrame = field(repr=False)
    moved: pd.DataFrame = field(repr=False)
    inside: pd.DataFrame = field(repr=False)
    missed: pd.DataFrame = field(repr=False)
    intended: pd.DataFrame = field(repr=False)


def sort_categories(effects: pd.DataFrame) -> Sorted:
    goal = effects["intended"].fillna(False).astype(bool)
    changed = effects["verdict"].isin((*MOVED, CHANGED_INSIDE))
    others = effects[~goal]
    measured = others["measured"].isin((WORSE, BETTER))
    return Sorted(
        known=others,
        moved=others[others["verdict"].isin(MOVED)],
        inside=others[others["verdict"] == CHANGED_INSIDE],
        missed=others[measured & ~others["verdict"].isin(MOVED)],
        intended=effects[goal & changed],
    )


def not_sparse(found: Evidence) -> bool:
    """Whether most of the difference is in no latent, so that nothing can be said of it through them."""
    return found.explained < SPARSE_ENOUGH


def alike(found: Evidence) -> str:
    """`NLL rose on 69 of 71 areas alike (+0.16 nats per token)`."""
    change = found.effects["nll_change"].dropna()
    moved = int((change > found.margin).sum() if found.common > 0 else (change < -found.margin).sum())
    word = "rose" if found.common > 0 else "fell"
    return f"NLL {word} on {moved} of {len(change)} areas alike ({found.common:+.2f} nats per token)"
