"""Findings, for the report: sets of changed latents that do one thing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mneme.report.format import cut, interval, missing, number, percent
from mneme.report.latents import Context
from mneme.store.queries import findings as queries
from mneme.store.run import Run

MOST = 5
"""Findings that are told with contexts and members; the others are rows of the table."""
COLUMNS = (
    *("finding", "latents", "of the difference", "of what changed latents explain", "areas", "change of NLL"),
    *("seeds", "share of KL undone", "of what PCA undoes"),
)
NOT_TESTED = "not tested"
_CONTEXTS, _MEMBERS, _TOKENS, _AREAS = 3, 10, 8, 4
_TEXT, _TOKEN = 200, 40


@dataclass(frozen=True)
class Finding:
    """A set of changed latents whose predicted changes point one way at the same tokens."""

    finding: str
    """its id"""
    parent: str
    """'' or the finding that this is a part of, split by firing"""
    name: str
    name_method: str
    n_latents: int
    explained: float | None
    """share of all squared difference between the models that it explains by itself"""
    share: float | None
    """its part of what all changed latents explain"""
    dimensions: int | None
    """principal directions that hold 90% of its squared displacement"""
    main_share: float | None
    """of its squared displacement along the first of them"""
    firing_rate: float | None
    displacement: float | None
    """mean over tokens, a share of the base's typical deviation"""
    affected_share: float | None
    affected_share_low: float | None
    affected_share_high: float | None
    areas: tuple[str, ...]
    """categories that it affects, the most affected first"""
    nll_change: float | None
    """nats per token where it moves tokens, weighted by how far"""
    nll_low: float | None
    nll_high: float | None
    kl: float | None
    seeds_found: int | None
    n_seeds: int | None
    causal_share: float | None
    """share of KL undone where its change alone is patched out of the tuned model"""
    causal_low: float | None
    causal_high: float | None
    causal_pca: float | None
    """the same of as many principal directions of the difference"""
    of_pca: float | None
    """causal_share over causal_pca"""
    of_pca_low: float | None
    of_pca_high: float | None
    profile: tuple[float, ...]
    """mean displacement of documents, the most displaced first"""
    latents: tuple[int, ...]
    """its members, those that explain most first"""
    promotes: tuple[str, ...]
    """next tokens that its main direction promotes in the tuned model"""
    contexts: tuple[Context, ...]


def findings(run: Run) -> tuple[Finding, ...]:
    """All findings and parts; contexts, members and lens of the first MOST."""
    table = queries.findings(run, parts=True)
    return tuple(
        _finding(run, row, whole=i < MOST and missing(row["parent"]))
        for i, row in enumerate(table.astype(object).to_dict("records"))
    )


def rows(found: tuple[Finding, ...]) -> list[tuple[str, ...]]:
    """The cells below COLUMNS; parts are left out."""
    return [
        (
            f.name,
            str(f.n_latents),
            percent(f.explained),
            percent(f.share),
            areas(f),
            interval(f.nll_change, f.nll_low, f.nll_high),
            seeds(f),
            causal(f),
            of_pca(f),
        )
        for f in found
        if not f.parent
    ]


def areas(found: Finding) -> str:
    """The first few areas."""
    more = len(found.areas) - _AREAS
    return (
        ", ".join(found.areas[:_AREAS]) + (f" and {more} more" if more > 0 else "")
        or "none beyond the margin"
    )


def seeds(found: Finding) -> str:
    """k of n, or that it was not tested."""
    if found.n_seeds is None:
        return NOT_TESTED
    return f"{found.seeds_found} of {found.n_seeds}"


def causal(found: Finding) -> str:
    """The share of KL undone with its interval, or that it was not tested."""
    return (
        NOT_TESTED
        if found.causal_share is None
        else interval(found.causal_share, found.causal_low, found.causal_high)
    )


def of_pca(found: Finding) -> str:
    """What it undoes, over what as many principal directions undo."""
    return NOT_TESTED if found.of_pca is None else interval(found.of_pca, found.of_pca_low, found.of_pca_high)


