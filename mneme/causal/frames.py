"""Sums over documents -> the rows of the tables `causal` and `causal_ablations`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

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
        for column, name in enumerate(MEASURES):
            told = share(before[:, column], after[:, column], n, SMALLEST[name])
            row |= {
                f"{name}_before": _mean(before[:, column], n),
                f"{name}_after": _mean(after[:, column], n),
                **_columns(f"{name}_share", f"{name}_low", f"{name}_high", told),
            }
        control = next((c for c in CONTROLS if (patch, c) in values), None)
        if control is not None and source in ("latent", "latents"):
            part = values[patch, control][:, 0] - after[:, 0]
            row |= _columns("gain", "gain_low", "gain_high", closed(before[:, 0], part, n, SMALLEST["kl"]))
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.assign(latent=frame["latent"].astype("Int32"))


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
