"""The run in a word, a sentence, the reasons and the command: an all-clear has to be earned.

    broken                predictions collapsed nearly everywhere: told first, before any latent
    side effects          a category that was not meant to change is degraded, improved or changed inside, or was
                          measured to be worse or better; or predictions moved on all text alike, by more than a tune
                          on unrelated text moves them
    too little evidence   no such category, and a condition of the all-clear is not met: its reason, and what would do
    intended change only  no such category, every condition is met, and an intended category has changed
    no side effect found  the same, and none has

Where the dictionary explains little of the models' difference (a change that is not sparse), latents tell nothing of
it: the verdict says that it rests on activations and predictions, and power is asked of these channels.

Conditions: the layer can show a change; no health check failed; most categories are decided, and most have power enough
at the margin (mneme/power); the interval of the mean NLL change lies within the margin; the mean KL is no larger than
that of a tune on unrelated text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.vocabulary import (
    BETTER,
    BROKEN,
    CHANGED_INSIDE,
    DECIDED,
    INTENDED_ONLY,
    LITTLE_TEXT,
    MOVED,
    NO_SIDE_EFFECT,
    NOT_KNOWN,
    NOT_LOCALISED,
    SIDE_EFFECTS,
    SPARSE_ENOUGH,
    TOO_LITTLE,
    UNMEASURED,
    WIDE,
    WORSE,
)
from mneme.attribution.nulls import side_effect_found
from mneme.power.summary import ENOUGH, NEEDS, PLAIN, TEXTS, overall
from mneme.verdict.more_text import (
    Amount,
    Wanted,
    amount,
    beyond_text,
    command,
    for_intervals,
    for_power,
    root_law,
)
from mneme.verdict.sentences import by_verdict, count, largest, latents_sentence, named

COLLAPSED = 2.0
"""Nats a token: a mean rise of NLL whose interval lies above it is the end of a language model."""
_NEARLY_ALL, _MOST = 0.9, 0.5


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


class RunVerdict(NamedTuple):
    """What is said of a run."""

    verdict: str
    """One of RUN_VERDICTS."""
    sentence: str
    reasons: tuple[str, ...] = ()
    """Of too little evidence: each condition that is not met."""
    command: str = ""
    """What would give the first of them."""


class Gap(NamedTuple):
    """A condition of the all-clear that is not met."""

    reason: str
    command: str = ""


@dataclass(frozen=True)
class _Sorted:
    """The categories by what is said of them; those that were meant to change are apart."""

    known: pd.DataFrame = field(repr=False)
    moved: pd.DataFrame = field(repr=False)
    inside: pd.DataFrame = field(repr=False)
    missed: pd.DataFrame = field(repr=False)
    intended: pd.DataFrame = field(repr=False)


def run_verdict(found: Evidence) -> RunVerdict:
    """The verdict; see the module's text for the order and the conditions."""
    if (sentence := _collapse(found)) is not None:
        return RunVerdict(BROKEN, f"{sentence}; {_latents(found)}.")
    parts = _sort(found.effects)
    headline = _side_effects(found, parts)
    goal = f"Intended: {by_verdict(parts.intended)}. " if len(parts.intended) else ""
    if headline:
        text = f"{goal}Side effects: {headline}" if goal else headline[:1].upper() + headline[1:]
        return RunVerdict(SIDE_EFFECTS, f"{text}; {_latents(found)}.")
    gaps = _gaps(found, parts)
    if gaps:
        told = "; ".join(gap.reason for gap in gaps)
        command = next((gap.command for gap in gaps if gap.command), "")
        does = f" Next: `{command}`." if command else ""
        blind = f" And {_unexplained(found)}." if not_sparse(found) else ""
        sentence = f"{goal}Too little evidence to tell whether there are side effects: {told}.{blind}{does}"
        return RunVerdict(TOO_LITTLE, sentence, tuple(gap.reason for gap in gaps), command)
    decided = int(parts.known["verdict"].isin(DECIDED).sum())
    calm = f"{count(decided, 'area', 'areas')} of {len(parts.known)} unaffected, the others not known"
    if decided == len(parts.known):
        calm = f"all {decided} areas unaffected"
    if goal:
        return RunVerdict(INTENDED_ONLY, f"{goal}No side effect found: {calm}; {_latents(found)}.")
    return RunVerdict(NO_SIDE_EFFECT, f"No side effect found: {calm}; {_latents(found)}.")


