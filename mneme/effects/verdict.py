"""The run in one sentence, and the crosscoder's standing against the baselines in another."""

from __future__ import annotations

import pandas as pd

from mneme.attribution.nulls import side_effect_found

_NAMED = 4  # categories named in the sentence
_RANKING = {"spearman": "ranking (Spearman)", "auroc": "detecting degraded categories (AUROC)"}
_SUBSETS = {"all": "over all categories", "outside_forget": "outside the forget set"}


def verdict_sentence(
    effects: pd.DataFrame, categories: pd.DataFrame, latents: pd.DataFrame, null_rate: float = 0.0
) -> str:
    """What changed, in words: categories by verdict, the largest effects first, and how many latents moved.

    Frames: the run's tables of these names. null_rate: the largest measured share of latents called changed in a
    pair that didn't change; a pair that shows no more than that is said to have no side effect.
    """
    table = effects.merge(categories[["category", "name", "grp"]], on="category")
    parts = []
    for verdict in ("degraded", "improved"):
        rows = table[table["verdict"] == verdict].sort_values("effect", ascending=False)
        if len(rows):
            parts.append(f"{_named(rows)} {verdict}")
    n = int((table["verdict"] != "uncertain").sum())
    among = f"in {_count(n, 'category', 'categories')} with evidence enough"
    moved = _latents_moved(latents)
    if parts:
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}; {moved}."
    if not side_effect_found(latents, null_rate):
        share = f": no more than a pair without change shows ({null_rate:.2%})" if null_rate > 0 else ""
        return f"No side effect found, neither {among} nor in the latents: {moved}{share}."
    if n:
        return f"No side effect found {among}; {moved}."
    return f"No category has text enough to tell; {moved}."


def _latents_moved(latents: pd.DataFrame) -> str:
    """`20 of 4,096 live latents amplified, 0 suppressed, 142 uncertain`."""
    live = latents[latents["verdict"] != "dead"]
    counts = live["verdict"].value_counts()
    amplified, suppressed, uncertain = (
        int(counts.get(word, 0)) for word in ("amplified", "suppressed", "uncertain")
    )
    return f"{amplified:,} of {len(live):,} live latents amplified, {suppressed:,} suppressed, {uncertain:,} uncertain"


def standing_sentence(evaluation: pd.DataFrame) -> str:
    """Whether the crosscoder earned its keep: where it leads every baseline, where one leads it.

    Empty when nothing was evaluated.
    """
    parts = []
    for subset, where in _SUBSETS.items():
        for metric, what in _RANKING.items():
            rows = evaluation[(evaluation["subset"] == subset) & (evaluation["metric"] == metric)]
            rows = rows.dropna(subset=["value"])
            own = rows[rows["method"] == "crosscoder"]
            others = rows[rows["method"] != "crosscoder"].sort_values("value", ascending=False)
            if not len(own) or not len(others):
                continue
            mine, best = float(own["value"].iloc[0]), others.iloc[0]
            word = "leads" if mine > best["value"] else "trails" if mine < best["value"] else "equals"
            parts.append(
                f"{where}, in {what}, the crosscoder {word} the best baseline, {best['method']}"
                f" ({mine:.2f} against {best['value']:.2f})"
            )
    if not parts:
        return ""
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _named(rows: pd.DataFrame) -> str:
    """`Virology, Anatomy and 5 more (biology, health)`: the first few names, and the groups they fall in."""
    names = rows["name"].tolist()
    shown = names[:_NAMED]
    if len(names) > _NAMED:
        shown = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} more"]
    listed = shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]
    groups = rows["grp"].value_counts(sort=True).index.tolist()[:3]
    return f"{listed} ({', '.join(groups)})"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
