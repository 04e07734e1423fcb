"""The table `power` read: the weakest channel of each category, and the run as a whole.

A row a category and channel; the rows of category NULL are the run's own. `at_margin` is the chance that a change as
large as the verdict's margin asks for would have been found, `minimum_detectable` the smallest size that was found in
80% of the injections, `text_needed` how many times as much text would find the margin's size in 80% (of the channel
nll: measured text), NULL where none of those tried would.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

ENOUGH = 0.8
"""Power from which a category counts as one where a change would have been found."""
TEXTS = (2.0, 4.0, 8.0)
"""Times the run's text, tried where latents do not tell of the margin's size in it."""
NEEDS = ("latents", "nll")
"""Channels that a category's verdict rests on: `unaffected` is said of the affected share and of predictions."""
PLAIN = ("activations", "nll")
"""Channels that a verdict rests on where the change is in no latent."""
COLUMNS = (
    "category",
    "channel",
    "unit",
    "margin",
    "minimum_detectable",
    "at_margin",
    "n_cases",
    "reason",
    "text_needed",
)


def weakest(power: pd.DataFrame, needs: Sequence[str] = NEEDS) -> pd.DataFrame:
    """The row of each category's weakest channel among `needs`, in order of category; overall rows are left out.

    power: columns COLUMNS. A channel that was not measured is the weakest there is: its `at_margin` is NaN. Of equal
    ones the first of `needs` counts. A category that lacks a row of a needed channel is given one, with the reason
    "not measured".
    """
    rows = power[power["category"].notna() & power["channel"].isin(list(needs))]
    whole = pd.MultiIndex.from_product(
        [sorted(power["category"].dropna().unique()), list(needs)], names=["category", "channel"]
    )
    full = rows.set_index(["category", "channel"]).reindex(whole).reset_index()
    there = pd.MultiIndex.from_frame(rows[["category", "channel"]])
    absent = ~pd.MultiIndex.from_frame(full[["category", "channel"]]).isin(there)
    full.loc[absent, "reason"] = "not measured"
    full["_known"] = full["at_margin"].fillna(-1.0).astype(float)
    first = full.sort_values(["category", "_known"], kind="stable").drop_duplicates("category")
    return first[list(COLUMNS)].reset_index(drop=True)


def overall(power: pd.DataFrame, needs: Sequence[str] = NEEDS) -> dict[str, float]:
    """How far the run's all-clear would reach. Keys `n_categories`, `n_enough` (weakest channel at ENOUGH or more),
    `share` (n_enough / n_categories) and `at_margin` (mean over categories, what was not measured as 0); NaN of none.
    """
    at = weakest(power, needs)["at_margin"].fillna(0.0).astype(float)
    n, enough = len(at), int((at >= ENOUGH).sum())
    nan = float("nan")
    return {
        "n_categories": n,
        "n_enough": enough,
        "share": enough / n if n else nan,
        "at_margin": float(at.mean()) if n else nan,
    }


def with_overall(power: pd.DataFrame) -> pd.DataFrame:
    """The table with a row of category None before each channel's: what holds over all categories.

    `at_margin` is their mean, what was not measured counting as 0; `minimum_detectable` the size that is enough in 80%
    of them, NaN where too many have none; `n_cases` the injections of one size in all of them.
    """
    rows = []
    for channel, part in power.groupby("channel", sort=False):
        smallest = part["minimum_detectable"].astype(float).fillna(np.inf)
        enough = float(np.quantile(smallest, ENOUGH, method="higher"))
        measured = part["at_margin"].notna().any()
        rows.append(
            {
                "category": None,
                "channel": channel,
                "unit": part["unit"].iloc[0],
                "margin": float(part["margin"].iloc[0]),
                "minimum_detectable": enough if np.isfinite(enough) else np.nan,
                "at_margin": float(part["at_margin"].fillna(0).astype(float).mean()) if measured else np.nan,
                "n_cases": part["n_cases"].sum() if part["n_cases"].notna().any() else None,
                "reason": None if measured else part["reason"].iloc[0],
                "text_needed": middle(part["text_needed"]),
            }
        )
    whole = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n_cases": object})
    table = pd.concat([whole, power.astype({"n_cases": object})], ignore_index=True) if rows else power
    return table.assign(
        n_cases=table["n_cases"].astype("Int64"), text_needed=table["text_needed"].astype(float)
    )


def middle(needed: pd.Series) -> float:
    """The text that does for more than half of the categories; NaN where that is not known. needed: NaN, not known."""
    least = np.sort(needed.astype(float).fillna(np.inf).to_numpy())
    enough = float(least[len(least) // 2]) if len(least) else np.inf
    return enough if np.isfinite(enough) else np.nan


def sentence(power: pd.DataFrame) -> str:
    """What the table says, for pages and reports; power: table `power`, not empty."""
    found = overall(power)
    margin = power.drop_duplicates("channel").set_index("channel")["margin"].astype(float)
    moved, nll = margin.get("latents", np.nan), margin.get("nll", np.nan)
    n, enough = int(found["n_categories"]), int(found["n_enough"])
    return (
        f"In {enough} of {n} categories a change as large as the margins would be found with a chance of"
        f" {ENOUGH:.0%} or more: activations of half of the documents displaced by {moved:.2g} of their"
        f" typical deviation, told of by latents, and a change of NLL of {nll:.2g} nats per token."
    )