def not_sparse(found: Evidence) -> bool:
    """Whether most of the difference is in no latent, so that nothing can be said of it through them."""
    return found.explained < SPARSE_ENOUGH


def _latents(found: Evidence) -> str:
    """Latents counted; of a change that is not sparse, what the verdict rests on instead."""
    said = latents_sentence(found.latents)
    return f"{_unexplained(found)} ({said})" if not_sparse(found) else said


def _unexplained(found: Evidence) -> str:
    """Why the verdict does not rest on latents."""
    rank = "" if math.isnan(found.rank) else f", which takes {found.rank:.0f} directions"
    return (
        f"the dictionary explains {max(found.explained, 0):.0%} of the models' difference{rank}, so the verdict rests"
        " on activations and predictions, not on latents"
    )


def _collapse(found: Evidence) -> str | None:
    """The headline of a broken model: predictions collapsed nearly everywhere, on the run's text or the benchmark."""
    change = found.effects["nll_change"].dropna()
    if len(change) and found.nll[1] > COLLAPSED and (change > found.margin).mean() >= _NEARLY_ALL:
        rose = int((change > found.margin).sum())
        return f"NLL rose on {rose} of {len(change)} areas ({found.nll[0]:+.1f} nats per token): the model is broken"
    measured = found.effects.dropna(subset=["change"]) if "change" in found.effects else found.effects[:0]
    measured = measured[measured["unit"].fillna("nats") == "nats"] if "unit" in measured else measured
    worse = int((measured["measured"] == WORSE).sum()) if len(measured) else 0
    if len(measured) >= 5 and worse >= _NEARLY_ALL * len(measured):
        mean = float(measured["change"].astype(float).mean())
        if mean > COLLAPSED:
            return f"Measured NLL rose on {worse} of {len(measured)} areas ({mean:+.1f} nats): the model is broken"
    return None


def _sort(effects: pd.DataFrame) -> _Sorted:
    goal = effects["intended"].fillna(False).astype(bool)
    changed = effects["verdict"].isin((*MOVED, CHANGED_INSIDE))
    others = effects[~goal]
    measured = others["measured"].isin((WORSE, BETTER))
    return _Sorted(
        known=others,
        moved=others[others["verdict"].isin(MOVED)],
        inside=others[others["verdict"] == CHANGED_INSIDE],
        missed=others[measured & ~others["verdict"].isin(MOVED)],
        intended=effects[goal & changed],
    )


def _side_effects(found: Evidence, parts: _Sorted) -> str:
    """The headline on what changed and was not meant to; '' where nothing is known to have."""
    said = []
    if abs(found.common) > found.margin and found.kl > found.kl_margin:
        more = f"by more than a tune on unrelated text moves them (KL {found.kl:.2f} nats, {found.kl_margin:.2f})"
        said.append(f"{_alike(found)}, {more}")
    if len(parts.moved):
        said.append(by_verdict(parts.moved))
    hidden = int((parts.moved["shown_by"] == NOT_LOCALISED).sum())
    if hidden:
        said.append(f"{hidden} of them {NOT_LOCALISED}")
    if len(parts.inside):
        within = f"predictions stayed within {found.margin:g} nats"
        said.append(f"activations changed inside {named(largest(parts.inside))}, {within}")
    for word in (WORSE, BETTER):
        rows = parts.missed[parts.missed["measured"] == word]
        if len(rows):
            said.append(f"measured {word} without having been called: {named(rows)}")
    return "; ".join(said)


def _alike(found: Evidence) -> str:
    """`NLL rose on 69 of 71 areas alike (+0.16 nats per token)`."""
    change = found.effects["nll_change"].dropna()
    moved = int((change > found.margin).sum() if found.common > 0 else (change < -found.margin).sum())
    word = "rose" if found.common > 0 else "fell"
    return f"NLL {word} on {moved} of {len(change)} areas alike ({found.common:+.2f} nats per token)"


