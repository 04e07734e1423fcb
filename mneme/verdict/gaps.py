"""The conditions of an all-clear that a run does not meet, and the command that would meet each."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mneme._util.vocabulary import (
    DECIDED,
    LITTLE_TEXT,
    NOT_KNOWN,
    UNMEASURED,
    WIDE,
)
from mneme.attribution.nulls import side_effect_found
from mneme.power.summary import ENOUGH, NEEDS, PLAIN, TEXTS, overall
from mneme.verdict.evidence import Evidence, Sorted, alike, not_sparse
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
from mneme.verdict.sentences import count

_MOST = 0.5


class Gap(NamedTuple):
    """A condition of the all-clear that is not met."""

    reason: str
    command: str = ""


def gaps_in(found: Evidence, parts: Sorted) -> list[Gap]:
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
        gaps.append(Gap(f"{alike(found)}, {why}", more))
    gaps += _textgaps_in(found, parts)
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


def _textgaps_in(found: Evidence, parts: Sorted) -> list[Gap]:
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


def _more_text(found: Evidence, parts: Sorted) -> str:
    """The command that reads what would decide most areas, with power enough: '' where no amount is known to."""
    return command(found.folder, found.tokens, found.behaviour_share, _enough(found, parts))


def _enough(found: Evidence, parts: Sorted) -> Amount:
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
