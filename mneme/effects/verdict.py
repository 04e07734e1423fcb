"""The run in one sentence."""

from __future__ import annotations

import pandas as pd

from mneme.attribution.nulls import side_effect_found
from mneme.effects.judge import LITTLE_TEXT, UNEXPLAINED

_NAMED = 4  # categories named in the sentence
_MOSTLY = 0.5  # with a larger share of uncertain latents, finding nothing says nothing
_WIDELY = 0.5  # of the categories with text enough: a larger share whose predictions moved is told


def verdict_facts(
    effects: pd.DataFrame, categories: pd.DataFrame, latents: pd.DataFrame, null_rate: float = 0.0
) -> dict[str, str]:
    """The run's facts `verdict_sentence` and `side_effect` (found, none or unknown).

    Frames: the run's tables of these names. null_rate: the largest measured share of latents called changed in a
    pair that didn't change; a pair that shows no more than that has none, unless a category moved. Unknown: nothing
    was called, and the evidence does not reach for most latents or for any category; or predictions
    moved on most categories and no latent shows it, which harmless fine-tunes do as harmful ones do.
    """
    table = effects.merge(categories[["category", "name", "grp"]], on="category")
    parts = []
    for verdict in ("degraded", "improved"):
        rows = table[table["verdict"] == verdict].sort_values("effect", ascending=False)
        if len(rows):
            parts.append(f"{_named(rows)} {verdict}")
    text, known = "; ".join(parts), int((table["verdict"] != "uncertain").sum())
    told = table[table["reason"] != LITTLE_TEXT]
    unexplained = told[told["reason"] == UNEXPLAINED]
    among = f"{_count(known, 'category', 'categories')} with evidence enough"
    live = latents.loc[latents["verdict"] != "dead", "verdict"]
    side_effect, note = "found", ""
    if parts:
        head = text[0].upper() + text[1:]
    elif side_effect_found(latents, null_rate):
        head = (
            f"Latents changed, but none of {among} moved"
            if known
            else "Latents changed; no category has text enough"
        )
    elif len(unexplained) > _WIDELY * len(told):
        side_effect, head = (
            "unknown",
            f"Predictions moved on {len(unexplained)} of {_count(len(told), 'category', 'categories')} with text enough"
            f" (NLL {_range(unexplained['nll_change'])} nats a token), which no changed latent accounts for:"
            " whether for the worse, only a measurement tells",
        )
    elif known and (live == "uncertain").mean() <= _MOSTLY:
        side_effect, head = "none", f"No side effect found, neither in {among} nor in the latents"
        note = f": no more than a pair without change shows ({null_rate:.2%})" if null_rate > 0 else ""
    else:
        side_effect, head = "unknown", "Too little evidence to tell whether there are side effects"
    counts = live.value_counts()
    amplified, suppressed, uncertain = (
        int(counts.get(v, 0)) for v in ("amplified", "suppressed", "uncertain")
    )
    moved = f"{amplified:,} of {len(live):,} live latents amplified, {suppressed:,} suppressed, {uncertain:,} uncertain"
    joined = ": " if side_effect == "none" else "; "
    return {"verdict_sentence": f"{head}{joined}{moved}{note}.", "side_effect": side_effect}


def _named(rows: pd.DataFrame) -> str:
    """`Virology, Anatomy and 5 more (biology, health)`: the first few names, and the groups they fall in."""
    names = rows["name"].tolist()
    shown = names[:_NAMED]
    if len(names) > _NAMED:
        shown = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    listed = shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]
    groups = rows["grp"].value_counts(sort=True).index.tolist()[:3]
    return f"{listed} ({', '.join(groups)})"


def _range(changes: pd.Series) -> str:
    """`+0.09 to +0.29`."""
    return f"{changes.min():+.2f} to {changes.max():+.2f}"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
