"""Sums over documents -> the rows of the tables `causal` and `causal_ablations`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mneme.causal.finding_patches import SOURCES, pca_of, source_of
from mneme.causal.measure import UNPATCHED, Sums
from mneme.causal.shares import SMALLEST, Share, closed, mean, share

MEASURES = ("kl", "nll")
CONTROLS = ("other latents", "random latents", "random direction")
"""Sources that a latent's own patch is held against, the first there is."""


def causal_rows(sums: Sums, *, latent: int | None, n_latents: int) -> pd.DataFrame:
    """A row for each (patch, source) but ablations; latent None: all changed latents together.

    `gain` is the KL share beyond that of the control, paired by document.
    """
    n = sums.n_tokens * sums.weight
    values = {key: found * sums.weight[:, None] for key, found in sums.values.items()}
    before = values[UNPATCHED]
    rows: list[dict[str, Any]] = []
    for (patch, source), after in values.items():
        if patch == UNPATCHED[0] or patch.startswith("ablate"):
            continue
        row: dict[str, Any] = {
            "latent": latent,
            "patch": patch,
            "source": source,
            "n_latents": n_latents,
            "n_documents": int((n > 0).sum()),
            "n_tokens": int(sums.n_tokens.sum()),
        }
        row |= _told(before, after, n)
        control = next((c for c in CONTROLS if (patch, c) in values), None)
        if control is not None and source in ("latent", "latents"):
            part = values[patch, control][:, 0] - after[:, 0]
            row |= _columns("gain", "gain_low", "gain_high", closed(before[:, 0], part, n, SMALLEST["kl"]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.assign(latent=frame["latent"].astype("Int32"))


def finding_rows(sums: Sums, dimensions: Mapping[str, int]) -> pd.DataFrame:
    """Rows of `causal_findings`. dimensions: finding -> its dimensions, which say the PCA patch it is held against.

    `of_pca`: what the finding undoes of the KL, over what the PCA patch undoes (Fieller 1954, documents).
    """
    n = sums.n_tokens * sums.weight
    values = {source: found * sums.weight[:, None] for (_, source), found in sums.values.items()}
    before = values[UNPATCHED[1]]
    rows: list[dict[str, Any]] = []
    for finding, rank in dimensions.items():
        if source_of(finding, "finding") not in values:
            continue
        named = {source: source_of(finding, source) for source in SOURCES} | {"pca": pca_of(rank)}
        for source, name in named.items():
            if name not in values:
                continue
            after = values[name]
            row: dict[str, Any] = {
                "finding": finding,
                "patch": "undo",
                "source": source,
                "n_documents": int((n > 0).sum()),
                "n_tokens": int(sums.n_tokens.sum()),
                **_told(before, after, n),
            }
            if source == "finding":
                ceiling = before[:, 0] - values[named["pca"]][:, 0]
                part = closed(ceiling, before[:, 0] - after[:, 0], n, SMALLEST["kl"])
                row |= _columns("of_pca", "of_pca_low", "of_pca_high", part)
            rows.append(row)
    return pd.DataFrame(rows)


def _told(before: np.ndarray, after: np.ndarray, n: np.ndarray) -> dict[str, float]:
    """Columns of both measures: before, after, and the share closed with its interval."""
    row: dict[str, float] = {}
    for column, name in enumerate(MEASURES):
        told = share(before[:, column], after[:, column], n, SMALLEST[name])
        row |= {
            f"{name}_before": _mean(before[:, column], n),
            f"{name}_after": _mean(after[:, column], n),
            **_columns(f"{name}_share", f"{name}_low", f"{name}_high", told),
        }
    return row


def ablation_rows(sums: Sums, latent: int) -> pd.DataFrame:
    """What a model loses without the latent: a row per model."""
    rows = []
    for (patch, _), values in sums.values.items():
        if not patch.startswith("ablate"):
            continue
        row: dict[str, Any] = {
            "latent": latent,
            "model": patch.removeprefix("ablate "),
            "n_documents": len(sums.document),
            "n_tokens": int(sums.n_tokens.sum()),
        }
        for column, name in enumerate(MEASURES):
            row |= _columns(name, f"{name}_low", f"{name}_high", mean(values[:, column], sums.n_tokens))
        rows.append(row)
    return pd.DataFrame(rows)


def _mean(values: np.ndarray, n: np.ndarray) -> float:
    return float(values.sum() / n.sum()) if n.sum() else np.nan


def _columns(value: str, low: str, high: str, found: Share) -> dict[str, float]:
    return {value: found.value, low: found.low, high: found.high}
