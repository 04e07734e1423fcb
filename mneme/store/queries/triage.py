"""What to review first: the one place that says how latents are ranked for it.

    priority    = severity x uncertainty
    uncertainty = w / (1 + w), w the width of the 95 % interval of the log ratio: 0 sure, 1 nothing known

A missing or infinite interval counts as 1, so that what was never pinned down is not passed over. Changed latents
(amplified, suppressed, redirected) come before uncertain ones, whose intervals are wide by definition; unchanged and
dead latents are no findings and don't queue. So a severe change with a wide interval comes first: most hangs on it,
and the numbers alone settle it least.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL, MAIN_CATEGORY
from mneme.store.queries.words import changed
from mneme.store.run import Run

_WIDTH = "(l.ci_high - l.ci_low)"
_UNCERTAINTY = f"CASE WHEN isfinite({_WIDTH}) THEN {_WIDTH} / (1 + {_WIDTH}) ELSE 1 END"
_CHANGED = changed("l.verdict")
_QUEUE = f"({_CHANGED} OR l.verdict = 'uncertain')"
_ORDER = f"{_CHANGED} DESC, coalesce(l.severity, 0) * {_UNCERTAINTY} DESC, l.latent"


def queue(
    run: Run, *, only: Collection[int] | None = None, without: Collection[int] = (), limit: int = 500
) -> pd.DataFrame:
    """The first `limit` latents of the queue, with `priority` and what tables of latents show.

    only: these, whether they queue or not; without: not these.
    """
    chosen = _QUEUE if only is None else "list_contains(?, l.latent)"
    return run.sql(
        f"SELECT l.*, coalesce(l.severity, 0) * {_UNCERTAINTY} AS priority, b.label, b.unreliable,"
        " coalesce(k.name, c.category) AS category"
        f" FROM latents l LEFT JOIN {BEST_LABEL} b USING (latent)"
        f" LEFT JOIN {MAIN_CATEGORY} c USING (latent) LEFT JOIN categories k ON k.category = c.category"
        f" WHERE {chosen} AND NOT list_contains(?, l.latent) ORDER BY {_ORDER} LIMIT {int(limit)}",
        [*([] if only is None else [list(only)]), list(without)],
    )


def following(run: Run, without: Collection[int]) -> int | None:
    """The first latent of the queue that is none of `without`; None when all are."""
    found = run.rows(
        f"SELECT l.latent FROM latents l WHERE {_QUEUE} AND NOT list_contains(?, l.latent)"
        f" ORDER BY {_ORDER} LIMIT 1",
        [list(without)],
    )
    return found[0][0] if found else None


def progress(run: Run, reviewed: Collection[int]) -> dict[str, int]:
    """Latents that queue, and how many of them are reviewed: changed, changed_done, uncertain, uncertain_done."""
    rows = run.rows(
        f"SELECT {_CHANGED}, count(*), count(*) FILTER (list_contains(?, l.latent)) FROM latents l"
        f" WHERE {_QUEUE} GROUP BY 1",
        [list(reviewed)],
    )
    found = {"changed": 0, "changed_done": 0, "uncertain": 0, "uncertain_done": 0}
    for moved, n, done in rows:
        name = "changed" if moved else "uncertain"
        found.update({name: n, f"{name}_done": done})
    return found
