"""What patching found, in sentences: the same in the terminal, on the pages and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

SOURCES = {
    "latent": "this latent",
    "latents": "all changed latents",
    "other latents": "another latent's direction, as far",
    "random latents": "as many unchanged latents",
    "random direction": "a random direction, as far",
    "dictionary": "the whole dictionary",
    "whole": "the other model's activation",
}
"""`source` of the tables, in words."""
PATCHES = {"undo": "undone in the tuned model", "do": "done in the base"}


def joint_sentences(together: pd.DataFrame) -> list[str]:
    """What all changed latents together carry, beside the controls; `together`: mneme.store.queries.causal."""
    if together.empty:
        return []
    rows = {(str(r["patch"]), str(r["source"])): r for r in together.to_dict("records")}
    main = rows["undo", "latents"]
    if _missing(main["kl_share"]):
        return [
            f"On {int(main['n_documents'])} documents the two models' predictions differ by"
            f" {main['kl_before']:.3g} nats of KL a token: too little, or in too few documents, to say what carries it."
        ]
    n, documents = int(main["n_latents"]), int(main["n_documents"])
    beside = [
        f"{words} {percent(rows['undo', source]['kl_share'])}"
        for source, words in (
            ("random latents", "as many unchanged latents"),
            ("random direction", "a random direction as large"),
            ("dictionary", "everything in the dictionary"),
            ("whole", "the base's whole activation at this layer"),
        )
        if ("undo", source) in rows
    ]
    found = [
        f"Undoing the change of {n:,} latents in the tuned model closes {share(main, 'kl')} of KL(base || tuned)"
        f" ({main['kl_before']:.2f} nats per token, {documents} documents). Beside it: {', '.join(beside)}."
    ]
    done = rows.get(("do", "latents"))
    if done is not None and not _missing(done["kl_share"]):
        found.append(f"Putting it into the base reproduces {share(done, 'kl')}.")
    if not _missing(main["nll_share"]):
        found.append(f"Of the change of next-token NLL, undoing closes {share(main, 'nll')}.")
    return found


def latents_sentence(latents: pd.DataFrame) -> list[str]:
    """How the latents did one by one; `latents`: `every_latent` of mneme.store.queries.causal."""
    undone = latents[(latents["patch"] == "undo") & latents["kl_share"].notna()]
    if undone.empty:
        return []
    each = undone["kl_share"]
    better, worse = int((undone["gain_low"] > 0).sum()), int((undone["gain_high"] < 0).sum())
    return [
        f"Undone one by one on their own contexts, {len(undone)} latents close {percent(each.min())} to"
        f" {percent(each.max())} of KL there, median {percent(each.median())}: surely more"
        f" than another latent's direction, as far at the same tokens, for {better} of them, surely less for {worse}."
    ]


def share(row: Mapping[Any, Any], measure: str) -> str:
    """43 % (31 … 55 %), of `kl` or `nll`; a dash where no share is told."""
    value = row[f"{measure}_share"]
    if _missing(value):
        return "–"
    return f"{percent(value)} ({percent(row[f'{measure}_low'])[:-2]} … {percent(row[f'{measure}_high'])})"


def gain(row: Mapping[Any, Any]) -> str:
    """+13 % (+5 … +21 %): the share of KL beyond the control's; a dash where it is not told."""
    if _missing(row["gain"]):
        return "–"
    value, low, high = (
        f"{round(100 * row[name]):+}".replace("-", "−") for name in ("gain", "gain_low", "gain_high")
    )
    return f"{value} % ({low} … {high} %)"


def percent(value: float) -> str:
    """43 %; a dash where it is not known."""
    return "–" if _missing(value) else f"{round(100 * value)} %".replace("-", "−")


def _missing(value: Any) -> bool:
    return value is None or value != value
