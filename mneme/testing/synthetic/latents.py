"""Made-up latents, their betas, histograms and health."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme._util.vocabulary import CHANGED, LATENT_VERDICTS
from mneme.attribution.reasons import REASONS
from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES

_SEEDS = 3


def make_latents(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """(n rows) the `latents` table, and `home`: the index of the category each latent was made for."""
    kind = rng.choice(list(LATENT_VERDICTS), n, p=[0.06, 0.04, 0.02, 0.68, 0.15, 0.05])
    kind[: min(n, len(LATENT_VERDICTS))] = list(LATENT_VERDICTS)[:n]
    uncertain = list(REASONS)
    home = np.where(
        np.isin(kind, CHANGED),
        rng.choice(4, n, p=[0.5, 0.2, 0.2, 0.1]),
        rng.integers(0, len(CATEGORIES), n),
    )
    dead = kind == "dead"
    size = np.abs(rng.normal(1.0, 0.5, n)) + 0.3
    ratio = np.select(
        [kind == "amplified", kind == "suppressed", kind == "uncertain"],
        [size, -size, rng.normal(0, 0.35, n)],
        rng.normal(0, 0.04, n),
    )
    norm = rng.lognormal(0, 0.25, n)
    norm_base, norm_tuned = norm * np.exp(-ratio / 2), norm * np.exp(ratio / 2)
    half = np.where(kind == "uncertain", 0.6, 0.06) * rng.uniform(0.7, 1.4, n)
    rate = 10 ** rng.normal(-2.6, 0.6, n).clip(-5, -0.3)
    umap = rng.normal(0, 0.6, (n, 2)) + 4 * np.stack(
        [np.cos(home * 2 * np.pi / len(CATEGORIES)), np.sin(home * 2 * np.pi / len(CATEGORIES))], axis=1
    )
    beta_base, beta_tuned = np.exp(-ratio.clip(0)), np.exp(ratio.clip(None, 0))
    cosine = 1 - np.abs(rng.normal(0, 0.05, n)) - 0.1 * np.abs(ratio)
    redirected = kind == "redirected"
    noise = rng.normal(0, 0.02, (2, n))
    found = np.random.default_rng(n).binomial(_SEEDS, 0.4, n).astype(float)  # in dictionaries of other seeds
    frame = pd.DataFrame(
        {
            "latent": np.arange(n),
            "norm_base": norm_base,
            "norm_tuned": norm_tuned,
            "delta_norm": 0.5 * ((norm_tuned - norm_base) / np.maximum(norm_base, norm_tuned) + 1),
            "decoder_cosine": (cosine - 0.5 * redirected).clip(-1, 1),
            "probe": np.where(norm_tuned >= norm_base, "tuned", "base"),
            "beta_base": beta_base + noise[0],
            "beta_tuned": beta_tuned + noise[1],
            "nu_error": beta_base / beta_tuned,
            "nu_reconstruction": beta_base / beta_tuned * 0.8,
            "log_ratio": ratio,
            "ci_low": ratio - half,
            "ci_high": ratio + half,
            "p_value": np.exp(-np.abs(ratio) * 12),
            "q_value": np.exp(-np.abs(ratio) * 9),
            "split_half_base": np.abs(noise[0]),
            "split_half_tuned": np.abs(noise[1]),
            "firing_rate": rate,
            "n_active": (rate * 28_800).astype(int),
            "n_documents": (rate * 2000).clip(1, 120).astype(int),
            "mean_activation": rng.lognormal(0.5, 0.3, n),
            "max_activation": rng.lognormal(1.8, 0.4, n),
            "kl": np.abs(ratio) * 0.6 + rng.exponential(0.02, n),
            "nll_change": np.abs(ratio) * 0.8 + rng.normal(0, 0.05, n),
            "severity": np.abs(ratio) * np.sqrt(rate),
            "stability": found / _SEEDS,
            "seeds_found": found,
            "n_seeds": float(_SEEDS),
            "verdict": kind,
            "reason": [
                uncertain[j % len(uncertain)] if word == "uncertain" else None for j, word in enumerate(kind)
            ],
            "turned": redirected,
            "dead": dead,
            "dense": rate > 0.1,
            "position_bound": rng.random(n) < 0.02,
            "umap_x": umap[:, 0].astype(np.float32),
            "umap_y": umap[:, 1].astype(np.float32),
            "home": home,
        }
    )
    unmeasured = [
        *["decoder_cosine", "beta_base", "beta_tuned", "nu_error", "nu_reconstruction", "log_ratio"],
        *["ci_low", "ci_high", "p_value", "q_value", "split_half_base", "split_half_tuned"],
        *["mean_activation", "max_activation", "kl", "nll_change", "severity", "umap_x", "umap_y"],
        *["stability", "seeds_found", "n_seeds"],
    ]
    frame.loc[dead, unmeasured] = np.nan
    frame.loc[dead, ["firing_rate", "n_active", "n_documents"]] = 0
    return frame


def write_betas(writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame) -> None:
    live = latents[~latents["dead"]]
    parts = []
    for probe in ("base", "tuned"):
        for target in ("error", "reconstruction", "activation"):
            for model in ("base", "tuned"):
                beta = live[f"beta_{model}"] * (1.0 if target == "error" else 0.9)
                half = 0.08 if target == "error" else 0.11
                parts.append(
                    pd.DataFrame(
                        {
                            "latent": live["latent"],
                            "probe": probe,
                            "target": target,
                            "model": model,
                            "beta": beta + rng.normal(0, 0.01, len(live)),
                            "ci_low": beta - half,
                            "ci_high": beta + half,
                        }
                    )
                )
    writer.replace("betas", pd.concat(parts))
    bins = np.arange(24)
    edge = np.outer(live["max_activation"], np.linspace(0, 1, 25))
    writer.replace(
        "activation_histogram",
        pd.DataFrame(
            {
                "latent": np.repeat(live["latent"].to_numpy(), 24),
                "bin": np.tile(bins, len(live)),
                "low": edge[:, :-1].ravel(),
                "high": edge[:, 1:].ravel(),
                "n": rng.poisson(np.outer(live["n_active"], np.exp(-bins / 5) / 5.5)).ravel(),
            }
        ),
    )


def write_health(writer: StageWriter, latents: pd.DataFrame) -> None:
    share = float(latents["dead"].mean())
    rows = [
        ("dead_share", "Dead latents", share, "share", "<= 0.15", "ok" if share <= 0.15 else "warn", ""),
        ("explained_variance_base", "Explained variance, base", 0.82, "share", ">= 0.7", "ok", ""),
        ("explained_variance_tuned", "Explained variance, tuned", 0.80, "share", ">= 0.7", "ok", ""),
        (
            "half_margin_base",
            "Beta apart between halves of the text by more than the margin, base",
            0.12,
            "share of latents",
            "warn > 0.0455, fail > 0.317",
            "warn",
            "Read more text.",
        ),
        (
            "seed_persistence",
            "Latents found again from another start",
            0.4,
            f"share of live latents, mean of {_SEEDS} independent starts",
            "warn < 0.3",
            "ok",
            "",
        ),
        (
            "change_r2",
            "Change at each token, as another start predicts it",
            0.92,
            "R2",
            "warn < 0.5",
            "ok",
            "",
        ),
        ("l0", "Active latents per token", 32.4, "latents", "", "info", ""),
    ]
    columns = ["metric", "title", "value", "unit", "threshold", "status", "advice"]
    writer.replace("health", pd.DataFrame(rows, columns=columns))
    writer.replace(
        "nulls",
        pd.DataFrame(
            {
                "kind": ["shuffled pairing", "base against itself"],
                "n": [350, 350],
                "n_false": [9, 4],
                "rate": [9 / 350, 4 / 350],
                "ci_low": [0.012, 0.003],
                "ci_high": [0.048, 0.029],
                "margin": [0.22, 0.22],
                "n_categories": [None, 30],
                "n_affected": [None, 1],
                "affected_share": [None, 0.04],
                "detail": ["made up", "made up"],
            }
        ),
    )
