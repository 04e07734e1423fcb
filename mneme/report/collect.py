"""From a run's tables to the report.

Whatever a stage has not written yet is left out and named in `not_measured`, with the command that makes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from mneme.report.analyst import read_remarks
from mneme.report.format import cut, missing
from mneme.report.model import (
    Bin,
    Comparison,
    Context,
    Effect,
    Entry,
    Facts,
    HealthCheck,
    Latent,
    Missing,
    Null,
    Point,
    Remark,
    Report,
    Score,
    StageTime,
)
from mneme.store.queries.effects import effects as effect_rows
from mneme.store.run import Run

CONTEXTS = 3
"""Contexts shown of each latent."""
BINS = 50
POINTS = 1500
"""Most unchanged or uncertain latents in the scatter; changed ones are all drawn, up to ten times as many."""
_TEXT, _TOKEN = 200, 40
_BEST_LABEL = (
    "row_number() OVER (PARTITION BY latent"
    " ORDER BY coalesce(score, 0) + (method <> 'offline')::INT DESC) = 1"
)
_EXPORTS = {
    "latents": "SELECT l.*, b.label, b.method AS label_method, b.score AS label_score FROM latents l"
    f" LEFT JOIN (SELECT * FROM labels QUALIFY {_BEST_LABEL}) b USING (latent) ORDER BY latent",
    "effects": "SELECT e.*, c.name, c.grp FROM effects e LEFT JOIN categories c USING (category)"
    " ORDER BY effect DESC NULLS LAST, category",
    "outcomes": "SELECT * FROM outcomes ORDER BY category",
    "evaluation": "SELECT * FROM evaluation ORDER BY subset, metric, method",
}
EXPORTS = tuple(_EXPORTS)
"""Tables that `export_table` gives."""


def build_report(run: Run, *, max_latents: int = 10) -> Report:
    """The report of a run, finished or not.

    max_latents: most latents listed of each kind (amplified, suppressed, redirected). Raises RunError when
    the folder holds no run.
    """
    info = run.info()
    manifest, manifest_gap = _manifest(run.path)
    stages = _stages(run)
    effects = tuple(_effect(row) for row in _records(effect_rows(run)))
    scores = _scores(run)
    remarks: tuple[Remark, ...] = ()
    remark_gap = []
    try:
        remarks = read_remarks(run.path)
    except (duckdb.Error, OSError):
        remark_gap = [
            Missing(
                "the analyst's notes: analyst.duckdb can't be read",
                "close the dashboard and write the report again",
            )
        ]
    latents = _latents(run, max_latents)
    nulls = _nulls(run)
    return Report(
        verdict=_text(info.get("verdict_sentence")),
        facts=_facts(run, info),
        versions=_entries(manifest.get("versions")),
        seeds=_entries(manifest.get("seeds")),
        fingerprints=_entries(manifest.get("fingerprints"))
        or tuple(Entry(s.stage, s.fingerprint) for s in stages),
        stages=stages,
        verdict_counts=_verdict_counts(run),
        n_redirected=run.rows("SELECT count(*) FROM latents WHERE redirected AND NOT dead")[0][0],
        effects=effects,
        latents=latents,
        health=_health(run),
        nulls=nulls,
        scores=scores,
        comparisons=compare(scores),
        not_measured=(
            *_missing_stages(run, {s.stage for s in stages}),
            *_missing_parts(run, effects, latents, nulls),
            *manifest_gap,
            *remark_gap,
        ),
        remarks=remarks,
        histogram=_histogram(run),
        points=_points(run),
    )


def export_table(run: Run, name: str) -> pa.Table:
    """A whole table, for CSV and Parquet; latents have their label, effects their category's name."""
    return pa.Table.from_pandas(run.sql(_EXPORTS[name]), preserve_index=False)


def compare(scores: Iterable[Score]) -> tuple[Comparison, ...]:
    """The crosscoder against the best baseline, for each metric and subset that has both.

    An oracle sees the benchmark and is no baseline.
    """
    tables: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.value is not None:
            tables.setdefault((score.metric, score.subset), {})[score.method] = score.value
    found = []
    for (metric, subset), values in tables.items():
        baselines = {m: v for m, v in values.items() if m != "crosscoder" and not m.startswith("oracle")}
        if "crosscoder" in values and baselines:
            best = max(baselines, key=lambda m: baselines[m])
            found.append(Comparison(metric, subset, values["crosscoder"], best, baselines[best]))
    return tuple(found)


def _facts(run: Run, info: dict[str, str]) -> Facts:
    whole = {
        key: _whole(info.get(key))
        for key in ("layer", "n_layers", "width", "latents", "k", "n_documents", "n_tokens")
    }
    return Facts(
        name=_text(info.get("name") or run.name),
        base=_text(info.get("base")),
        tuned=_text(info.get("tuned")),
        corpus=_text(info.get("corpus")),
        variant=_text(info.get("variant")),
        n_skipped_bos=_whole(info.get("n_skipped_bos")),
        n_skipped_sinks=_whole(info.get("n_skipped_sinks")),
        created_at=_text(info.get("created_at")),
        mneme_version=_text(info.get("mneme_version")),
        synthetic=info.get("synthetic") == "true",
        **whole,
    )