def sentence(found: tuple[Finding, ...], held: int, changed: int) -> str:
    """How many findings there are, and what they hold."""
    told = [f for f in found if not f.parent]
    if not told:
        return "No latent changed, so there is nothing to group." if not changed else ""
    most = [f.share for f in told[:MOST] if f.share is not None]
    carry = (
        f" The first {len(most)} carry {percent(sum(most))} of what all changed latents explain."
        if most
        else ""
    )
    return (
        f"{changed} changed latents make {len(told)} finding{'s' if len(told) > 1 else ''}, which"
        f" hold{'' if len(told) > 1 else 's'} {held} of them; the others stay single.{carry}"
    )


def numbers(found: Finding) -> list[tuple[str, str]]:
    """What is known of one finding, as rows."""
    return [
        ("share of all squared difference", percent(found.explained)),
        ("of what all changed latents explain", percent(found.share)),
        ("principal directions", f"{found.dimensions} (the first holds {percent(found.main_share)})"),
        (
            "text affected",
            interval(found.affected_share, found.affected_share_low, found.affected_share_high),
        ),
        ("areas", areas(found)),
        ("change of NLL where it fires, nats", interval(found.nll_change, found.nll_low, found.nll_high)),
        ("KL where it fires, nats", number(found.kl)),
        ("found in seeds", seeds(found)),
        ("share of KL undone", causal(found)),
        ("of what as many principal directions undo", of_pca(found)),
        ("promotes", ", ".join(found.promotes)),
        ("latents", ", ".join(map(str, found.latents))),
    ]


def part(found: Finding) -> str:
    """One line of a part."""
    part_of_all = f"{percent(found.share)} of what changed latents explain"
    return f"{found.name}: {found.n_latents} latents, {part_of_all}, areas: {areas(found)}"


def _finding(run: Run, row: Mapping[Hashable, Any], *, whole: bool) -> Finding:
    def real(key: str) -> float | None:
        return None if missing(row[key]) else float(row[key])

    def whole_number(key: str) -> int | None:
        return None if missing(row[key]) else int(row[key])

    finding = str(row["finding"])
    members = queries.members(run, finding) if whole else pd.DataFrame({"latent": [], "home": []})
    lens = queries.lens(run, finding) if whole else pd.DataFrame({"direction": [], "token": []})
    names = (
        *("explained", "share", "main_share", "firing_rate", "displacement", "affected_share"),
        *("affected_share_low", "affected_share_high", "nll_change", "nll_low", "nll_high", "kl"),
        *("causal_share", "causal_low", "causal_high", "causal_pca", "of_pca", "of_pca_low", "of_pca_high"),
    )
    return Finding(
        finding=finding,
        parent="" if missing(row["parent"]) else str(row["parent"]),
        name=cut(str(row["name"]), _TEXT),
        name_method=cut(str(row["name_method"]), _TEXT),
        n_latents=int(row["n_latents"]),
        dimensions=whole_number("dimensions"),
        areas=tuple(cut(str(area), _TEXT) for area in row["areas"]),
        seeds_found=whole_number("seeds_found"),
        n_seeds=whole_number("n_seeds"),
        profile=tuple(float(value) for value in row["profile"]),
        latents=tuple(int(j) for j in members["latent"][:_MEMBERS]),
        promotes=tuple(cut(str(t), _TOKEN) for t in lens["token"][lens["direction"] == "top"][:_TOKENS]),
        contexts=tuple(_context(c) for c in queries.contexts(run, finding, _CONTEXTS)) if whole else (),
        **{name: real(name) for name in names},
    )


def _context(row: Mapping[str, Any]) -> Context:
    pairs = list(zip(row["tokens"] or [], row["activations"] or [], strict=False))
    return Context(
        document=int(row["document"]),
        position=int(row["position"]),
        topic="" if missing(row["topic"]) else cut(str(row["topic"]), _TEXT),
        tokens=tuple(cut(str(token), _TOKEN) for token, _ in pairs),
        activations=tuple(0.0 if missing(a) else float(a) for _, a in pairs),
    )
