"""Latents' changes patched out and in (`mneme causal`), for the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from mneme.causal.patching_sentences import PATCHES, SOURCES, gain, joint_sentences, latents_sentence, share
from mneme.report.format import decimals, missing
from mneme.store.queries import causal as queries
from mneme.store.run import Run

TOGETHER_COLUMNS = ("patched", "where", "KL left, nats", "share of KL (95 %)", "share of NLL change (95 %)")
LATENT_COLUMNS = (
    "latent",
    "undone: share of KL",
    "beyond another latent's direction",
    "done in the base: share",
)


@dataclass(frozen=True)
class Patched:
    """A row of the table `causal`."""

    latent: int | None
    """None: all changed latents together"""
    patch: str
    """undo (in the tuned model) | do (in the base)"""
    source: str
    n_latents: int
    n_documents: int
    n_tokens: int
    kl_before: float | None
    kl_after: float | None
    kl_share: float | None
    """1 - after / before; None: too small a distance to tell"""
    kl_low: float | None
    kl_high: float | None
    nll_before: float | None
    nll_after: float | None
    nll_share: float | None
    nll_low: float | None
    nll_high: float | None
    gain: float | None
    """kl_share beyond the control's"""
    gain_low: float | None
    gain_high: float | None


@dataclass(frozen=True)
class Causal:
    """What patching says; empty where `mneme causal` was not run."""

    sentences: tuple[str, ...]
    together: tuple[Patched, ...]
    latents: tuple[Patched, ...]
    """each latent's own patches, the largest share undone first"""


def causal(run: Run) -> Causal:
    """What the run's tables hold of it."""
    together, latents = queries.together(run), queries.every_latent(run)
    sentences = (*joint_sentences(together), *latents_sentence(latents))
    return Causal(sentences, _rows(together), _rows(latents))


def together_rows(found: Sequence[Patched]) -> list[tuple[str, ...]]:
    """The cells below TOGETHER_COLUMNS."""
    return [
        (
            SOURCES.get(row.source, row.source),
            PATCHES.get(row.patch, row.patch),
            decimals(row.kl_after),
            share(asdict(row), "kl"),
            share(asdict(row), "nll"),
        )
        for row in found
    ]


def latent_rows(found: Sequence[Patched]) -> list[tuple[str, ...]]:
    """The cells below LATENT_COLUMNS, a row per latent."""
    done = {row.latent: asdict(row) for row in found if row.patch == "do"}
    undone = [asdict(row) for row in found if row.patch == "undo"]
    return [
        (
            str(row["latent"]),
            share(row, "kl"),
            gain(row),
            share(done[row["latent"]], "kl") if row["latent"] in done else "–",
        )
        for row in undone
    ]


def _rows(frame: pd.DataFrame) -> tuple[Patched, ...]:
    return tuple(Patched(**{str(k): _plain(v) for k, v in row.items()}) for row in frame.to_dict("records"))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if missing(value) or not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() and not isinstance(value, float) else float(value)
