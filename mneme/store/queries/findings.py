"""Findings: sets of changed latents that do one thing."""

from __future__ import annotations

import tomllib
from typing import Any

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL
from mneme.store.run import FINDINGS, Run

_DEFAULT_SHARE = 0.125  # what effects.min_affected_share is unless a run sets it


def findings(run: Run, *, parts: bool = False) -> pd.DataFrame:
    """A row a finding, the one that explains most first, with its areas and what patching it did; `parts`: those too.

    `areas`: names of the categories that it affects beyond `effects.min_affected_share`, the most affected first.
    Columns of `causal_findings` as causal_share, causal_low, causal_high, causal_pca, of_pca, of_pca_low, of_pca_high:
    NULL until `mneme causal`.
    """
    return run.sql(f"{FINDINGS} {'' if parts else 'WHERE parent IS NULL'} {_ORDER}", [_least_share(run)])


def latents_changed(run: Run) -> tuple[int, int]:
    """(changed latents that belong to a finding, changed latents)."""
    (found,) = run.rows(
        "SELECT (SELECT count(*) FROM finding_latents WHERE home AND finding IN"
        " (SELECT finding FROM findings WHERE parent IS NULL)),"
        " (SELECT count(*) FROM latents WHERE verdict IN ('amplified', 'suppressed', 'redirected'))"
    )
    return int(found[0]), int(found[1])


def members(run: Run, finding: str) -> pd.DataFrame:
    """Its latents with their own evidence, those that explain most first."""
    return run.sql(
        "SELECT m.latent, m.home, m.correlation, m.share, l.verdict, b.label, b.unreliable, l.log_ratio, l.ci_low,"
        " l.ci_high, l.q_value, l.decoder_cosine, l.firing_rate, l.nll_change, l.stability"
        " FROM finding_latents m LEFT JOIN latents l USING (latent)"
        f" LEFT JOIN {BEST_LABEL} b USING (latent) WHERE m.finding = ? ORDER BY m.rank",
        [finding],
    )


def homes(run: Run, limit: int | None = None) -> dict[str, list[int]]:
    """Finding -> its own latents, of the first `limit` findings; parts are left out."""
    found = run.rows(
        "SELECT f.finding, list(m.latent ORDER BY m.rank) FROM findings f JOIN finding_latents m USING (finding)"
        ' WHERE f.parent IS NULL AND m.home AND ($1 IS NULL OR f."rank" < $1)'
        ' GROUP BY f.finding, f."rank" ORDER BY f."rank"',
        [limit],
    )
    return {str(finding): [int(j) for j in latents] for finding, latents in found}


def dimensions(run: Run) -> dict[str, int]:
    """Finding -> principal directions that hold 90% of its squared displacement; parts are left out."""
    found = run.rows('SELECT finding, dimensions FROM findings WHERE parent IS NULL ORDER BY "rank"')
    return {str(finding): int(n) for finding, n in found if n is not None}


def categories(run: Run, finding: str) -> pd.DataFrame:
    """How much of each category it affects, the most first."""
    return run.sql(
        "SELECT c.*, coalesce(k.name, c.category) AS name FROM finding_categories c"
        " LEFT JOIN categories k USING (category) WHERE c.finding = ?"
        " ORDER BY c.affected_share DESC NULLS LAST, c.category",
        [finding],
    )


def contexts(run: Run, finding: str, limit: int = 20) -> list[dict[str, Any]]:
    """Contexts in which it moves tokens furthest, with the document's topic."""
    found = run.rows(
        "SELECT c FROM (SELECT c.*, d.topic FROM finding_contexts c LEFT JOIN documents d USING (document)"
        " WHERE c.finding = ? ORDER BY c.rank LIMIT ?) c ORDER BY c.rank",
        [finding, limit],
    )
    return [row for (row,) in found]


def lens(run: Run, finding: str) -> pd.DataFrame:
    """direction (top, bottom), rank, token, logit: what its change promotes and demotes in the tuned model."""
    return run.sql(
        'SELECT direction, "rank", token, logit FROM finding_lens WHERE finding = ? ORDER BY direction, "rank"',
        [finding],
    )


def causal(run: Run, finding: str) -> pd.DataFrame:
    """Rows of `causal_findings`: the finding before what it is held against."""
    return run.sql(
        "SELECT * FROM causal_findings WHERE finding = ? ORDER BY patch DESC, list_position(['finding', 'pca',"
        " 'other findings', 'random latents', 'random direction'], source)",
        [finding],
    )


def _least_share(run: Run) -> float:
    """The run's own effects.min_affected_share."""
    try:
        settings = tomllib.loads((run.path / "run.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return _DEFAULT_SHARE
    found = settings.get("effects", {}).get("min_affected_share")
    return float(found) if isinstance(found, int | float) else _DEFAULT_SHARE


_ORDER = 'ORDER BY parent IS NOT NULL, parent, "rank"'
