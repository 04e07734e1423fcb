"""Do the intervals of categories' NLL changes hold their mean as often as they say? On a run's own documents.

    python benchmarks/interval_coverage.py RUN [--draws 100]

Every category's documents, with their shares of its text, stand for what it could have read (`own`; `home`: only those
of which it is 30% or more). As many are drawn from them again as the category has; the interval of the draw holds the
mean of all, or not. Draws that rest on fewer than three documents are left out, as verdicts are. `percentile`: what
intervals of sums are otherwise (stats/bootstrap.py). What no draw holds, a document unlike all others that is drawn by
none, no interval can tell: so the smallest coverage is given beside the mean. Minutes: the run's text is read again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import floor, print_result
from scipy import sparse

from mneme._util.progress import NULL_PROGRESS
from mneme.effects.predict import effective_documents
from mneme.effects.windows import per_document
from mneme.run.finished import finished_context
from mneme.run.power import text_of
from mneme.stats.bootstrap import Ratio, departures, ratio_intervals, unseen_unit_intervals

COVERED, LEAST_DOCUMENTS, HOME, MARGIN = 0.93, 3.0, 0.3, 0.05


def changes(folder: Path) -> tuple[sparse.csr_array, sparse.csr_array, np.ndarray]:
    """(D, C): each document's summed NLL change and measured tokens by category, and its share of the document."""
    context, _ = finished_context(folder, NULL_PROGRESS)
    assigned = text_of(context)
    cache, windows = context.cache, assigned.windows
    change = (cache.nll_tuned - cache.nll_base).astype(np.float64)
    known = np.isfinite(change)
    window, n = windows.row_window[known], len(windows.document)
    sums = (
        np.bincount(window, weights=change[known], minlength=n),
        np.bincount(window, minlength=n).astype(float),
    )
    top, bottom = (per_document(assigned.weights, windows.document, each) for each in sums)
    rows = per_document(assigned.weights, windows.document, windows.n_rows.astype(float)).toarray()
    size = np.bincount(windows.document, weights=windows.n_rows, minlength=len(rows))
    return top, bottom, rows / np.maximum(size, 1)[:, None]


def main() -> None:
    """Print a line a kind of population and interval, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draws", type=int, default=100)
    given = parser.parse_args()
    top, bottom, share = changes(given.run)
    apart = departures(top, bottom)
    rng = np.random.default_rng(0)
    results = {}
    for kind, least in (("own", 0.0), ("home", HOME)):
        found: dict[str, list[tuple[float, ...]]] = {"percentile": [], "unseen": []}
        for c in range(bottom.shape[1]):
            x, y = bottom[:, [c]].toarray().ravel(), top[:, [c]].toarray().ravel()
            of = (x > 0) & (share[:, c] >= least)
            if of.sum() < LEAST_DOCUMENTS:
                continue
            drawn = rng.integers(of.sum(), size=(of.sum(), given.draws))
            rows = sparse.csr_array(y[of][drawn]), sparse.csr_array(x[of][drawn])
            enough = effective_documents(rows[1]) >= LEAST_DOCUMENTS
            if enough.mean() < 0.25:
                continue
            settings = {"replicates": 400, "level": 0.95, "seed": c}
            intervals = {
                "percentile": ratio_intervals(*rows, **settings),
                "unseen": unseen_unit_intervals(*rows, apart, **settings),
            }
            for name, each in intervals.items():
                found[name].append(judged(each, y[of].sum() / x[of].sum(), enough))
        for name, rates in found.items():
            mean = np.mean(rates, axis=0)
            results[f"{kind}_{name}"] = {
                "coverage": round(float(mean[0]), 3),
                "smallest": round(min(rate[0] for rate in rates), 2),
                "falsely_degraded": round(float(mean[1]), 4),
                "falsely_within": round(float(mean[2]), 4),
                "categories": len(rates),
            }
            print(kind, name, results[f"{kind}_{name}"])
    print_result(
        "interval_coverage",
        results,
        {
            f"{kind}_coverage": floor(results[f"{kind}_unseen"]["coverage"], COVERED)
            for kind in ("own", "home")
        },
    )


def judged(found: Ratio, truth: float, enough: np.ndarray) -> tuple[float, float, float]:
    """Shares of draws: the interval holds the truth; says degraded where that is not; within where that is not."""
    low, high = found.low[enough], found.high[enough]
    within = (low > -MARGIN) & (high < MARGIN)
    return (
        float(((low <= truth) & (truth <= high)).mean()),
        float((low > MARGIN).mean()) if truth <= MARGIN else 0.0,
        float(within.mean()) if abs(truth) > MARGIN else 0.0,
    )


if __name__ == "__main__":
    main()
