"""Rows of the health gate that come after the attribution pass: of labels, of null pairs and of other seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sized

import numpy as np
import pandas as pd

from mneme.attribution.health_row import health_row, measured
from mneme.store.queries.labels import unreliable


def label_overlap_health(overlap: float) -> pd.DataFrame:
    """The row for `label_overlap` (mneme/interpret/explainers/overlap.py); below 40% warns, as in the MNEME paper."""
    return pd.DataFrame(
        [
            health_row(
                "label_overlap",
                "Latents whose labels from either half of the text agree",
                measured(overlap),
                "share of labelled latents",
                "labels are unreliable: use a stronger labelling model or more contexts",
                warn=0.4,
                low_is_bad=True,
            )
        ]
    )


def label_scores_health(labels: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of the labels' held-out scores: columns of the tables `labels` and `label_summary`."""
    main = summary.query("method == 'offline' and test == 'detection' and negatives == 'random'")
    score = dict(zip(main["labels"], main["balanced_accuracy"].astype(float), strict=True))
    weak = labels[labels.score.notna() & labels.score_shuffled.notna()]
    share = unreliable(weak).mean()
    random_latent = score.get("random latent", float("nan"))
    return pd.DataFrame(
        [
            health_row(
                "label_score",
                "Offline labels on held-out text, mean balanced accuracy",
                measured(score.get("own", float("nan"))),
                "share of windows, both sides weighing the same; chance is 50 %",
                "no better than the labels of latents that fire at random: read contexts, not labels",
                warn=round(random_latent, 3) if np.isfinite(random_latent) else 0.5,
                low_is_bad=True,
            ),
            health_row(
                "label_nonsense",
                "Offline labels of latents that fire at random, the same score",
                measured(random_latent),
                "share of windows, both sides weighing the same; chance is 50 %",
                "",
            ),
            health_row(
                "label_unreliable",
                "Labels not shown to beat other latents' labels",
                float(share) if len(weak) else None,
                "share of scored labels",
                "read more text, which scores more surely, or label with a stronger model",
                warn=0.5,
            ),
        ]
    )


def category_answers_health(answered: Sized, reasons: Mapping[int, str]) -> pd.DataFrame:
    """The row for latents whose categories the labelling model was asked for."""
    asked = len(answered) + len(reasons)
    return pd.DataFrame(
        [
            health_row(
                "category_answers",
                "Latents that the labelling model assigned to categories",
                len(answered) / asked if asked else None,
                f"share of {asked} asked",
                f"{_counted(reasons.values())}: the sentence encoder assigned the others; run it again, answers already"
                " paid for are kept",
                warn=0.9,
                low_is_bad=True,
            )
        ]
    )


def label_failures_health(failures: pd.DataFrame) -> pd.DataFrame:
    """The row for latents that a labelling model was asked about in vain; columns latent, method, reason."""
    why = _counted(failures["reason"])
    return pd.DataFrame(
        [
            health_row(
                "label_failures",
                "Latents the labelling model gave no label for",
                float(len(failures)),
                "latents",
                f"{why}: run `mneme label` again, answers already paid for are kept",
                warn=0,
            )
        ]
    )


def stability_health(told: Mapping[str, float], seeds: int, resamples: int) -> pd.DataFrame:
    """Rows of retrained dictionaries; told: what `run_stability` finds, means over so many dictionaries."""
    found = {name: measured(value) for name, value in told.items()}
    others = f"{seeds} independent start{'s' if seeds > 1 else ''}"
    rows = [
        health_row(
            "seed_persistence",
            "Latents found again from another start",
            found["latents"],
            f"share of live latents, mean of {others}",
            "name no single latent as the cause without checking it: read the categories",
            warn=0.3,
            low_is_bad=True,
        ),
        health_row(
            "seed_persistence_changed",
            "Latents called changed that are found again from another start",
            found["changed"],
            f"share of called latents, mean of {others}",
            "name no single latent as the cause without checking it: read the categories",
            warn=0.3,
            low_is_bad=True,
        ),
        health_row(
            "resampled_persistence",
            "Latents found again on resampled documents",
            found["resampled"],
            f"share of live latents, mean of {resamples}, each from a start of its own",
            "latents depend on which documents were read: read more text",
            warn=0.3,
            low_is_bad=True,
        ),
        health_row(
            "change_overlap",
            "Directions of the change that another start finds too",
            found["overlap"],
            f"mean squared cosine, mean of {others}",
            "the change itself depends on the seed: read more text, train longer",
            warn=0.5,
            low_is_bad=True,
        ),
        health_row(
            "change_r2",
            "Change at each token, as another start predicts it",
            found["r2"],
            f"R2, mean of {others}",
            "the change itself depends on the seed: read more text, train longer",
            warn=0.5,
            low_is_bad=True,
        ),
        health_row(
            "pw_mcc",
            "Matched decoder cosine across seeds, weighted (PW-MCC)",
            found["pw_mcc"],
            "cosine",
            "train longer: the dictionary depends on its seed",
            warn=0.6,
            low_is_bad=True,
        ),
        health_row(
            "category_persistence",
            "Categories that another seed gives the same verdict",
            found.get("categories"),
            "share of categories",
            "the categories' verdicts depend on the seed: read more text, train longer",
            warn=0.8,
            low_is_bad=True,
        ),
    ]
    return pd.DataFrame(rows)


def null_health(
    rate: float, margin: tuple[float, float], min_affected_share: tuple[float, float]
) -> pd.DataFrame:
    """Rows of the null pairs: the largest false-positive rate, and each threshold they ask for beside the one used."""
    return pd.DataFrame(
        [
            health_row(
                "null_rate",
                "Latents called changed in a pair that did not change",
                rate,
                "share of live latents",
                "judge with the margin the null pairs ask for (`mneme null` prints the command)",
                warn=0.05,
            ),
            health_row(
                "null_margin",
                "Margin the null pairs ask for",
                margin[0],
                "nats",
                f"judge again with --replace --set attribution.margin={margin[0] + 0.0005:.3f}",
                warn=margin[1],
            ),
            health_row(
                "null_affected_share",
                "Reach of a category that the null pairs ask for",
                min_affected_share[0],
                "share of text",
                f"judge again with --replace --set effects.min_affected_share={min_affected_share[0] + 0.0005:.3f}",
                warn=min_affected_share[1],
            ),
        ]
    )


def _counted(reasons: Iterable[str]) -> str:
    """Each reason and how often it was given."""
    return "; ".join(f"{reason} ({n})" for reason, n in Counter(reasons).items())
