"""Everything about one latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL, ORDER, UNRELIABLE
from mneme.store.queries.latents import FLAGS
from mneme.store.run import Run


def row(run: Run, latent: int) -> dict[str, Any] | None:
    """Its row of `latents`, NULL as None; None when there is no such latent."""
    found = run.rows("SELECT l FROM latents l WHERE latent = ?", [latent])
    return found[0][0] if found else None


def flags(run: Run, latent: int) -> list[str]:
    """The names of FLAGS that hold of it: the same rules by which the filter finds latents."""
    asked = ", ".join(f"coalesce({rule}, false)" for rule in FLAGS.values())
    found = run.rows(f"SELECT {asked} FROM latents l WHERE l.latent = ?", [latent])
    return [flag for flag, holds in zip(FLAGS, found[0], strict=True) if holds] if found else []


def briefs(run: Run, latents: Sequence[int]) -> pd.DataFrame:
    """What a list says of these latents: latent, verdict, label, unreliable, log_ratio."""
    return run.sql(
        "SELECT l.latent, l.verdict, b.label, b.unreliable, l.log_ratio FROM latents l"
        f" LEFT JOIN {BEST_LABEL} b USING (latent) WHERE l.latent IN (SELECT unnest(?::INTEGER[])) ORDER BY 1",
        [[int(latent) for latent in latents]],
    )


def most_severe(run: Run) -> int | None:
    """The latent to show when none is asked for."""
    found = run.rows("SELECT latent FROM latents ORDER BY severity DESC NULLS LAST, latent LIMIT 1")
    return found[0][0] if found else None


def labels(run: Run, latent: int) -> pd.DataFrame:
    """Its labels, the best first: label, method, score, score_shuffled, unreliable, detail."""
    return run.sql(
        f"SELECT label, method, score, score_shuffled, {UNRELIABLE} AS unreliable, detail"
        " FROM labels WHERE latent = ?"
        f" ORDER BY {ORDER} DESC, method",
        [latent],
    )


def telling_labels(run: Run) -> pd.DataFrame:
    """Labels that may say what a latent is about: latent, label, detail; an LLM's before the offline ones.

    They tell what the text says (not "promotes: ...", a place or a mark) and fit held-out contexts better than
    other latents' labels do.
    """
    return run.sql(
        "SELECT latent, label, detail FROM labels"
        f" WHERE NOT {UNRELIABLE}"
        " AND coalesce(json_extract_string(detail, '$.kind'), 'llm') IN ('llm', 'words', 'subject', 'mixed')"
        " ORDER BY latent, method <> 'offline' DESC"
    )


def categories(run: Run, latent: int) -> pd.DataFrame:
    """Its categories, the heaviest first: category, name, weight."""
    return run.sql(
        "SELECT c.category, coalesce(k.name, c.category) AS name, c.weight FROM latent_categories c"
        " LEFT JOIN categories k USING (category) WHERE c.latent = ? ORDER BY c.weight DESC, c.category",
        [latent],
    )


def betas(run: Run, latent: int) -> pd.DataFrame:
    """A row a (probe, target): base, tuned, and the ends of their intervals where known, base_low ... tuned_high."""
    return run.sql(
        "SELECT probe, target, max(beta) FILTER (model = 'base') AS base,"
        " max(beta) FILTER (model = 'tuned') AS tuned,"
        " max(ci_low) FILTER (model = 'base') AS base_low, max(ci_high) FILTER (model = 'base') AS base_high,"
        " max(ci_low) FILTER (model = 'tuned') AS tuned_low, max(ci_high) FILTER (model = 'tuned') AS tuned_high"
        " FROM betas WHERE latent = ?"
        " GROUP BY probe, target"
        " ORDER BY list_position(['error', 'reconstruction', 'activation'], target), probe",
        [latent],
    )


def histogram(run: Run, latent: int) -> pd.DataFrame:
    """Its activations: low, high (raw units), n (tokens)."""
    return run.sql("SELECT low, high, n FROM activation_histogram WHERE latent = ? ORDER BY bin", [latent])


def quantiles(run: Run, latent: int) -> dict[int, int]:
    """Quantile -> number of contexts kept of it; 0 is the top ones."""
    return dict(
        run.rows("SELECT quantile, count(*) FROM contexts WHERE latent = ? GROUP BY 1 ORDER BY 1", [latent])
    )


def contexts(run: Run, latent: int, quantile: int, limit: int = 20) -> list[dict[str, Any]]:
    """Contexts of one quantile, the strongest first, with the document's topic."""
    found = run.rows(
        "SELECT c FROM (SELECT c.*, d.topic FROM contexts c LEFT JOIN documents d USING (document)"
        " WHERE c.latent = ? AND c.quantile = ? ORDER BY c.rank LIMIT ?) c ORDER BY c.rank",
        [latent, quantile, limit],
    )
    return [row for (row,) in found]


def logit_lens(run: Run, latent: int) -> pd.DataFrame:
    """model, direction, rank, token, logit."""
    return run.sql(
        "SELECT model, direction, rank, token, logit FROM logit_lens WHERE latent = ?"
        " ORDER BY model, direction, rank",
        [latent],
    )


def neighbours(run: Run, latent: int) -> pd.DataFrame:
    """kind, neighbour, similarity, verdict, label, unreliable."""
    return run.sql(
        "SELECT n.kind, n.neighbour, n.similarity, l.verdict, b.label, b.unreliable"
        " FROM neighbours n LEFT JOIN latents l ON l.latent = n.neighbour"
        f" LEFT JOIN {BEST_LABEL} b ON b.latent = n.neighbour"
        " WHERE n.latent = ? ORDER BY n.kind, n.similarity DESC",
        [latent],
    )