def _manifest(folder: Path) -> tuple[dict[str, Any], list[Missing]]:
    """manifest.json, and what to say where it can't be read."""
    again = "run the same `mneme run` command again"
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [Missing("versions and seeds: there is no manifest.json", again)]
    except (OSError, ValueError):
        return {}, [Missing("versions and seeds: manifest.json is damaged", again)]
    return (
        (found, [])
        if isinstance(found, dict)
        else ({}, [Missing("versions and seeds: manifest.json is damaged", again)])
    )


def _entries(values: Any) -> tuple[Entry, ...]:
    if not isinstance(values, dict):
        return ()
    return tuple(Entry(_text(name), _text(value)) for name, value in sorted(values.items()))


def _stages(run: Run) -> tuple[StageTime, ...]:
    rows = run.rows(
        "SELECT stage, seconds, peak_memory_mb, fingerprint FROM stages ORDER BY finished_at, rowid"
    )
    return tuple(StageTime(_text(a), _real(b), _real(c), _text(d)) for a, b, c, d in rows)


def _verdict_counts(run: Run) -> tuple[tuple[str, int], ...]:
    order = "['amplified', 'suppressed', 'uncertain', 'unchanged', 'dead']"
    rows = run.rows(
        "SELECT verdict, count(*) FROM latents WHERE verdict IS NOT NULL GROUP BY verdict"
        f" ORDER BY list_position({order}, verdict)"
    )
    return tuple((_text(verdict), n) for verdict, n in rows)


def _effect(row: dict[str, Any]) -> Effect:
    before, after = _real(row["accuracy_base"]), _real(row["accuracy_tuned"])
    return Effect(
        category=_text(row["category"]),
        name=_text(row["name"]),
        group=_text(row["grp"]),
        effect=_real(row["effect"]),
        ci_low=_real(row["ci_low"]),
        ci_high=_real(row["ci_high"]),
        direction=_text(row["direction"]),
        verdict=_text(row["verdict"]),
        nll_change=_real(row["nll_change"]),
        kl=_real(row["kl"]),
        n_tokens=_whole(row["n_tokens"]),
        measured_change=_real(row["change"]),
        measured_low=_real(row["change_low"]),
        measured_high=_real(row["change_high"]),
        accuracy_change=None if before is None or after is None else after - before,
        n_items=_whole(row["n_items"]),
        source=_text(row["source"]),
        call=_text(row["call"]),
    )


def _latents(run: Run, limit: int) -> tuple[Latent, ...]:
    """The most severe of each kind; one that is changed and redirected is listed once."""
    rows = run.sql(
        "WITH kinds AS (SELECT *, CASE WHEN verdict IN ('amplified', 'suppressed') THEN verdict"
        " WHEN redirected AND verdict <> 'dead' THEN 'redirected' END AS kind FROM latents)"
        " SELECT *, row_number() OVER (PARTITION BY kind ORDER BY severity DESC NULLS LAST, latent) AS place"
        " FROM kinds WHERE kind IS NOT NULL QUALIFY place <= ?"
        " ORDER BY list_position(['amplified', 'suppressed', 'redirected'], kind), place",
        [limit],
    )
    ids = [int(i) for i in rows["latent"]]
    labels = {
        r["latent"]: r
        for r in _records(
            run.sql(
                f"SELECT * FROM labels WHERE list_contains(?, latent) QUALIFY {_BEST_LABEL}",
                [ids],
            )
        )
    }
    categories: dict[int, list[str]] = {}
    for latent, name in run.rows(
        "SELECT l.latent, coalesce(c.name, l.category) FROM latent_categories l LEFT JOIN categories c"
        " USING (category) WHERE list_contains(?, l.latent) QUALIFY row_number() OVER"
        " (PARTITION BY l.latent ORDER BY l.weight DESC) <= 3 ORDER BY l.latent, l.weight DESC",
        [ids],
    ):
        categories.setdefault(latent, []).append(_text(name))
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
    )
    flags = {"dense": "dense", "position_bound": "position bound"}
    return Latent(
        latent=int(row["latent"]),
        verdict=_text(row["verdict"]),
        redirected=row["redirected"] is True,
        label=_text(label.get("label")),
        label_method=_text(label.get("method")),
        score=_real(label.get("score")),
        score_shuffled=_real(label.get("score_shuffled")),
        categories=tuple(categories),
        n_documents=_whole(row["n_documents"]),
        flags=tuple(name for column, name in flags.items() if row[column] is True),
        contexts=tuple(contexts),
        **{name: _real(row[name]) for name in numbers},
    )


