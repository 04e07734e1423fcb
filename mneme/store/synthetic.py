"""A made-up run of any size: every table filled plausibly, no model needed.

For tests, benchmarks and a first look at the dashboard. `run_info.synthetic` is 'true', so nothing can pass
it off as a finding. With `hostile=True` every text of the run attacks whoever shows it: markup, event
handlers, markdown, right-to-left and zero-width characters, very long tokens.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from mneme.store.run import Run, StageWriter

STAGES = ("harvest", "crosscoder", "attribution", "interpretation", "effects")

CATEGORIES: dict[str, tuple[str, str, str, str]] = {
    "college_biology": ("College biology", "biology", "STEM", "cell membrane protein enzyme gene species"),
    "virology": ("Virology", "health", "other", "virus infection host strain vaccine outbreak"),
    "college_medicine": ("College medicine", "health", "other", "patient dose artery tissue symptom blood"),
    "nutrition": ("Nutrition", "health", "other", "vitamin diet protein calorie fat fibre"),
    "college_chemistry": ("College chemistry", "chemistry", "STEM", "acid bond ion molecule reaction solvent"),
    "high_school_physics": ("High school physics", "physics", "STEM", "force mass velocity charge field wave"),
    "abstract_algebra": ("Abstract algebra", "math", "STEM", "group ring ideal field order kernel"),
    "us_history": ("US history", "history", "humanities", "senate treaty colony union war president"),
    "philosophy": ("Philosophy", "philosophy", "humanities", "mind moral duty reason belief truth"),
    "econometrics": ("Econometrics", "economics", "social sciences", "price demand market trend tax trade"),
    "computer_security": ("Computer security", "computer science", "STEM", "key cipher packet login hash port"),
    "everyday_life": ("Everyday life", "everyday", "other", "kitchen garden train friend dinner weather"),
}
COMMON = "the of and to in is that for it with as was on are by this be at from or which an not have".split()

HOSTILE = [
    "<script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=1">',
    '"><svg onload=window.hacked=1>',
    "[click](javascript:window.hacked=1)",
    ":red[fake] **bold** `code` | pipe | $x^2$ :material/delete:",
    "\u202eright to left\u202c \u200bzero\u200d width\ufeff",
    "x" * 10_000,
    "new\nline\ttab\x00nul\x1b[31m",
    "' OR 1=1; DROP TABLE latents; --",
    "![pixel](http://127.0.0.1:9/pixel.png)",
]


def make_synthetic_run(
    path: str | Path,
    *,
    latents: int = 400,
    contexts: int = 20,
    window: int = 32,
    documents: int = 120,
    seed: int = 0,
    hostile: bool = False,
    stages: Collection[str] = STAGES,
) -> Run:
    """Write a run of `latents` latents with `contexts` contexts of `window` tokens each.

    Only the tables of `stages` are filled, so that half-finished runs can be tried too.
    """
    rng = np.random.default_rng(seed)
    run = Run(path)
    with run.stage_writer() as writer:
        _info(writer, run.name, latents, documents, hostile)
        if "harvest" in stages:
            _documents(writer, rng, documents, hostile)
        if "crosscoder" in stages:
            _training(writer, rng)
        if "attribution" in stages:
            frame = _latents(rng, latents)
            if "interpretation" not in stages:
                frame = frame.drop(columns=["umap_x", "umap_y"])
            writer.replace("latents", frame.drop(columns="home"))
            _betas(writer, rng, frame)
            _health(writer, frame)
            if "interpretation" in stages:
                _contexts(writer, rng, frame, contexts, window, documents, hostile)
                _interpretation(writer, rng, frame, hostile)
            if "effects" in stages:
                _effects(writer, rng, frame, hostile)
        now = datetime.datetime(2026, 1, 1, 12)
        names = [s for s in STAGES if s in stages]
        writer.replace(
            "stages",
            pd.DataFrame(
                {
                    "stage": names,
                    "fingerprint": "synthetic",
                    "seconds": np.linspace(90, 12, len(names)),
                    "peak_memory_mb": np.linspace(2900, 1400, len(names)),
                    "finished_at": [now + datetime.timedelta(seconds=90 * i) for i in range(len(names))],
                }
            ),
        )
    return run


def _info(writer: StageWriter, name: str, latents: int, documents: int, hostile: bool) -> None:
    writer.set_info(
        name=name,
        base=HOSTILE[1] if hostile else "made-up/base-135m",
        tuned=HOSTILE[4] if hostile else "made-up/base-135m-unlearned",
        layer=14,
        n_layers=30,
        width=576,
        latents=latents,
        k=32,
        variant="batchtopk",
        corpus=HOSTILE[0] if hostile else "synthetic",
        n_documents=documents,
        n_tokens=documents * 240,
        n_skipped_bos=documents,
        n_skipped_sinks=7,
        created_at="2026-01-01T12:00:00",
        mneme_version="0.1.0",
        verdict_sentence=" ".join(HOSTILE[:6])
        if hostile
        else "Biology, medicine and virology degraded; the other subjects show no change beyond the margin. "
        "(Made-up numbers.)",
        synthetic="true",
    )


def _documents(writer: StageWriter, rng: np.random.Generator, n: int, hostile: bool) -> None:
    keys = list(CATEGORIES)
    topics = [keys[i % len(keys)] for i in range(n)]
    frame = pd.DataFrame(
        {
            "document": np.arange(n),
            "topic": [HOSTILE[i % len(HOSTILE)] for i in range(n)] if hostile else topics,
            "n_tokens": 256,
            "n_kept": rng.integers(235, 255, n),
            "preview": [HOSTILE[i % len(HOSTILE)][:200] if hostile else "Made-up text." for i in range(n)],
        }
    )
    writer.replace("documents", frame)
    writer.replace(
        "document_categories", pd.DataFrame({"document": np.arange(n), "category": topics, "weight": 0.9})
    )


def _training(writer: StageWriter, rng: np.random.Generator) -> None:
    step = np.arange(0, 3000, 25)
    rise = 1 - np.exp(-step / 500)
    writer.replace(
        "training",
        pd.DataFrame(
            {
                "step": step,
                "tokens": step * 1024,
                "loss": 600 * np.exp(-step / 400) + 190 + rng.normal(0, 4, len(step)),
                "aux_loss": 20 * np.exp(-step / 700) + 3,
                "l0": 32.0,
                "k": np.maximum(32, 200 - step / 5),
                "explained_variance_base": 0.82 * rise,
                "explained_variance_tuned": 0.80 * rise,
                "dead_share": 0.12 * np.exp(-step / 900) + 0.02,
                "learning_rate": 1e-3 * np.minimum(1, step / 200),
            }
        ),
    )


def _latents(rng: np.random.Generator, n: int) -> pd.DataFrame:
    """(n rows) the `latents` table, and `home`: the index of the category each latent was made for."""
    kind = rng.choice(
        ["amplified", "suppressed", "unchanged", "uncertain", "dead"], n, p=[0.06, 0.04, 0.7, 0.15, 0.05]
    )
    kind[: min(n, 5)] = ["amplified", "suppressed", "unchanged", "uncertain", "dead"][: min(n, 5)]
    home = np.where(
        np.isin(kind, ["amplified", "suppressed"]),
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
    noise = rng.normal(0, 0.02, (2, n))
    frame = pd.DataFrame(
        {
            "latent": np.arange(n),
            "norm_base": norm_base,
            "norm_tuned": norm_tuned,
            "delta_norm": 0.5 * ((norm_tuned - norm_base) / np.maximum(norm_base, norm_tuned) + 1),
            "decoder_cosine": (1 - np.abs(rng.normal(0, 0.05, n)) - 0.1 * np.abs(ratio)).clip(-1, 1),
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
            "verdict": kind,
            "redirected": (rng.random(n) < 0.02) & ~dead,
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
    ]
    frame.loc[dead, unmeasured] = np.nan
    frame.loc[dead, ["firing_rate", "n_active", "n_documents"]] = 0
    return frame


def _betas(writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame) -> None:
    live = latents[~latents["dead"]]
    parts = []
    for probe in ("base", "tuned"):
        for target in ("error", "reconstruction", "activation"):
            for model in ("base", "tuned"):
                beta = live[f"beta_{model}"] * (1.0 if target == "error" else 0.9)
                parts.append(
                    pd.DataFrame(
                        {
                            "latent": live["latent"],
                            "probe": probe,
                            "target": target,
                            "model": model,
                            "beta": beta + rng.normal(0, 0.01, len(live)),
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


def _health(writer: StageWriter, latents: pd.DataFrame) -> None:
    share = float(latents["dead"].mean())
    rows = [
        ("dead_share", "Dead latents", share, "share", "<= 0.15", "ok" if share <= 0.15 else "warn", ""),
        ("explained_variance_base", "Explained variance, base", 0.82, "share", ">= 0.7", "ok", ""),
        ("explained_variance_tuned", "Explained variance, tuned", 0.80, "share", ">= 0.7", "ok", ""),
        ("beta_instability", "Beta differs between halves", 0.12, "share", "<= 0.1", "warn", "Read more text."),
        ("l0", "Active latents a token", 32.4, "latents", "", "info", ""),
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
                "detail": ["made up", "made up"],
            }
        ),
    )


def _contexts(
    writer: StageWriter,
    rng: np.random.Generator,
    latents: pd.DataFrame,
    contexts: int,
    window: int,
    documents: int,
    hostile: bool,
) -> None:
    """Half of the contexts are top ones, the rest is spread over the deciles; written in blocks of latents."""
    words = [" " + w for w in COMMON]
    own = np.zeros((len(CATEGORIES), 6), np.int32)
    for i, (_, _, _, text) in enumerate(CATEGORIES.values()):
        own[i] = np.arange(len(words), len(words) + 6)
        words += [" " + w for w in text.split()]
    if hostile:
        words[1 : 1 + len(HOSTILE)] = HOSTILE
    vocabulary = pa.array(words)
    top = max(1, contexts // 2)
    spread = contexts - top
    quantile = np.concatenate([np.zeros(top), 1 + np.arange(spread) % 10]).astype(np.int32)
    rank = np.concatenate([np.arange(top), np.arange(spread) // 10]).astype(np.int32)
    writer.connection.execute("DELETE FROM contexts")
    live = latents[~latents["dead"]]
    for at in range(0, len(live), 2048):
        block = live.iloc[at : at + 2048]
        n = len(block) * contexts
        token = rng.integers(0, len(COMMON), (n, window), dtype=np.int32)
        home = np.repeat(block["home"].to_numpy(), contexts)
        peak = rng.integers(window // 4, window * 3 // 4, n)
        level = np.tile(np.where(quantile == 0, 1.0, quantile / 11.0), len(block))
        level = level * np.repeat(block["max_activation"].to_numpy(), contexts)
        rows, activation = np.arange(n), np.zeros((n, window), np.float32)
        for offset, share in ((0, 1.0), (1, 0.45), (-3, 0.3)):
            token[rows, peak + offset] = own[home, rng.integers(0, 6, n)]
            activation[rows, peak + offset] = share * level
        document = rng.integers(0, documents, n, dtype=np.int32)
        start = rng.integers(0, 200, n, dtype=np.int32)
        kl = rng.exponential(0.05, (n, window)).astype(np.float32) + 0.3 * (activation > 0)
        change = rng.normal(0, 0.1, (n, window)).astype(np.float32) + 0.4 * (activation > 0)

        def lists(values: pa.Array) -> pa.ListArray:
            return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * window, values)  # noqa: B023

        writer.append(
            "contexts",
            pa.table(
                {
                    "latent": np.repeat(block["latent"].to_numpy(), contexts).astype(np.int32),
                    "rank": np.tile(rank, len(block)),
                    "quantile": np.tile(quantile, len(block)),
                    "split": np.where(document % 2 == 0, "train", "test"),
                    "document": document,
                    "position": (start + peak).astype(np.int32),
                    "start": start,
                    "tokens": lists(vocabulary.take(pa.array(token.ravel()))),
                    "activations": lists(pa.array(activation.ravel())),
                    "kl": lists(pa.array(kl.ravel())),
                    "nll_change": lists(pa.array(change.ravel())),
                }
            ),
        )


def _interpretation(
    writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool
) -> None:
    live = latents[~latents["dead"]]
    ids, n = live["latent"].to_numpy(), len(live)
    names = [text.split() for *_, text in CATEGORIES.values()]
    pick = rng.integers(0, 6, (n, 2))
    text = [f"{names[h][a]}, {names[h][b]}" for h, (a, b) in zip(live["home"], pick, strict=True)]
    if hostile:
        text = [HOSTILE[i % len(HOSTILE)] for i in range(n)]
    score = rng.normal(0.78, 0.1, n).clip(0.4, 1)
    writer.replace(
        "labels",
        pd.DataFrame(
            {
                "latent": ids,
                "label": text,
                "method": "offline",
                "score": np.where(rng.random(n) < 0.05, np.nan, score),
                "score_shuffled": rng.normal(0.5, 0.04, n),
                "detail": '{"evidence": "made up"}',
            }
        ),
    )
    keys = np.array(list(CATEGORIES))
    second = rng.integers(0, len(keys), n)
    writer.replace(
        "latent_categories",
        pd.DataFrame(
            {
                "latent": np.concatenate([ids, ids]),
                "category": np.concatenate([keys[live["home"]], keys[second]]),
                "weight": np.concatenate([np.full(n, 0.6), np.full(n, 0.2)]),
            }
        ).drop_duplicates(["latent", "category"]),
    )
    lens = []
    words = np.array(HOSTILE[:8] if hostile else [" " + w for w in COMMON[:8]])
    for model, shift in (("base", 0.0), ("tuned", 0.4), ("difference", 0.4)):
        for direction, sign in (("top", 1), ("bottom", -1)):
            lens.append(
                pd.DataFrame(
                    {
                        "latent": np.repeat(ids, 8),
                        "model": model,
                        "direction": direction,
                        "rank": np.tile(np.arange(8), n),
                        "token": np.tile(words, n),
                        "logit": np.tile(sign * (3 - 0.3 * np.arange(8) + shift), n),
                    }
                )
            )
    writer.replace("logit_lens", pd.concat(lens))
    near = [
        pd.DataFrame(
            {
                "latent": np.repeat(ids, 6),
                "kind": kind,
                "rank": np.tile(np.arange(6), n),
                "neighbour": ids[rng.integers(0, n, n * 6)],
                "similarity": np.tile(np.linspace(0.8, 0.3, 6), n),
            }
        )
        for kind in ("decoder", "firing")
    ]
    writer.replace("neighbours", pd.concat(near))


def _effects(writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool) -> None:
    keys, n = list(CATEGORIES), len(CATEGORIES)
    truth = np.array([0.9, 0.7, 0.6, 0.3, 0.12, 0.01, 0.0, -0.01, 0.02, 0.0, 0.01, -0.06])
    effect = np.abs(truth + rng.normal(0, 0.05, n))
    verdict = np.select([truth > 0.25, truth > 0.1, truth < -0.05], ["degraded", "uncertain", "improved"], "unaffected")
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
                "direction": direction,
                "verdict": verdict,
                "nll_change": truth * 0.8,
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
