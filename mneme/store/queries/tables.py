"""Tables of a run as they are, for stages and checks that compute on them."""

from __future__ import annotations

import pandas as pd

from mneme.store.run import Run


def latents(run: Run) -> pd.DataFrame:
    """Table `latents`, in order of latents: row j is latent j."""
    return run.sql("SELECT * FROM latents ORDER BY latent")


def effects(run: Run) -> pd.DataFrame:
    """Table `effects`."""
    return run.sql("SELECT * FROM effects")


def outcomes(run: Run) -> pd.DataFrame:
    """Table `outcomes`."""
    return run.sql("SELECT * FROM outcomes")


def baselines(run: Run) -> pd.DataFrame:
    """Table `baselines`."""
    return run.sql("SELECT * FROM baselines")


def evaluation(run: Run) -> pd.DataFrame:
    """Table `evaluation`."""
    return run.sql("SELECT method, metric, subset, value, ci_low, ci_high, n FROM evaluation")
