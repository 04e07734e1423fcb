"""The findings of a run, whole: changed latents to sets, each measured and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.crosscoder.codes import CodeCache
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import directions
from mneme.effects.predict import changed_steps
from mneme.effects.side_effects import Assigned
from mneme.findings.choose import Chosen, choose, most_moving
from mneme.findings.displacement import displacements
from mneme.findings.grouping import belonging
from mneme.findings.measures import affected_text, areas_beyond, behaviour, categories_frame, profile
from mneme.findings.naming import meaning, named, with_areas
from mneme.findings.sums import ChangeSums, explained_alone, explained_parts, spectrum, sum_changes
from mneme.harvest.protocols import Harvested
from mneme.interpret.config import InterpretConfig
from mneme.interpret.tokens import TokenTexts

MOST_OF = 0.9
"""Share of a finding's squared displacement that its `dimensions` principal directions hold."""


class Findings(NamedTuple):
    """Data frames with the columns of the run's tables of the same names."""

    findings: pd.DataFrame
    finding_latents: pd.DataFrame
    finding_categories: pd.DataFrame
    finding_contexts: pd.DataFrame
    finding_lens: pd.DataFrame


class Reader(NamedTuple):
    """What names findings."""

    models: Sequence[Any]
    """Base and tuned; none: no logit lens."""
    texts: TokenTexts
    interpret: InterpretConfig
    explain: Callable[[pd.DataFrame, pd.DataFrame], list[pd.DataFrame]]
    """(contexts, lens) -> labels that models gave, numbers of findings in the column `latent`."""


def find_findings(
    cache: Harvested,
    codes: CodeCache,
    latents: pd.DataFrame,
    decoder: torch.Tensor,
    assigned: Assigned,
    reader: Reader,
    effects: EffectsConfig,
    progress: Progress = NULL_PROGRESS,
) -> Findings:
    """Group the changed latents and measure what each set does; all frames are empty where none changed.

    latents: a row per latent, by number; decoder: (2, F, d), raw units; assigned: the text's categories.
    """
    sums = change_sums(cache, codes, latents, decoder, progress)
    known = decoder[:, torch.from_numpy(sums.moved.latent)].permute(1, 0, 2).float().cpu().numpy()
    chosen = choose(sums, known)
    if not chosen:
        return _nothing()
    moved = displacements(cache, codes, sums.moved, [each.members for each in chosen], progress)
    spectra = [spectrum(sums, each.members) for each in chosen]
    main = np.stack([of[0] for _, of in spectra])
    read = meaning(moved, main, cache, reader.models, reader.texts, reader.interpret, progress)
    names = named(read.labels, reader.explain(read.contexts, read.lens), len(chosen))
    text = [affected_text(each, assigned.windows, assigned.weights, sums.typical, effects) for each in moved]
    names = with_areas(
        names, [areas_beyond(each, assigned.taxonomy.keys, effects.min_affected_share) for each in text]
    )
    parts = explained_parts(sums)
    rows = [
        {
            **_sizes(sums, each, parts, spectra[i][0]),
            "firing_rate": len(moved[i].row) / max(cache.n, 1),
            **{name: float(values[0]) for name, values in text[i].items()},
            **behaviour(moved[i], cache),
            "profile": profile(moved[i], cache, sums.typical),
        }
        for i, each in enumerate(chosen)
    ]
    frame = pd.concat([pd.DataFrame(rows), names], axis=1)
    frame["rank"] = frame.groupby(frame["parent"].fillna("")).cumcount()
    ids = [each.finding for each in chosen]
    keys = assigned.taxonomy.keys
    return Findings(
        frame,
        pd.concat([_members(sums, each, parts) for each in chosen], ignore_index=True),
        pd.concat([categories_frame(f, keys, t) for f, t in zip(ids, text, strict=True)], ignore_index=True),
        _of_findings(_top(read.contexts, reader.interpret.top_contexts), ids).drop(columns="quantile"),
        _of_findings(read.lens, ids).drop(columns="model"),
    )


def change_sums(
    cache: Harvested,
    codes: CodeCache,
    latents: pd.DataFrame,
    decoder: torch.Tensor,
    progress: Progress = NULL_PROGRESS,
) -> ChangeSums:
    """What grouping needs of a run's changed latents."""
    latents = latents.sort_values("latent").reset_index(drop=True)
    energy = latents["firing_rate"] * np.square(latents["mean_activation"])
    moved = most_moving(
        directions(latents, changed_steps(latents).sum(0), decoder.detach()), energy.fillna(0).to_numpy()
    )
    return sum_changes(cache, codes, moved, progress)


def _sizes(sums: ChangeSums, each: Chosen, parts: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
    """Columns of `findings` that follow from the sums."""
    total, mine = float(parts.sum()), float(parts[each.members].sum())
    return {
        "finding": each.finding,
        "parent": each.parent,
        "n_latents": len(each.members),
        "explained": explained_alone(sums, each.members),
        "share": mine / total if total > 0 else float("nan"),
        "dimensions": dimensions(shares),
        "main_share": float(shares[0]),
    }


def dimensions(shares: np.ndarray) -> int:
    """Principal directions that hold 90% of a finding's squared displacement; shares: the largest first."""
    return min(int(np.searchsorted(np.cumsum(shares), MOST_OF - 1e-9)) + 1, len(shares))


def _members(sums: ChangeSums, each: Chosen, parts: np.ndarray) -> pd.DataFrame:
    """Rows of table `finding_latents`, those that explain most first."""
    total = float(parts.sum())
    everyone = np.r_[each.members, each.also]
    home = np.ones(len(sums.along), dtype=np.int64)
    home[each.members] = 0
    frame = pd.DataFrame(
        {
            "finding": each.finding,
            "latent": sums.moved.latent[everyone],
            "home": np.arange(len(everyone)) < len(each.members),
            "correlation": belonging(sums.products, home)[everyone, 0],
            "share": parts[everyone] / total if total > 0 else np.nan,
        }
    )
    frame = frame.sort_values(["home", "share"], ascending=False, kind="stable", ignore_index=True)
    return frame.assign(rank=np.arange(len(frame)))


def _top(contexts: pd.DataFrame, n: int) -> pd.DataFrame:
    """The n strongest contexts of each."""
    return contexts[(contexts["quantile"] == 0) & (contexts["rank"] < n)]


def _of_findings(frame: pd.DataFrame, ids: list[str]) -> pd.DataFrame:
    """A frame with numbers of findings in `latent`, with their ids in `finding` instead."""
    names = np.asarray(ids, dtype=object)[frame["latent"].to_numpy(dtype=np.int64)]
    return frame.drop(columns="latent").assign(finding=names)


def _nothing() -> Findings:
    """No row, and no column: the tables then hold nothing."""
    return Findings(*(pd.DataFrame({"finding": pd.Series(dtype=object)}) for _ in Findings._fields))
