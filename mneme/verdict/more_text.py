"""How much more text would bear an all-clear, from what the run's own intervals and positive control say of it.

Of an interval of a mean: it shrinks with the root of the text that was measured. Of the power through latents: what the
positive control found with 2, 4 and 8 times as much text of the same kind (table `power`, column text_needed).
Measuring more of the text at hand comes before more text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mneme._util.vocabulary import LITTLE_TEXT
from mneme.power.summary import NEEDS

SPARE = 1.2
"""Times the text that the root law gives: met exactly, a margin is missed as often as not."""


@dataclass(frozen=True)
class Wanted:
    """Text that a condition needs in n categories, and that more than half of them must have."""

    text: np.ndarray
    """(n,) times the run's text; inf: no amount is known to do."""
    measured: np.ndarray
    """(n,) times the text whose predictions were measured; inf likewise."""


@dataclass(frozen=True)
class Amount:
    """Text that would do."""

    text: float
    """Times the run's text, 1 at least; inf: no amount is known to do."""
    share: float
    """Of its documents, those whose predictions are measured."""


def for_intervals(effects: pd.DataFrame, margin: float, least: float, share: float) -> Wanted:
    """Until the NLL interval of most categories lies within the margin.

    effects: columns nll_change, nll_low, nll_high, reason, n_documents; least: `effects.min_documents`; share: of the
    documents that were measured. A category whose point lies beyond the margin has no amount.
    """
    value, low, high = (effects[name].to_numpy(float) for name in ("nll_change", "nll_low", "nll_high"))
    measured = root_law(value, low, high, margin)
    documents = effects["n_documents"].to_numpy(float)
    short = (effects["reason"] == LITTLE_TEXT).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        enough = np.where(documents > 0, least / (share * documents), np.inf)
    measured = np.where(short, np.maximum(np.where(np.isnan(low), 1.0, measured), enough), measured)
    return Wanted(np.ones(len(value)), measured)


def for_power(power: pd.DataFrame) -> Wanted:
    """Until most categories have power enough in each channel that their verdict rests on. power: table `power`."""
    rows = power[power["category"].notna()]
    channel = {
        name: rows[rows["channel"] == name].set_index("category")["text_needed"].astype(float)
        for name in NEEDS
    }
    keys = sorted(rows["category"].unique())
    text, measured = (channel[name].reindex(keys).fillna(np.inf).to_numpy() for name in NEEDS)
    return Wanted(text, measured)


def beyond_text(power: pd.DataFrame) -> bool:
    """Whether most categories lack power through latents with every amount of text that was tried."""
    text = for_power(power).text
    return bool(len(text)) and not math.isfinite(_middle(text))


def root_law(value: np.ndarray, low: np.ndarray, high: np.ndarray, margin: float) -> np.ndarray:
    """Times as much text that brings each interval within the margin; inf where none does."""
    half, room = np.maximum(value - low, high - value), margin - np.abs(value)
    with np.errstate(divide="ignore", invalid="ignore"):
        law = np.maximum(1.0, (half / room) ** 2)
    return np.where((room > 0) & np.isfinite(half), law, np.inf)


def amount(wanted: list[Wanted], share: float) -> Amount:
    """The least text with which every condition holds in more than half of its categories.

    share: of the documents whose predictions the run measured, above 0; measuring all of them comes first.
    """
    conditions = [one for one in wanted if len(one.text)]
    spared = [Wanted(one.text, _spare(one.measured)) for one in conditions]
    text = max((_middle(np.maximum(one.text, one.measured * share)) for one in spared), default=1.0)
    text = max(1.0, text)
    if not math.isfinite(text):
        return Amount(math.inf, 1.0)
    needed = [_middle(np.where(one.text <= text, one.measured, np.inf)) * share / text for one in spared]
    return Amount(text, min(1.0, math.ceil(20 * max([share, *needed]) - 1e-9) / 20))


def command(folder: str, tokens: int, share: float, enough: Amount) -> str:
    """What reads so much; '' where no amount is known to do, or the run has it. tokens, share: of the run."""
    more = "" if enough.share <= share else f" --set harvest.behaviour_share={enough.share:g}"
    if not math.isfinite(enough.text) or (enough.text == 1 and not more):
        return ""
    if enough.text == 1:
        return f"mneme run {folder}/run.toml{more} --out {folder}-more"
    size = _round_up(enough.text * tokens)
    return (
        f"mneme run {folder}/run.toml --corpus TEXT --set harvest.max_tokens={size}{more} --out {folder}-more,"
        f" TEXT of {size:,} tokens or more"
    )


def _spare(needed: np.ndarray) -> np.ndarray:
    return np.where(needed > 1, SPARE * needed, needed)


def _middle(needed: np.ndarray) -> float:
    """The least with which more than half have theirs."""
    return float(np.sort(needed)[len(needed) // 2])


def _round_up(tokens: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(tokens, 1))) - 1)
    return int(math.ceil(tokens / unit - 1e-9) * unit)
