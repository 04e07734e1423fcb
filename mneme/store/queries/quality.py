"""How far a run can be trusted: health, training, nulls, stages."""

from __future__ import annotations

import pandas as pd

from mneme.store.run import Run


def health(run: Run) -> pd.DataFrame:
    """metric, title, value, unit, threshold, status, advice; the worst status first."""
    return run.sql(
        "SELECT * FROM health"
        " ORDER BY list_position(['fail', 'warn', 'ok', 'info'], status) NULLS LAST, metric"
    )


def status_counts(run: Run) -> dict[str, int]:
    """Status -> health metrics of it."""
    return dict(run.rows("SELECT status, count(*) FROM health GROUP BY 1"))


def uncertain_reasons(run: Run) -> list[tuple[str, int]]:
    """Reason -> uncertain latents of it, the most frequent first; '' where an earlier mneme kept none."""
    return run.rows(
        "SELECT coalesce(reason, ''), count(*) FROM latents WHERE verdict = 'uncertain'"
        " GROUP BY 1 ORDER BY 2 DESC, 1"
    )


def training(run: Run) -> pd.DataFrame:
    """The training curve, in order of steps."""
    return run.sql("SELECT * FROM training ORDER BY step")


def nulls(run: Run) -> pd.DataFrame:
    """False-positive rates on null comparisons."""
    return run.sql("SELECT * FROM nulls ORDER BY kind")


def power(run: Run) -> pd.DataFrame:
    """Table `power`, with the category's name; empty where the positive control was not made."""
    return run.sql(
        "SELECT p.*, coalesce(k.name, p.category) AS name FROM power p LEFT JOIN categories k USING (category)"
        " ORDER BY p.category NULLS FIRST, p.channel"
    )


def null_rate(run: Run) -> float:
    """The largest measured share of latents called changed in a null pair; 0 when none was measured."""
    return float(run.rows("SELECT coalesce(max(rate), 0) FROM nulls")[0][0])


def stages(run: Run) -> pd.DataFrame:
    """stage, seconds, peak_memory_mb, finished_at; in the order they finished."""
    return run.sql("SELECT stage, seconds, peak_memory_mb, finished_at FROM stages ORDER BY finished_at")


def finished_stages(run: Run) -> set[str]:
    """Names of the stages that are done."""
    return {name for (name,) in run.rows("SELECT stage FROM stages")}


def stage_rows(run: Run) -> list[tuple[str, float, float, str]]:
    """(stage, seconds, peak memory in MB, fingerprint), in the order they finished."""
    return run.rows(
        "SELECT stage, seconds, peak_memory_mb, fingerprint FROM stages ORDER BY finished_at, rowid"
    )


def health_values(run: Run) -> dict[str, float]:
    """Metric -> value; without those for which there was nothing to measure."""
    found = run.rows("SELECT metric, value FROM health WHERE value IS NOT NULL AND NOT isnan(value)")
    return {str(metric): float(value) for metric, value in found}


def label_counts(run: Run) -> list[tuple[str, int]]:
    """(method, labels by it)."""
    return run.rows("SELECT method, count(*) FROM labels GROUP BY 1 ORDER BY 1")


def power_retrained(run: Run) -> pd.DataFrame:
    """Table `power_retrained`, with the category's name, by size; empty where it was not made."""
    return run.sql(
        "SELECT p.*, coalesce(k.name, p.category) AS name FROM power_retrained p"
        " LEFT JOIN categories k USING (category) ORDER BY size"
    )


def mean_stability(run: Run) -> float:
    """Mean share of the dictionaries of other seeds that find a live latent again; NaN where none was trained."""
    found = run.rows("SELECT avg(stability) FROM latents")[0][0]
    return float("nan") if found is None else float(found)
