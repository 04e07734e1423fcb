"""What was read of an analyst's own text, as frames and HTML. The arithmetic is mneme.probe's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dashboard.components import tokens, words
from mneme._util.vocabulary import CHANGED, LATENT_SIGNS
from mneme.store.queries import latent as queries
from mneme.store.run import Run

COLOURINGS = {"kl": "KL", "nll_change": "NLL change", "changed": "Changed latents", "latent": "One latent"}


def pairs_frame(answer: Mapping[str, Any]) -> pd.DataFrame:
    """A row a (token, latent) that fires: row, latent, activation, held_base, held_tuned."""
    columns = ("row", "latent", "activation", "held_base", "held_tuned")
    return pd.DataFrame({name: answer[name] for name in columns})


def token_frame(answer: Mapping[str, Any], pairs: pd.DataFrame, names: Mapping[int, str]) -> pd.DataFrame:
    """A row a token: token, kl, nll_base, nll_tuned, nll_change, strongest latents in words."""
    strongest = pairs.sort_values("activation", ascending=False).groupby("row")["latent"].apply(list)
    return pd.DataFrame(
        {
            "token": [words.plain(t, 40) for t in answer["tokens"]],
            **{name: pd.array(answer[name], dtype="Float64") for name in ("kl", "nll_base", "nll_tuned")},
            "nll_change": _changes(answer),
            "strongest": [
                " · ".join(f"{j} {words.plain(names.get(j), 28)}" for j in strongest.get(i, [])[:4])
                for i in range(len(answer["tokens"]))
            ],
        }
    ).astype({"nll_change": "Float64"})


def latents_frame(run: Run, pairs: pd.DataFrame) -> pd.DataFrame:
    """A row a latent that fires on the text, changed ones first: latent, verdict, label, tokens, strongest,
    and beta on this text, beta_base, beta_tuned."""
    weighted = pairs.assign(
        base=pairs["activation"] * pairs["held_base"],
        tuned=pairs["activation"] * pairs["held_tuned"],
        power=pairs["activation"] ** 2,
    ).groupby("latent")
    sums = weighted[["base", "tuned", "power"]].sum()
    found = pd.DataFrame(
        {
            "tokens": weighted.size(),
            "strongest": weighted["activation"].max(),
            "beta_base": sums["base"] / sums["power"],
            "beta_tuned": sums["tuned"] / sums["power"],
        }
    ).reset_index()
    known = queries.briefs(run, found["latent"].tolist())
    found = found.merge(known, on="latent", how="left")
    found["changed"] = found["verdict"].isin(CHANGED)
    return found.sort_values(["changed", "strongest"], ascending=False, ignore_index=True)


def strips(
    answer: Mapping[str, Any], pairs: pd.DataFrame, colouring: str, latent: int | None, changed: Sequence[int]
) -> dict[str, str]:
    """Caption -> HTML of the text, coloured: two for one latent (as either model holds it), else one."""
    n = len(answer["tokens"])
    change = _changes(answer)
    mine = pairs[pairs["latent"] == latent].set_index("row")
    moved = pairs[pairs["latent"].isin(list(changed))].groupby("row")["activation"].sum()
    titles = []
    for i in range(n):
        notes = [
            f"KL {words.number(answer['kl'][i])}",
            f"NLL base {words.number(answer['nll_base'][i])}, tuned {words.number(answer['nll_tuned'][i])}",
        ]
        if answer["kl"][i] is None:
            notes = []
        if i in mine.index:
            at = mine.loc[i].to_dict()
            notes.append(
                f"latent {latent}: activation {words.number(at['activation'])}, base "
                f"{words.number(at['held_base'])}, tuned {words.number(at['held_tuned'])}"
            )
        if answer["left_out"][i]:
            notes.append("no latents: BOS or attention sink")
        titles.append(" · ".join(notes))
    shown: dict[str, list[float | None]]
    if colouring == "latent":
        shown = {
            f"as {model} holds it": [mine[f"held_{model}"].get(i) for i in range(n)]
            for model in ("base", "tuned")
        }
    elif colouring == "changed":
        shown = {"activation of changed latents": [moved.get(i) for i in range(n)]}
    else:
        caption = {"kl": "KL(base || tuned), nats", "nll_change": "tuned minus base NLL, nats"}[colouring]
        shown = {caption: change if colouring == "nll_change" else list(answer["kl"])}
    top = max((abs(v) for values in shown.values() for v in values if v is not None), default=0.0)
    signed = colouring == "nll_change"
    return {
        caption: tokens.strip_html(answer["tokens"], values, titles, top, signed=signed)
        for caption, values in shown.items()
    }


def sign(verdict: object) -> str:
    """A verdict with its sign."""
    return f"{LATENT_SIGNS.get(str(verdict), '')} {verdict}" if not words.missing(verdict) else "–"


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what was measured."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _changes(answer: Mapping[str, Any]) -> list[float | None]:
    both = zip(answer["nll_base"], answer["nll_tuned"], strict=True)
    return [None if a is None or b is None else b - a for a, b in both]


def mean_change(answer: Mapping[str, Any]) -> float | None:
    """Mean NLL change a token."""
    return mean(_changes(answer))
