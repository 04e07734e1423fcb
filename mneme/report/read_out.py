"""What dictionaries of one model alone say (`mneme read-out`), for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mneme.report.format import ABSENT, cut, decimals, interval, missing, percent
from mneme.store.queries import read_out as queries
from mneme.store.run import Run

MOST = 10
"""Latents listed of each dictionary."""
WORDS = {"base": "suppressed", "tuned": "amplified"}
"""Dictionary -> the verdict it is asked for: what the tuned model uses less of, and what the base has less of."""
COLUMNS = ("dictionary", "latent", "label", "log ratio (95 %)", "severity", "documents")


@dataclass(frozen=True)
class ReadOutLatent:
    """A changed latent of a dictionary of one model alone."""

    dictionary: str
    """base | tuned: the model it was trained on"""
    latent: int
    verdict: str
    label: str
    log_ratio: float | None
    ci_low: float | None
    ci_high: float | None
    severity: float | None
    n_documents: int | None


@dataclass(frozen=True)
class ReadOut:
    """One dictionary."""

    dictionary: str
    n_live: int
    n_suppressed: int
    n_amplified: int
    explained_variance_base: float | None
    explained_variance_tuned: float | None
    null_rate: float | None
    """share of latents called changed where nothing is: the model against itself, rounded"""
    latents: tuple[ReadOutLatent, ...]
    """those of WORDS, the most severe first"""


def read_outs(run: Run) -> tuple[ReadOut, ...]:
    """What the run's tables hold; none where `mneme read-out` was not run."""
    return tuple(_read_out(run, row) for row in _records(queries.summaries(run)))


def sentence(found: ReadOut) -> str:
    """What a dictionary says, in words."""
    n, word = (
        (found.n_suppressed, "suppressed") if found.dictionary == "base" else (found.n_amplified, "amplified")
    )
    asked = "tuned model has less of" if found.dictionary == "base" else "base has less of"
    held = "base" if found.dictionary == "base" else "tuned model"
    null = "" if found.null_rate is None else f" (where nothing changed: {percent(found.null_rate)})"
    return (
        f"Dictionary of the {held} alone: {n:,} of {found.n_live:,} latents are {word}: features of the {held} that the"
        f" {asked}{null}. Explained variance {decimals(found.explained_variance_base)} (base),"
        f" {decimals(found.explained_variance_tuned)} (tuned)."
    )


def rows(found: Sequence[ReadOut]) -> list[tuple[str, ...]]:
    """The cells below COLUMNS."""
    return [
        (
            x.dictionary,
            str(x.latent),
            x.label or ABSENT,
            interval(x.log_ratio, x.ci_low, x.ci_high),
            decimals(x.severity),
            ABSENT if x.n_documents is None else str(x.n_documents),
        )
        for one in found
        for x in one.latents
    ]


def _read_out(run: Run, row: dict[str, Any]) -> ReadOut:
    name = _text(row["dictionary"])
    latents = _records(queries.changed(run, name, WORDS.get(name, ""), MOST))
    return ReadOut(
        dictionary=name,
        n_live=_whole(row["n_live"]) or 0,
        n_suppressed=_whole(row["n_suppressed"]) or 0,
        n_amplified=_whole(row["n_amplified"]) or 0,
        explained_variance_base=_real(row["explained_variance_base"]),
        explained_variance_tuned=_real(row["explained_variance_tuned"]),
        null_rate=_real(row["null_rate"]),
        latents=tuple(
            ReadOutLatent(
                dictionary=name,
                latent=int(x["latent"]),
                verdict=_text(x["verdict"]),
                label=_text(x["label"]),
                log_ratio=_real(x["log_ratio"]),
                ci_low=_real(x["ci_low"]),
                ci_high=_real(x["ci_high"]),
                severity=_real(x["severity"]),
                n_documents=_whole(x["n_documents"]),
            )
            for x in latents
        ),
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).to_dict("records")  # type: ignore[return-value]  # columns are strings


def _text(value: Any) -> str:
    return "" if missing(value) else cut(str(value), 200)


def _real(value: Any) -> float | None:
    return None if missing(value) or not math.isfinite(value) else float(value)


def _whole(value: Any) -> int | None:
    return None if missing(value) else int(value)