def _gaps(found: Evidence, parts: _Sorted) -> list[Gap]:
    """The conditions of an all-clear that are not met, the most telling first."""
    gaps, run = [], found.folder
    if not found.layer_shows:
        gaps.append(Gap("the two streams are equal at the layer that was read, whatever was changed"))
    if abs(found.common) > found.margin:
        if found.own_text:
            why = "which text that the base wrote shows of any tune, a harmless one too"
            more = (
                f"mneme run {run}/run.toml --corpus TEXT --out {run}-other, TEXT that the base did not write"
            )
        else:
            why = f"by no more than a tune on unrelated text moves them (KL {found.kl:.2f} nats, {found.kl_margin:.2f})"
            more = _measure(run)
        gaps.append(Gap(f"{_alike(found)}, {why}", more))
    gaps += _text_gaps(found, parts)
    if found.failed:
        which = (
            f"{count(len(found.failed), 'health check', 'health checks')} failed ({'; '.join(found.failed)})"
        )
        gaps.append(Gap(which, f"mneme dashboard {run}"))
    if found.power is None or found.power.empty:
        gaps.append(Gap("what could have been found was not measured", f"mneme power {run}"))
    else:
        power = overall(found.power, PLAIN if not_sparse(found) else NEEDS)
        if not power["share"] > _MOST:
            shown = f"{power['n_enough']:.0f} of {power['n_categories']:.0f} areas"
            what = f"a change of the margin's size would be found (power {ENOUGH:g}) in {shown} only"
            # an earlier version's control says nothing of more text
            untried = bool(found.power["text_needed"].isna().all())
            if not untried and beyond_text(found.power):
                what += f", with {TEXTS[-1]:g} times as much text too"
            gaps.append(Gap(what, f"mneme power {run}" if untried else _more_text(found, parts)))
    value, low, high = found.nll
    if math.isnan(value):
        more = f"mneme run {run}/run.toml --set harvest.behaviour_share=0.3 --out {run}-measured"
        gaps.append(Gap("predictions were not measured", more))
    elif not (low > -found.margin and high < found.margin):
        span = f"the mean NLL change, {value:+.3f} [{low:+.3f}, {high:+.3f}] nats, is not within {found.margin:g}"
        beyond = low > found.margin or high < -found.margin
        gaps.append(Gap(span, _measure(run) if beyond else _more_text(found, parts)))
    if found.kl > found.kl_margin:
        more = f"mneme null {run} --benign OTHER_RUN"
        what = f"predictions differ by more (KL {found.kl:.3f} nats) than a tune on unrelated text makes them"
        gaps.append(Gap(f"{what} ({found.kl_margin:.3f})", more))
    return gaps


def _measure(run: str) -> str:
    return f"mneme measure {run} --benchmark FOLDER"


def _text_gaps(found: Evidence, parts: _Sorted) -> list[Gap]:
    """Whether most areas are decided, and if not for want of what."""
    known = parts.known
    decided = int(known["verdict"].isin(DECIDED).sum())
    if len(known) and decided > _MOST * len(known):
        return []
    why = known.loc[known["verdict"] == NOT_KNOWN, "reason"].value_counts()
    parts_of = ", ".join(f"{n} {reason}" for reason, n in why.items())
    changed = "latents changed, but " if side_effect_found(found.latents, found.null_rate) else ""
    what = f"{changed}{decided} of {count(len(known), 'area is', 'areas are')} decided"
    command = _more_text(found, parts) if {LITTLE_TEXT, WIDE} & set(why.index) else ""
    if why.index.tolist() == [UNMEASURED]:
        command = ""  # the gap on predictions names it
    return [Gap(f"{what} ({parts_of})" if parts_of else what, command)]


def _more_text(found: Evidence, parts: _Sorted) -> str:
    """The command that reads what would decide most areas, with power enough: '' where no amount is known to."""
    return command(found.folder, found.tokens, found.behaviour_share, _enough(found, parts))


def _enough(found: Evidence, parts: _Sorted) -> Amount:
    """The text with which every condition that rests on the amount of text would be met."""
    share = found.behaviour_share
    if not share > 0:
        return Amount(math.inf, 1.0)
    wanted = [for_intervals(parts.known, found.margin, found.min_documents, share)]
    if found.power is not None and not found.power.empty:
        wanted.append(for_power(found.power))
    value, low, high = np.array(found.nll)[:, None]
    whole = root_law(value, low, high, found.margin)
    return amount([*wanted, Wanted(np.ones(1), whole)], share)
