"""Parts of the verdict's sentence: latents counted, categories named."""

from __future__ import annotations

import pandas as pd

from mneme._util.vocabulary import CHANGED, CHANGED_INSIDE, DEAD, DEGRADED, IMPROVED, UNCERTAIN

NAMED = 4
"""Categories named in a list."""


def latents_sentence(latents: pd.DataFrame) -> str:
    """`21 of 4,096 live latents amplified, 0 suppressed, 72 redirected, 186 uncertain`."""
    live = latents[latents["verdict"] != DEAD]
    counts = live["verdict"].value_counts()
    first, *others = (f"{int(counts.get(word, 0)):,}" for word in (*CHANGED, UNCERTAIN))
    rest = ", ".join(f"{n} {word}" for n, word in zip(others, (*CHANGED[1:], UNCERTAIN), strict=True))
    return f"{first} of {len(live):,} live latents {CHANGED[0]}, {rest}"


def by_verdict(rows: pd.DataFrame) -> str:
    """`Virology and Anatomy (biology, health) degraded; Law (law) improved`."""
    return "; ".join(
        f"{named(largest(rows[rows['verdict'] == verdict]))} {verdict}"
        for verdict in (DEGRADED, IMPROVED, CHANGED_INSIDE)
        if (rows["verdict"] == verdict).any()
    )


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(_size=rows["nll_change"].abs()).sort_values("_size", ascending=False, kind="stable")


def named(rows: pd.DataFrame) -> str:
    """`Virology, Anatomy and 5 more (biology, health)`: the first few names, and the groups they fall in."""
    names = rows["name"].tolist()
    shown = names[:NAMED]
    if len(names) > NAMED:
        shown = [*names[: NAMED - 1], f"{len(names) - NAMED + 1} more"]
    listed = shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1]
    groups = rows["grp"].value_counts(sort=True).index.tolist()[:3]
    return f"{listed} ({', '.join(groups)})"


def count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
