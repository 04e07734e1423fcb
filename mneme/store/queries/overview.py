"""The first screen: what to look at first, and how sure."""

from __future__ import annotations

import pandas as pd

from mneme._util.vocabulary import CHANGED
from mneme.store.queries.latents import LatentFilter, table
from mneme.store.run import Run


def look_at_first(run: Run, n: int = 6) -> pd.DataFrame:
    """The most severe changed latents; columns of `queries.latents.table`."""
    return table(run, LatentFilter(verdicts=CHANGED), sort="severity", limit=n)
