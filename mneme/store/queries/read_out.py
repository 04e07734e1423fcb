"""Read-out dictionaries of a run (`mneme read-out`): what each says, and its changed latents."""

from __future__ import annotations

import pandas as pd

from mneme.store.run import Run

CHANGED = ("amplified", "suppressed")


def summaries(run: Run) -> pd.DataFrame:
    """A row a dictionary: the table `read_outs`, and how many of its latents live and have which verdict."""
    return run.sql(
        "SELECT r.*, l.* EXCLUDE (dictionary) FROM read_outs r LEFT JOIN (SELECT dictionary,"
        " count(*) FILTER (verdict <> 'dead') AS n_live, count(*) FILTER (verdict = 'suppressed') AS n_suppressed,"
        " count(*) FILTER (verdict = 'amplified') AS n_amplified, count(*) FILTER (verdict = 'unchanged') AS"
        " n_unchanged, count(*) FILTER (verdict = 'uncertain') AS n_uncertain"
        " FROM read_out_latents GROUP BY dictionary) l USING (dictionary) ORDER BY dictionary"
    )


def changed(run: Run, dictionary: str, verdict: str, limit: int = 1000) -> pd.DataFrame:
    """Latents of one dictionary with a verdict, the most severe first, each with its strongest context."""
    return run.sql(
        "SELECT l.*, c.document, c.tokens, c.activations FROM read_out_latents l"
        " LEFT JOIN (SELECT * FROM read_out_contexts WHERE rank = 0) c USING (dictionary, latent)"
        " WHERE l.dictionary = ? AND l.verdict = ?"
        " ORDER BY l.severity DESC NULLS LAST, l.latent LIMIT ?",
        [dictionary, verdict, limit],
    )


def contexts(run: Run, dictionary: str, latent: int) -> pd.DataFrame:
    """Its top contexts, the strongest first, with each document's topic."""
    return run.sql(
        "SELECT c.*, d.topic FROM read_out_contexts c LEFT JOIN documents d USING (document)"
        " WHERE c.dictionary = ? AND c.latent = ? ORDER BY c.rank",
        [dictionary, latent],
    )
