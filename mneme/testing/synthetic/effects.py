"""Made-up effects, outcomes, baselines and evaluation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from mneme._util.vocabulary import BY_LATENTS, CHANGED, LITTLE_TEXT, NOT_KNOWN, NOT_LOCALISED, WIDE
from mneme.effects.assign import NO_GROUP
from mneme.power.summary import COLUMNS
from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES, HOSTILE


class _Truth(NamedTuple):
    """What is made up of the C categories."""

    keys: list[str]
    change: np.ndarray
    """(C,): above 0 for the worse."""
    effect: np.ndarray
    """(C,): what the method says of it."""


def write_effects(
    writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool
) -> None:
    """Every table about categories; rng is drawn from in a fixed order."""
    change = np.array([0.9, 0.7, 0.6, 0.3, 0.12, 0.01, 0.0, -0.01, 0.02, 0.0, 0.01, -0.06])
    truth = _Truth(list(CATEGORIES), change, np.abs(change + rng.normal(0, 0.05, len(change))))
    tokens = rng.integers(800, 3000, len(change))
    writer.replace("categories", _categories(truth, tokens, hostile))
    writer.replace("effects", _effects(truth, tokens))
    writer.replace("outcomes", _outcomes(truth, rng))
    writer.replace("effect_latents", _effect_latents(truth, latents))
    writer.replace("effect_groups", _effect_groups(truth, rng))
    writer.replace("baselines", _baselines(truth, rng))
    writer.replace("evaluation", _evaluation(len(change) - 1))


def _categories(truth: _Truth, tokens: np.ndarray, hostile: bool) -> pd.DataFrame:
    names = [HOSTILE[i % len(HOSTILE)] if hostile else CATEGORIES[k][0] for i, k in enumerate(truth.keys)]
    return pd.DataFrame(
        {
            "category": truth.keys,
            "name": names,
            "grp": [CATEGORIES[k][1] for k in truth.keys],
            "domain": [CATEGORIES[k][2] for k in truth.keys],
            "description": names,
            "n_tokens": tokens,
            "n_documents": 10,
        }
    )


def _effects(truth: _Truth, tokens: np.ndarray) -> pd.DataFrame:
    change, effect = truth.change, truth.effect
    verdict = np.select(
        [change > 0.25, change > 0.1, change < -0.05], ["degraded", NOT_KNOWN, "improved"], "unaffected"
    )
    return pd.DataFrame(
        {
            "category": truth.keys,
            "effect": effect,
            "ci_low": (effect - 0.08).clip(0),
            "ci_high": effect + 0.08,
            "affected_share": 1 - np.exp(-effect / 0.1),
            "affected_share_low": 1 - np.exp(-(effect - 0.08).clip(0) / 0.1),
            "affected_share_high": 1 - np.exp(-(effect + 0.08) / 0.1),
            "explained": np.clip(change, 0, 0.9),
            "direction": np.where(change > 0.1, "degraded", np.where(change < -0.05, "improved", "none")),
            "verdict": verdict,
            "reason": [WIDE if v == NOT_KNOWN else None for v in verdict],
            "shown_by": [
                None if v not in ("degraded", "improved") else BY_LATENTS if t > 0 else NOT_LOCALISED
                for v, t in zip(verdict, change, strict=True)
            ],
            "intended": np.arange(len(change)) == 0,
            "nll_change": change * 0.8,
            "nll_low": change * 0.8 - 0.03,
            "nll_high": change * 0.8 + 0.03,
            "kl": np.abs(change) * 0.5,
            "amplified": effect * 0.7,
            "suppressed": effect * 0.3,
            "n_tokens": tokens,
            "n_documents": 10,
        }
    )


def _outcomes(truth: _Truth, rng: np.random.Generator) -> pd.DataFrame:
    """Of all categories but the last: NLL, and a quiz of which the base knows nothing in the last of these."""
    change = truth.change * 2.8 + rng.normal(0, 0.02, len(truth.keys))
    nll = pd.DataFrame(
        {
            "category": truth.keys,
            "base": 3.2,
            "tuned": 3.2 + change,
            "change": change,
            "ci_low": change - 0.06,
            "ci_high": change + 0.06,
            "accuracy_base": 0.31,
            "accuracy_tuned": 0.31 - truth.change * 0.05,
            "n": 100,
            "source": "made up",
            "unit": "nats",
            "kind": "nll",
            "benchmark": "made-up",
        }
    ).iloc[:-1]
    known = np.arange(len(nll)) < len(nll) - 1
    before, lost = np.where(known, 0.7, 0.26), (truth.change[:-1] * 0.5).clip(0, 0.4)
    quiz = nll.assign(
        base=1 - before,
        tuned=1 - before + lost,
        change=lost,
        ci_low=lost - 0.04,
        ci_high=lost + 0.04,
        accuracy_base=before,
        accuracy_tuned=before - lost,
        chance=0.25,
        chance_q=np.where(known, 1e-6, 0.4),
        margin_base=2.1,
        margin_tuned=2.1 - 4 * lost,
        unit="error rate",
        kind="capability",
        benchmark="made-up-quiz",
    )
    return pd.concat([nll, quiz], ignore_index=True)


def _effect_latents(truth: _Truth, latents: pd.DataFrame) -> pd.DataFrame:
    changed = latents[latents["verdict"].isin(CHANGED)]
    parts = []
    for index, key in enumerate(truth.keys):
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
    return pd.concat(parts)


def _effect_groups(truth: _Truth, rng: np.random.Generator) -> pd.DataFrame:
    groups = sorted({CATEGORIES[k][1] for k in truth.keys} | {NO_GROUP})
    share = rng.dirichlet(np.full(len(groups), 0.3), len(truth.keys))
    for row, key in enumerate(truth.keys):  # most of a category's effect is made by latents of its own group
        share[row] = 0.4 * share[row] + 0.6 * (np.array(groups) == CATEGORIES[key][1])
    return pd.DataFrame(
        {
            "category": np.repeat(truth.keys, len(groups)),
            "grp": groups * len(truth.keys),
            "contribution": (share * truth.effect[:, None]).ravel(),
        }
    )


def _baselines(truth: _Truth, rng: np.random.Generator) -> pd.DataFrame:
    noise = {"mean_kl": 0.12, "activation_difference_norm": 0.2, "random_latents": 1.0}
    return pd.concat(
        pd.DataFrame(
            {
                "category": truth.keys,
                "method": method,
                "value": np.abs(truth.change + rng.normal(0, scale, len(truth.keys))),
            }
        )
        for method, scale in noise.items()
    )


def _evaluation(n: int) -> pd.DataFrame:
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
        (m, metric, subset, v - gap, v - gap - 0.1, min(1, v - gap + 0.06), n)
        for m, metric, v in scores
        for subset, gap in (("all", 0.0), ("outside_intended", 0.12))
    ]
    return pd.DataFrame(rows, columns=["method", "metric", "subset", "value", "ci_low", "ci_high", "n"])


def write_power(writer: StageWriter) -> None:
    """Of every channel a row over all categories and one a category, the first without text enough."""
    units = {
        "latents": "share of typical deviation",
        "activations": "share of typical deviation",
        "nll": "nats per token",
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


def write_power_retrained(writer: StageWriter) -> None:
    """A displacement of three sizes, found at the largest."""
    rows = [
        (0.0, 31, 0.08, 0.02, 0.01, 0.04, False),
        (0.3, 33, 0.21, 0.05, 0.02, 0.09, False),
        (1.2, 40, 0.93, 0.48, 0.41, 0.55, True),
    ]
    ends = ["affected_share", "affected_share_low", "affected_share_high"]
    frame = pd.DataFrame(rows, columns=["size", "called", "cosine", *ends, "found"])
    writer.replace("power_retrained", frame.assign(category=list(CATEGORIES)[2]))