def _contexts(run: Run, latents: list[int]) -> dict[int, list[Context]]:
    rows = run.rows(
        "SELECT c.latent, c.document, c.position, d.topic, c.tokens, c.activations FROM contexts c"
        " LEFT JOIN documents d USING (document) WHERE list_contains(?, c.latent) AND c.quantile = 0"
        " QUALIFY row_number() OVER (PARTITION BY c.latent ORDER BY c.rank, c.document) <= ?"
        " ORDER BY c.latent, c.rank",
        [latents, CONTEXTS],
    )
    found: dict[int, list[Context]] = {}
    for latent, document, position, topic, tokens, activations in rows:
        pairs = list(zip(tokens or [], activations or [], strict=False))
        found.setdefault(latent, []).append(
            Context(
                document=document,
                position=position,
                topic=_text(topic),
                tokens=tuple(_text(token, _TOKEN) for token, _ in pairs),
                activations=tuple(_real(a) or 0.0 for _, a in pairs),
            )
        )
    return found


def _health(run: Run) -> tuple[HealthCheck, ...]:
    rows = run.rows(
        "SELECT metric, title, value, unit, threshold, status, advice FROM health"
        " ORDER BY list_position(['fail', 'warn', 'ok', 'info'], status) NULLS LAST, metric"
    )
    return tuple(
        HealthCheck(_text(m), _text(t) or _text(m), _real(v), _text(u), _text(h), _text(s), _text(a, 400))
        for m, t, v, u, h, s, a in rows
    )


def _nulls(run: Run) -> tuple[Null, ...]:
    rows = run.rows("SELECT kind, n, n_false, rate, ci_low, ci_high, margin FROM nulls ORDER BY kind")
    return tuple(
        Null(_text(kind), _whole(n), _whole(false), _real(a), _real(b), _real(c), _real(d))
        for kind, n, false, a, b, c, d in rows
    )


def _scores(run: Run) -> tuple[Score, ...]:
    rows = run.rows(
        "SELECT method, metric, subset, value, ci_low, ci_high, n FROM evaluation"
        " ORDER BY subset, metric, method <> 'crosscoder', value DESC NULLS LAST"
    )
    return tuple(
        Score(_text(m), _text(k), _text(s), _real(v), _real(a), _real(b), _whole(n))
        for m, k, s, v, a, b, n in rows
    )


def _histogram(run: Run) -> tuple[Bin, ...]:
    rows = dict(
        run.rows(
            "SELECT least(greatest(floor(delta_norm * ?), 0), ? - 1)::INT, count(*) FROM latents"
            " WHERE NOT coalesce(dead, false) AND isfinite(delta_norm) GROUP BY 1",
            [BINS, BINS],
        )
    )
    return tuple(Bin(i / BINS, (i + 1) / BINS, rows.get(i, 0)) for i in range(BINS)) if rows else ()


def _points(run: Run) -> tuple[Point, ...]:
    rows = run.rows(
        "WITH live AS (SELECT latent, beta_base, beta_tuned, verdict,"
        " verdict IN ('amplified', 'suppressed') AS moved"
        " FROM latents WHERE isfinite(beta_base) AND isfinite(beta_tuned) AND verdict <> 'dead')"
        " SELECT latent, beta_base, beta_tuned, verdict FROM live"
        " QUALIFY row_number() OVER (PARTITION BY moved ORDER BY hash(latent)) <= if(moved, ? * 10, ?)"
        " ORDER BY latent",
        [POINTS, POINTS],
    )
    return tuple(Point(int(i), float(b), float(t), _text(v)) for i, b, t, v in rows)


def _missing_stages(run: Run, done: set[str]) -> list[Missing]:
    shown = {
        "harvest": "activations of the two models",
        "crosscoder": "the crosscoder",
        "attribution": "which latents changed",
        "interpretation": "contexts, labels and categories of the latents",
        "effects": "effects on subject areas",
    }
    command = "`mneme run run.toml --out .`, in the run's folder"
    return [Missing(f"{what} (stage {stage})", command) for stage, what in shown.items() if stage not in done]


def _missing_parts(
    run: Run, effects: tuple[Effect, ...], latents: tuple[Latent, ...], nulls: tuple[Null, ...]
) -> list[Missing]:
    """What finished stages leave open."""
    found = []
    without = sum(e.measured_change is None for e in effects)
    if effects and without:
        who = "any category" if without == len(effects) else f"{without} of {len(effects)} categories"
        found.append(
            Missing(
                f"a measured outcome for {who}: their prediction is not checked",
                "`mneme run run.toml --set effects.outcomes=FILE.csv --out .`, in the run's folder"
                " (columns: category, base, tuned)",
            )
        )
    unscored = sum(bool(x.label) and x.score is None for x in latents)
    if unscored:
        found.append(
            Missing(f"a held-out score for {unscored} of the labels listed: treat them as guesses", "")
        )
    if latents and all(x.stability is None for x in latents):
        found.append(Missing("whether retrained dictionaries find these latents again", ""))
    if not nulls and run.rows("SELECT count(*) FROM latents")[0][0]:
        found.append(Missing("the false-positive rate on a pair that did not change (null runs)", ""))
    return found


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).to_dict("records")  # type: ignore[return-value]


def _real(value: Any) -> float | None:
    return None if missing(value) or not math.isfinite(value) else float(value)


def _whole(value: Any) -> int | None:
    try:
        return None if missing(value) else int(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any, limit: int = _TEXT) -> str:
    return "" if missing(value) else cut(str(value), limit)
