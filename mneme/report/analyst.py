"""What the analyst said of the run: remarks, findings in the order of their review, labels of the analyst's own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mneme._util.errors import MnemeError
from mneme.analyst import History, Review
from mneme.report.format import cut
from mneme.report.latents import Latent, Remark

_log = logging.getLogger(__name__)

OWN = "analyst"
"""The `label_method` of a label that the analyst wrote."""
_ORDER = {"accept": 0, "needs-work": 1, "": 2, "reject": 3}
_LONGEST = 2000


def read_remarks(folder: Path) -> tuple[Remark, ...]:
    """What is said of each latent of the run in `folder` now, by number; of the whole run last.

    Nothing when there is no analyst.duckdb. Raises RunError when it can't be read.
    """
    found = [_remark(review) for review in History(folder).reviews().values()]
    return tuple(sorted(found, key=lambda r: (r.latent is None, r.latent or 0)))


def kept(remarks: Sequence[Remark]) -> list[int]:
    """Latents that are listed however small they are: accepted, still to be worked on, or bookmarked."""
    return [
        r.latent
        for r in remarks
        if r.latent is not None and (r.verdict in ("accept", "needs-work") or r.bookmark)
    ]


def reviewed(latents: Sequence[Latent], remarks: Sequence[Remark]) -> tuple[Latent, ...]:
    """The latents with their reviews: accepted ones first, then those that need work, rejected ones last.

    An edited label takes the place of the automatic one, whose score says nothing of it.
    """
    said = {r.latent: r for r in remarks}
    found = [_with(latent, said[latent.latent]) if latent.latent in said else latent for latent in latents]
    return tuple(sorted(found, key=lambda x: _ORDER[x.review.verdict if x.review else ""]))


def with_reviews(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A table of latents, and: review, note, tags, bookmark, analyst_label; empty where nothing can be read."""
    try:
        said = {r.latent: r for r in read_remarks(folder)}
    except MnemeError as error:
        _log.warning("the table is without reviews: %s", error)
        said = {}
    own = [said.get(int(latent)) for latent in frame["latent"]]
    return frame.assign(
        review=pd.array([r.verdict or None if r else None for r in own], "string"),
        note=pd.array([r.note or None if r else None for r in own], "string"),
        tags=pd.array([", ".join(r.tags) or None if r else None for r in own], "string"),
        bookmark=[bool(r and r.bookmark) for r in own],
        analyst_label=pd.array([r.label or None if r else None for r in own], "string"),
    )


def _with(latent: Latent, remark: Remark) -> Latent:
    if not remark.label:
        return replace(latent, review=remark)
    return replace(
        latent,
        review=remark,
        label=remark.label,
        label_method=OWN,
        label_automatic=latent.label,
        score=None,
        score_shuffled=None,
        unreliable=False,
    )


def _remark(r: Review) -> Remark:
    return Remark(
        latent=r.latent,
        verdict=r.verdict,
        note=cut(r.note, _LONGEST),
        author=cut(r.author, 200),
        at=r.at,
        tags=tuple(cut(tag, 200) for tag in r.tags),
        bookmark=r.bookmark,
        label=cut(r.label, 200),
    )
