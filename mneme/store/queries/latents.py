"""Which latents pass a filter: count them, page through them, plot them, step through them.

The filter is a frozen dataclass that becomes one WHERE clause, so that the scatter, the histogram, the map
and the table always agree. A box drawn on a plot is a range of two columns: it goes to the database as
bounds, and no list of points ever comes back from the browser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mneme._util.vocabulary import LATENT_VERDICTS
from mneme.store.queries.labels import BEST_LABEL, MAIN_CATEGORY
from mneme.store.queries.words import changed
from mneme.store.run import Run

VERDICTS = tuple(LATENT_VERDICTS)
FLAGS = {
    "turned": "l.turned",
    "dense": "l.dense",
    "dead": "l.dead",
    "position bound": "l.position_bound",
    # Beta of either model, from half of the documents each, differs by more than half of its size.
    "unstable": "greatest(l.split_half_base, l.split_half_tuned)"
    " > 0.5 * greatest(abs(l.beta_base), abs(l.beta_tuned), 1e-9)",
    "unreliable label": f"l.latent IN (SELECT latent FROM {BEST_LABEL} WHERE unreliable)",
}
# What a box can bound: columns of `latents` and what is drawn of them.
AXES = {
    "delta_norm": "l.delta_norm",
    "beta_base": "l.beta_base",
    "beta_tuned": "l.beta_tuned",
    "umap_x": "l.umap_x",
    "umap_y": "l.umap_y",
}
SORTS = {
    "severity": ("Severity", "l.severity DESC"),
    "log_ratio_up": ("Most amplified", "l.log_ratio DESC"),
    "log_ratio_down": ("Most suppressed", "l.log_ratio ASC"),
    "q_value": ("Surest change (q)", "l.q_value ASC"),
    "firing_rate": ("Fires most", "l.firing_rate DESC"),
    "firing_rate_low": ("Fires least", "l.firing_rate ASC"),
    "kl": ("Behaviour: KL", "l.kl DESC"),
    "nll_change": ("Behaviour: NLL change", "l.nll_change DESC"),
    "score": ("Label score", "b.score DESC"),
    "cosine": ("Decoders most apart", "l.decoder_cosine ASC"),
    "latent": ("Number", "l.latent ASC"),
    "match": ("Best match", "m.place ASC"),
}


@dataclass(frozen=True)
class LatentFilter:
    """What a latent must be; the empty filter passes all."""

    verdicts: tuple[str, ...] = ()
    category: str | None = None
    """A key of `categories` that is among the latent's categories."""
    q_max: float | None = None
    rate_min: float | None = None
    """Share of tokens."""
    rate_max: float | None = None
    text: str = ""
    """Occurs in the label, or is the latent's number."""
    also: tuple[int, ...] = ()
    """Latents that pass `text` too: an analyst's own label of them holds it."""
    among: tuple[int, ...] | None = None
    """Only these: what a search found, the best match first."""
    reviewed: tuple[int, ...] | None = None
    """Only these: what analysts said of them was asked for."""
    without: tuple[int, ...] = ()
    """Not these."""
    flags: tuple[str, ...] = ()
    """Names of FLAGS; any of them."""
    relabelled: tuple[int, ...] = ()
    """Latents whose label an analyst wrote: an unreliable automatic one is no flag of theirs."""
    boxes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Axis of AXES -> bounds."""

    def where(self) -> tuple[str, list[Any]]:
        """The clause and its parameters, in order."""
        clauses: list[str] = []
        values: list[Any] = []
        if self.verdicts:
            clauses.append(f"l.verdict IN ({', '.join('?' * len(self.verdicts))})")
            values += self.verdicts
        if self.category:
            clauses.append("l.latent IN (SELECT latent FROM latent_categories WHERE category = ?)")
            values.append(self.category)
        for column, sign, bound in (
            ("l.q_value", "<=", self.q_max),
            ("l.firing_rate", ">=", self.rate_min),
            ("l.firing_rate", "<=", self.rate_max),
        ):
            if bound is not None:
                clauses.append(f"{column} {sign} ?")
                values.append(bound)
        if self.text.strip():
            clauses.append(
                "(contains(lower(b.label), lower(?)) OR l.latent::VARCHAR = ?"
                " OR l.latent IN (SELECT unnest(?::INTEGER[])))"
            )
            values += [self.text.strip(), self.text.strip(), list(self.also)]
        for only in (self.among, self.reviewed):
            if only is not None:
                clauses.append("l.latent IN (SELECT unnest(?::INTEGER[]))")
                values.append(list(only))
        if self.without:
            clauses.append("l.latent NOT IN (SELECT unnest(?::INTEGER[]))")
            values.append(list(self.without))
        if self.flags:
            own = {"unreliable label": " AND l.latent NOT IN (SELECT unnest(?::INTEGER[]))"}
            clauses.append("(" + " OR ".join(FLAGS[flag] + own.get(flag, "") for flag in self.flags) + ")")
            values += [list(self.relabelled)] * (set(self.flags) & set(own) != set())
        for axis, (low, high) in self.boxes.items():
            clauses.append(f"{AXES[axis]} BETWEEN ? AND ?")
            values += [low, high]
        return " AND ".join(clauses) or "TRUE", values

    @property
    def empty(self) -> bool:
        return self.where()[0] == "TRUE"


def _source(where: LatentFilter) -> tuple[str, list[Any]]:
    clause, values = where.where()
    labels = f" LEFT JOIN {BEST_LABEL} b USING (latent)" if where.text.strip() else ""
    return f"FROM latents l{labels} WHERE {clause}", values


def count(run: Run, where: LatentFilter) -> int:
    """Latents that pass."""
    source, values = _source(where)
    return int(run.rows(f"SELECT count(*) {source}", values)[0][0])


def verdict_counts(run: Run, where: LatentFilter | None = None) -> dict[str, int]:
    """Verdict -> latents that pass."""
    source, values = _source(where or LatentFilter())
    found = dict(run.rows(f"SELECT coalesce(l.verdict, 'uncertain'), count(*) {source} GROUP BY 1", values))
    return {v: int(found.get(v, 0)) for v in VERDICTS}


def table(run: Run, where: LatentFilter, *, sort: str = "severity", limit: int = 1000) -> pd.DataFrame:
    """The first `limit` latents that pass, in the order of SORTS, with label and main category."""
    clause, values = where.where()
    sort, place, places = _place(where, sort)
    return run.sql(
        "SELECT l.latent, l.verdict, b.label, coalesce(k.name, c.category) AS category, l.severity,"
        " l.reason, l.log_ratio, l.ci_low, l.ci_high, l.q_value, l.delta_norm, l.beta_base, l.beta_tuned,"
        " l.firing_rate, l.kl, l.nll_change, b.score, b.unreliable, l.turned, l.stability"
        f" FROM latents l{place} LEFT JOIN {BEST_LABEL} b USING (latent)"
        f" LEFT JOIN {MAIN_CATEGORY} c USING (latent) LEFT JOIN categories k ON k.category = c.category"
        f" WHERE {clause} ORDER BY {_order(sort)} LIMIT {int(limit)}",
        [*places, *values],
    )


def points(run: Run, where: LatentFilter, x: str, y: str, *, limit: int = 30_000) -> pd.DataFrame:
    """At most `limit` latents that pass and have both axes: latent, x, y, verdict.

    Changed latents first, the most severe before others: where there are more than fit, it is those that moved
    least that are left to the density.
    """
    source, values = _source(where)
    return run.sql(
        f"SELECT l.latent, {AXES[x]}::FLOAT AS x, {AXES[y]}::FLOAT AS y, l.verdict {source}"
        f" AND {AXES[x]} IS NOT NULL AND {AXES[y]} IS NOT NULL"
        f" ORDER BY {changed('l.verdict')} DESC, l.severity DESC NULLS LAST, l.latent"
        f" LIMIT {int(limit)}",
        values,
    )


def point_categories(run: Run, latents: Sequence[int] | None = None) -> pd.DataFrame:
    """latent, grp: the group of each latent's main category."""
    found = run.sql(
        "SELECT c.latent, coalesce(k.domain, k.grp, c.category) AS grp"
        f" FROM {MAIN_CATEGORY} c LEFT JOIN categories k USING (category) ORDER BY c.latent"
    )
    return found if latents is None else found[found["latent"].isin(latents)]


