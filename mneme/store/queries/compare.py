"""Two runs side by side."""

from __future__ import annotations

import pandas as pd

from mneme.store.queries import effects
from mneme.store.queries.labels import BEST_LABEL
from mneme.store.run import Run

FACTS = ("base", "tuned", "layer", "latents", "k", "corpus", "n_tokens")


def other_layers(one: Run, other: Run) -> str:
    """What to beware of where the two runs read different layers, in a sentence; '' where they read the same.

    With what share of the difference of the predictions each layer holds, where the runs' layer profiles tell.
    """
    read = [run.info().get("layer") for run in (one, other)]
    if None in read or read[0] == read[1]:
        return ""
    told = []
    for run, layer in zip((one, other), read, strict=True):
        found = run.rows(
            "SELECT restored FROM layer_profile WHERE layer = ? AND restored IS NOT NULL", [layer]
        )
        told.append(f"{layer}" + (f" (holds {found[0][0]:.0%} of the change)" if found else ""))
    return (
        f"The runs read different layers, {told[0]} and {told[1]}: another verdict may be the layer's, not the"
        " models'."
    )


def comparable_latents(run: Run) -> pd.DataFrame:
    """What a comparison shows of each latent: latent, verdict, log_ratio, severity, dead, label."""
    return run.sql(
        "SELECT l.latent, l.verdict, l.log_ratio, l.severity, l.dead, b.label FROM latents l"
        f" LEFT JOIN {BEST_LABEL} b USING (latent) ORDER BY l.latent"
    )


def both_latents(one: Run, other: Run, matches: pd.DataFrame) -> pd.DataFrame:
    """`matches` (latent, other, similarity, agreed) with both runs' verdict, log_ratio, severity, label.

    Columns of the second run end in _other; `change` says whether the verdicts differ.
    """
    found = matches.merge(comparable_latents(one).drop(columns="dead"), on="latent", how="left")
    second = comparable_latents(other).drop(columns="dead").rename(columns={"latent": "other"})
    found = found.merge(second, on="other", how="left", suffixes=("", "_other"))
    found["change"] = found["verdict"] != found["verdict_other"]
    return found


def both_effects(one: Run, other: Run) -> pd.DataFrame:
    """Categories of either run: category, name, and effect, ci_low, ci_high, verdict of each (_other).

    The largest effect of either first; NULL where a run has no such category.
    """
    columns = ["category", "name", "effect", "ci_low", "ci_high", "verdict"]
    frames = [effects.effects(run)[columns] for run in (one, other)]
    found = frames[0].merge(frames[1], on="category", how="outer", suffixes=("", "_other"))
    found["name"] = found["name"].fillna(found.pop("name_other"))
    found["change"] = found["verdict"].notna() & found["verdict_other"].notna()
    found["change"] &= found["verdict"] != found["verdict_other"]
    largest = found[["effect", "effect_other"]].max(axis=1)
    return found.iloc[largest.sort_values(ascending=False, na_position="last").index].reset_index(drop=True)
