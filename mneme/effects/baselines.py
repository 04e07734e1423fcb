"""Cheap ways to say which categories changed: same text, same weights. The crosscoder must beat them.

    mean_kl                     KL(base || tuned) of the predictions, nats per token
    mean_nll_change             tuned - base NLL of the next token, nats per token
    activation_difference_norm  |x_tuned - x_base|, as a share of the base's typical deviation
    activation_difference_share  the same, saturating as the crosscoder's affected share does: 1 - exp(-share / 0.2) a
                                 window
    mean_difference_norm        |mean of (x_tuned - x_base)| over the category's text, the same share
    delta_norm_only             firing x change of decoder norm, over all live latents: no betas, no verdicts
    random_latents              the effect with the changed latents' steps dealt to random live latents

The first two need the rest of both models' layers, the next two no dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mneme.effects.config import EffectsConfig
from mneme.effects.predict import Behaviour, saturated
from mneme.effects.sums import ActivationSums, norm_steps
from mneme.effects.windows import Windows

_NORM_SCALE = (
    0.2  # the best for AUROC of 0.1, 0.2, 0.4 and 0.8 on the bundled pair: chosen in the baseline's favour
)


def random_steps(steps: np.ndarray, live: np.ndarray, seed: int) -> np.ndarray:
    """(F,): the steps (F,) of live latents, shuffled among live latents."""
    dealt = np.zeros_like(steps)
    dealt[live] = np.random.default_rng(seed).permutation(steps[live])
    return dealt


def baseline_steps(latents: pd.DataFrame, steps: np.ndarray, config: EffectsConfig) -> dict[str, np.ndarray]:
    """Method -> (F,) steps, of the baselines that add up latents as the effect does."""
    live = ~latents["dead"].fillna(False).to_numpy(bool)
    return {
        "delta_norm_only": np.where(live, norm_steps(latents), 0.0),
        "random_latents": random_steps(steps, live, config.seed),
    }


def baseline_frame(
    keys: list[str],
    windows: Windows,
    weights: np.ndarray,
    behaviour: Behaviour,
    activations: ActivationSums,
    moved: Mapping[str, np.ndarray],
) -> pd.DataFrame:
    """Table `baselines`: category, method, value; NaN where a category has no text or nothing was measured.

    moved: method -> (W,), CodeSums.moved with that method's steps.
    """
    typical = activations.typical if activations.typical > 0 else np.nan
    values = {
        "mean_kl": behaviour.kl.value,
        "mean_nll_change": behaviour.nll_change.value,
        "activation_difference_norm": weighted_mean(weights, windows, activations.difference_norm) / typical,
        "activation_difference_share": weighted_mean(
            weights, windows, saturated(activations.difference_norm / typical, windows.n_rows, _NORM_SCALE)
        ),
        "mean_difference_norm": _mean_vector_norm(weights, windows, activations.difference) / typical,
        **{method: weighted_mean(weights, windows, sums) / typical for method, sums in moved.items()},
    }
    parts = [pd.DataFrame({"category": keys, "method": m, "value": v}) for m, v in values.items()]
    return pd.concat(parts, ignore_index=True)


def weighted_mean(weights: np.ndarray, windows: Windows, sums: np.ndarray) -> np.ndarray:
    """(C,): weighted sum of (W,) window sums, over the weighted number of rows."""
    rows = weights.T.astype(np.float64) @ windows.n_rows
    found: np.ndarray = np.divide(weights.T @ sums, rows, out=np.full(len(rows), np.nan), where=rows > 0)
    return found


def _mean_vector_norm(weights: np.ndarray, windows: Windows, sums: np.ndarray) -> np.ndarray:
    """(C,): norm of the weighted mean of (W, d) window sums."""
    rows = weights.T.astype(np.float64) @ windows.n_rows
    norm = np.linalg.norm(weights.T @ sums, axis=1)
    found: np.ndarray = np.divide(norm, rows, out=np.full(len(rows), np.nan), where=rows > 0)
    return found
