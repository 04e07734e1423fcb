"""Made-up effects, outcomes, baselines and evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme._util.vocabulary import BY_LATENTS, LITTLE_TEXT, NOT_KNOWN, NOT_LOCALISED, WIDE
from mneme.effects.assign import NO_GROUP
from mneme.power.summary import COLUMNS
from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES, HOSTILE


def write_effects(
    writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool
) -> None:
    keys, n = list(CATEGORIES), len(CATEGORIES)
    truth = np.array([0.9, 0.7, 0.6, 0.3, 0.12, 0.01, 0.0, -0.01, 0.02, 0.0, 0.01, -0.06])
    effect = np.abs(truth + rng.normal(0, 0.05, n))
    verdict = np.select(
        [truth > 0.25, truth > 0.1, truth < -0.05], ["degraded", NOT_KNOWN, "improved"], "unaffected"
    )
    direction = np.where(truth > 0.1, "degraded", np.where(truth < -0.05, "improved", "none"))
    names = [HOSTILE[i % len(HOSTILE)] if hostile else CATEGORIES[k][0] for i, k in enumerate(keys)]
    tokens = rng.integers(800, 3000, n)
    writer.replace(
        "categories",
        pd.DataFrame(
            {
                "category": keys,
                "name": names,
                "grp": [CATEGORIES[k][1] for k in keys],
                "domain": [CATEGORIES[k][2] for k in keys],
                "description": names,
                "n_tokens": tokens,
                "n_documents": 10,
            }
        ),
    )
    writer.replace(
        "effects",
        pd.DataFrame(
            {
                "category": keys,
                "effect": effect,
                "ci_low": (effect - 0.08).clip(0),
                "ci_high": effect + 0.08,
                "reach": 1 - np.exp(-effect / 0.1),
                "reach_low": 1 - np.exp(-(effect - 0.08).clip(0) / 0.1),
                "reach_high": 1 - np.exp(-(effect + 0.08) / 0.1),
                "explained": np.clip(truth, 0, 0.9),
                "direction": direction,
                "verdict": verdict,
                "reason": [WIDE if v == NOT_KNOWN else None for v in verdict],
                "shown_by": [
                    None if v not in ("degraded", "improved") else BY_LATENTS if t > 0 else NOT_LOCALISED
                    for v, t in zip(verdict, truth, strict=True)
                ],
                "intended": np.arange(n) == 0,
                "nll_change": truth * 0.8,
                "nll_low": truth * 0.8 - 0.03,
                "nll_high": truth * 0.8 + 0.03,
                "kl": np.abs(truth) * 0.5,
                "amplified": effect * 0.7,
                "suppressed": effect * 0.3,
                "n_tokens": tokens,
                "n_documents": 10,
            }
        ),
    )
    change = truth * 2.8 + rng.normal(0, 0.02, n)
    writer.replace(
        "outcomes",
        pd.DataFrame(
            {
                "category": keys,
                "base": 3.2,
                "tuned": 3.2 + change,
                "change": change,
                "ci_low": change - 0.06,
                "ci_high": change + 0.06,
                "accuracy_base": 0.31,
                "accuracy_tuned": 0.31 - truth * 0.05,
                "n": 100,
                "source": "made up",
            }
        ).iloc[: n - 1],
    )
    changed = latents[latents["verdict"].isin(["amplified", "suppressed"])]
    parts = []
    for index, key in enumerate(keys):
        members = changed[changed["home"] == index].nlargest(10, "severity")
        parts.append(
            pd.DataFrame(
                {
                    "category": key,
                    "latent": members["latent"],
                    "rank": np.arange(len(members)),
                    "contribution": members["severity"],
                }
            )
        )
    writer.replace("effect_latents", pd.concat(parts))
    groups = sorted({CATEGORIES[k][1] for k in keys} | {NO_GROUP})
    share = rng.dirichlet(np.full(len(groups), 0.3), n)
    for row, key in enumerate(keys):  # most of a category's effect is made by latents of its own group
        share[row] = 0.4 * share[row] + 0.6 * (np.array(groups) == CATEGORIES[key][1])
    writer.replace(
        "effect_groups",
        pd.DataFrame(
            {
                "category": np.repeat(keys, len(groups)),
                "grp": groups * n,
                "contribution": (share * effect[:, None]).ravel(),
            }
        ),
    )
    methods = {"mean_kl": 0.12, "activation_difference_norm": 0.2, "random_latents": 1.0}
    writer.replace(
        "baselines",
        pd.concat(
            pd.DataFrame({"category": keys, "method": m, "value": np.abs(truth + rng.normal(0, s, n))})
            for m, s in methods.items()
        ),
    )
    scores = [
        ("crosscoder", "pearson", 0.95),
        ("crosscoder", "spearman", 0.72),
        ("crosscoder", "auroc", 0.96),
        ("mean_kl", "pearson", 0.91),
        ("mean_kl", "spearman", 0.64),
        ("mean_kl", "auroc", 0.91),
        ("activation_difference_norm", "pearson", 0.96),
        ("activation_difference_norm", "spearman", 0.65),
        ("activation_difference_norm", "auroc", 0.89),
        ("random_latents", "pearson", 0.1),
        ("random_latents", "spearman", 0.05),
        ("random_latents", "auroc", 0.52),
    ]
    rows = [
        (m, metric, subset, v - gap, v - gap - 0.1, min(1, v - gap + 0.06), n - 1)
        for m, metric, v in scores
        for subset, gap in (("all", 0.0), ("outside_forget", 0.12))
    ]
    writer.replace(
        "evaluation",
        pd.DataFrame(rows, columns=["method", "metric", "subset", "value", "ci_low", "ci_high", "n"]),
    )


def write_power(writer: StageWriter) -> None:
    """Of every channel a row over all categories and one a category, the first without text enough."""
    units = {
        "latents": "share of typical deviation",
        "activations": "share of typical deviation",
        "nll": "nats a token",
    }
    rows = []
    for c, (channel, unit) in enumerate(units.items()):
        margin = 0.05 if channel == "nll" else 0.3
        for i, key in enumerate([None, *CATEGORIES]):
            little = i == 1
            at = 0.0 if little else round(1.0 - 0.07 * ((i + c) % 10), 2)
            smallest = None if little or at < 0.5 else margin * (1 if at >= 0.8 else 2)
            cases = None if channel == "nll" or little else 6
            text = None if little or channel == "activations" else 1.0 if at >= 0.8 else 4.0
            rows.append(
                (key, channel, unit, margin, smallest, at, cases, LITTLE_TEXT if little else None, text)
            )
    writer.replace("power", pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n_cases": "Int64"}))