def density(
    run: Run, where: LatentFilter, x: str, y: str, bounds: tuple[float, float, float, float], bins: int = 160
) -> np.ndarray:
    """(bins, bins) counts, rows y upward, of the latents that pass, within bounds (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = bounds
    source, values = _source(where)
    rows = run.rows(
        f"SELECT floor((({AXES[x]}) - ?) / ? * {bins})::INT AS i, floor((({AXES[y]}) - ?) / ? * {bins})::INT"
        f" AS j, count(*) {source} AND {AXES[x]} >= ? AND {AXES[x]} < ? AND {AXES[y]} >= ? AND {AXES[y]} < ?"
        " GROUP BY 1, 2",
        [x0, x1 - x0, y0, y1 - y0, *values, x0, x1, y0, y1],
    )
    grid = np.zeros((bins, bins), np.float32)
    for i, j, n in rows:
        grid[min(j, bins - 1), min(i, bins - 1)] = n
    return grid


def span(run: Run, axis: str) -> tuple[float, float]:
    """The range of an axis that holds 99.8% of the live latents."""
    found = run.rows(
        f"SELECT quantile_cont({AXES[axis]}, 0.001), quantile_cont({AXES[axis]}, 0.999)"
        f" FROM latents l WHERE isfinite({AXES[axis]})"
    )[0]
    low, high = (0.0, 1.0) if found[0] is None else (float(found[0]), float(found[1]))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def norm_histogram(run: Run, where: LatentFilter, bins: int = 50) -> pd.DataFrame:
    """bin (0..bins-1 over delta_norm in [0, 1]), verdict, n; live latents."""
    source, values = _source(where)
    return run.sql(
        f"SELECT least(floor(l.delta_norm * {bins}), {bins - 1})::INT AS bin, l.verdict, count(*) AS n"
        f" {source} AND l.delta_norm IS NOT NULL AND l.verdict <> 'dead' GROUP BY 1, 2 ORDER BY 1, 2",
        values,
    )


def beside(run: Run, where: LatentFilter, latent: int, *, sort: str = "severity") -> dict[str, int | None]:
    """The latent's place in the filtered order: previous, next, place (from 1), of."""
    clause, values = where.where()
    sort, place, places = _place(where, sort)
    labelled = f" LEFT JOIN {BEST_LABEL} b USING (latent)" if where.text.strip() or sort == "score" else ""
    found = run.rows(
        f"WITH o AS (SELECT l.latent, row_number() OVER w AS place, lag(l.latent) OVER w AS previous,"
        f" lead(l.latent) OVER w AS following FROM latents l{place}{labelled} WHERE {clause}"
        f" WINDOW w AS (ORDER BY {_order(sort)}))"
        " SELECT previous, following, place, (SELECT count(*) FROM o) FROM o WHERE latent = ?",
        [*places, *values, latent],
    )
    if found:
        return dict(zip(("previous", "next", "place", "of"), found[0], strict=True))
    first = run.rows(
        f"SELECT l.latent FROM latents l{place}{labelled} WHERE {clause} ORDER BY {_order(sort)} LIMIT 1",
        [*places, *values],
    )
    return {
        "previous": None,
        "next": first[0][0] if first else None,
        "place": None,
        "of": count(run, where),
    }


def _place(where: LatentFilter, sort: str) -> tuple[str, str, list[Any]]:
    """(order, join, parameters): the place of each latent in what a search found, where that is the order."""
    if sort != "match":
        return sort, "", []
    if where.among is None:
        return "severity", "", []
    found = list(where.among)
    join = " LEFT JOIN (SELECT unnest(?::INTEGER[]) AS latent, unnest(range(?)) AS place) m USING (latent)"
    return sort, join, [found, len(found)]


def _order(sort: str) -> str:
    return f"{SORTS[sort][1]} NULLS LAST, l.latent"
