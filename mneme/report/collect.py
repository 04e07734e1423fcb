"""From a run's tables to the parts of the report."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from mneme.report.format import cut, missing
from mneme.report.latents import Bin, Context, Latent, Point
from mneme.report.model import Effect, Facts, HealthCheck, Null, Score, StageTime
from mneme.store.queries import quality
from mneme.store.queries import report as queries
from mneme.store.run import Run
from mneme.verdict.calls import call, outcome

CONTEXTS = 3
"""Contexts shown of each latent."""
BINS = 50
POINTS = 1500
"""Most unchanged or uncertain latents in the scatter; twice as many of the changed ones."""
_TEXT, _TOKEN = 200, 40
_CATEGORIES = 3  # of each latent


def facts(run_name: str, info: dict[str, str]) -> Facts:
    """What was compared, from `run_info`."""
    sizes = {
        key: _whole(info.get(key))
        for key in ("layer", "n_layers", "width", "latents", "k", "n_documents", "n_tokens")
    }
    return Facts(
        name=text(info.get("name") or run_name),
        base=text(info.get("base")),
        tuned=text(info.get("tuned")),
        corpus=text(info.get("corpus")),
        text_left_out=text(info.get("text_left_out")),
        variant=text(info.get("variant")),
        n_skipped_bos=_whole(info.get("n_skipped_bos")),
        n_skipped_sinks=_whole(info.get("n_skipped_sinks")),
        created_at=text(info.get("created_at")),
        mneme_version=text(info.get("mneme_version")),
        synthetic=info.get("synthetic") == "true",
        **sizes,
    )


def stages(run: Run) -> tuple[StageTime, ...]:
    """Finished stages, in order."""
    rows = quality.stage_rows(run)
    return tuple(StageTime(text(a), _real(b), _real(c), text(d)) for a, b, c, d in rows)


def verdict_counts(run: Run) -> tuple[tuple[str, int], ...]:
    """(verdict, latents), changed ones first."""
    return tuple((text(verdict), n) for verdict, n in queries.verdict_counts(run))


def effects(run: Run, margin: float) -> tuple[Effect, ...]:
    """Every category, the largest effect first.

    margin: a smaller measured change of NLL is none, nats per token; the evaluation's own (mneme/effects/evaluate.py).
    """
    return tuple(_effect(row, margin) for row in _records(queries.effects_with_outcomes(run)))


def _effect(row: dict[str, Any], margin: float) -> Effect:
    change, low, high = (_real(row[name]) for name in ("change", "change_low", "change_high"))
    measured = outcome(change, low, high, margin, bool(row["proven"]))
    before, after = _real(row["accuracy_base"]), _real(row["accuracy_tuned"])
    return Effect(
        category=text(row["category"]),
        name=text(row["name"]),
        group=text(row["grp"]),
        effect=_real(row["effect"]),
        ci_low=_real(row["ci_low"]),
        ci_high=_real(row["ci_high"]),
        direction=text(row["direction"]),
        verdict=text(row["verdict"]),
        reason=text(row["reason"]),
        shown_by=text(row["shown_by"]),
        intended=bool(row["intended"]),
        nll_change=_real(row["nll_change"]),
        nll_low=_real(row["nll_low"]),
        nll_high=_real(row["nll_high"]),
        kl=_real(row["kl"]),
        n_tokens=_whole(row["n_tokens"]),
        measured_change=change,
        measured_low=low,
        measured_high=high,
        unit=text(row["unit"]),
        accuracy_change=None if before is None or after is None else after - before,
        n_items=_whole(row["n_items"]),
        source=text(row["source"]),
        measured=measured,
        call=call(text(row["verdict"]), measured),
    )


def latents(run: Run, limit: int, also: list[int]) -> tuple[Latent, ...]:
    """The most severe of each kind, and those of `also`."""
    rows = queries.most_severe(run, limit, also)
    ids = [int(i) for i in rows["latent"]]
    best = queries.labels_of(run, ids)
    labels = {r["latent"]: r for r in _records(best)}
    categories: dict[int, list[str]] = {}
    for latent, name in queries.categories_of(run, ids, _CATEGORIES):
        categories.setdefault(latent, []).append(text(name))
    contexts = _contexts(run, ids)
    return tuple(
        _latent(
            r, labels.get(r["latent"], {}), categories.get(r["latent"], []), contexts.get(r["latent"], [])
        )
        for r in _records(rows)
    )


def _latent(
    row: dict[str, Any], label: dict[str, Any], categories: list[str], contexts: list[Context]
) -> Latent:
    numbers = (
        *("beta_base", "beta_tuned", "delta_norm", "decoder_cosine", "log_ratio", "ci_low", "ci_high"),
        *("q_value", "firing_rate", "kl", "nll_change", "severity", "stability"),
        *("turn_cosine", "turn_low", "turn_high", "turn_q"),
    )
    flags = {"dense": "dense", "position_bound": "position bound"}
    return Latent(
        latent=int(row["latent"]),
        verdict=text(row["verdict"]),
        reason=text(row["reason"]),
        turned=row["turned"] is True,
        label=text(label.get("label")),
        label_method=text(label.get("method")),
        score=_real(label.get("score")),
        score_shuffled=_real(label.get("score_shuffled")),
        unreliable=label.get("unreliable") is True,
        categories=tuple(categories),
        n_documents=_whole(row["n_documents"]),
        seeds_found=_whole(row["seeds_found"]),
        n_seeds=_whole(row["n_seeds"]),
        flags=tuple(name for column, name in flags.items() if row[column] is True),
        contexts=tuple(contexts),
        label_automatic="",
        review=None,
        **{name: _real(row[name]) for name in numbers},
    )


def _contexts(run: Run, ids: list[int]) -> dict[int, list[Context]]:
    rows = queries.contexts_of(run, ids, CONTEXTS)
    found: dict[int, list[Context]] = {}
    for latent, document, position, topic, tokens, activations in rows:
        pairs = list(zip(tokens or [], activations or [], strict=False))
        found.setdefault(latent, []).append(
            Context(
                document=document,
                position=position,
                topic=text(topic),
                tokens=tuple(text(token, _TOKEN) for token, _ in pairs),
                activations=tuple(_real(a) or 0.0 for _, a in pairs),
            )
        )
    return found


def health(run: Run) -> tuple[HealthCheck, ...]:
    """The worst status first."""
    return tuple(
        HealthCheck(text(m), text(t) or text(m), _real(v), text(u), text(h), text(s), text(a, 400))
        for m, t, v, u, h, s, a in queries.health_rows(run)
    )


def nulls(run: Run) -> tuple[Null, ...]:
    """What the method says of pairs that did not change."""
    return tuple(
        Null(
            text(kind), _whole(n), _whole(false), _real(a), _real(b), _real(c), _real(d), _whole(e), _whole(f)
        )
        for kind, n, false, a, b, c, d, e, f in queries.null_rows(run)
    )


def scores(run: Run) -> tuple[Score, ...]:
    """The evaluation: by subset and metric, the crosscoder first."""
    return tuple(
        Score(text(m), text(k), text(s), _real(v), _real(a), _real(b), _whole(n))
        for m, k, s, v, a, b, n in queries.evaluation_rows(run)
    )


def histogram(run: Run) -> tuple[Bin, ...]:
    """delta_norm of the live latents in BINS bars from 0 to 1; empty when none has one."""
    rows = queries.delta_norm_bins(run, BINS)
    return tuple(Bin(i / BINS, (i + 1) / BINS, rows.get(i, 0)) for i in range(BINS)) if rows else ()


def points(run: Run) -> tuple[Point, ...]:
    """Betas of live latents: a fixed sample of the changed and of the other ones."""
    return tuple(
        Point(int(i), float(b), float(t), text(v)) for i, b, t, v in queries.beta_points(run, POINTS)
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).to_dict("records")  # type: ignore[return-value]  # columns are strings


def _real(value: Any) -> float | None:
    return None if missing(value) or not math.isfinite(value) else float(value)


def _whole(value: Any) -> int | None:
    try:
        return None if missing(value) else int(value)
    except (TypeError, ValueError):
        return None


def text(value: Any, limit: int = _TEXT) -> str:
    """A text of the run, cut to `limit` characters; '' for NULL."""
    return "" if missing(value) else cut(str(value), limit)
