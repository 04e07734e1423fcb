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
from typing import NamedTuple

from mneme._util.vocabulary import (
    BETTER,
    BROKEN,
    DECIDED,
    INTENDED_ONLY,
    NO_SIDE_EFFECT,
    NOT_LOCALISED,
    SIDE_EFFECTS,
    TOO_LITTLE,
    WORSE,
)
from mneme.verdict.evidence import Evidence, Sorted, alike, not_sparse, sort_categories
from mneme.verdict.gaps import gaps_in
from mneme.verdict.sentences import by_verdict, count, largest, latents_sentence, named

COLLAPSED = 2.0
"""Nats a token: a mean rise of NLL whose interval lies above it is the end of a language model."""
_NEARLY_ALL = 0.9


class RunVerdict(NamedTuple):
    """What is said of a run."""

    verdict: str
    """One of RUN_VERDICTS."""
    sentence: str
    reasons: tuple[str, ...] = ()
    """Of too little evidence: each condition that is not met."""
    command: str = ""
    """What would give the first of them."""


def run_verdict(found: Evidence) -> RunVerdict:
    """The verdict; see the module's text for the order and the conditions."""
    if (sentence := _collapse(found)) is not None:
        return RunVerdict(BROKEN, f"{sentence}; {_latents(found)}.")
    parts = sort_categories(found.effects)
    headline = _side_effects(found, parts)
    goal = f"Intended: {by_verdict(parts.intended)}. " if len(parts.intended) else ""
    if headline:
        text = f"{goal}Side effects: {headline}" if goal else headline[:1].upper() + headline[1:]
        return RunVerdict(SIDE_EFFECTS, f"{text}; {_latents(found)}.")
    gaps = gaps_in(found, parts)
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


def _side_effects(found: Evidence, parts: Sorted) -> str:
    """The headline on what changed and was not meant to; '' where nothing is known to have."""
    said = []
    if abs(found.common) > found.margin and found.kl > found.kl_margin:
        more = f"by more than a tune on unrelated text moves them (KL {found.kl:.2f} nats, {found.kl_margin:.2f})"
        said.append(f"{alike(found)}, {more}")
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
