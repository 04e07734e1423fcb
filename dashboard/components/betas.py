"""The betas of a latent: every target and probe, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import theme, words

_TARGET = (
    "Target: what the direction is fitted to: the error left when the latent is removed, the reconstruction, or the "
    "activation. Probe: whose decoder gives the direction; main is the longer one. In small print 95 % intervals over "
    "documents (none of a latent that fires in one document, or where the run is older than they are). Bold: what the "
    "verdict rests on."
)
_STYLE = (
    "<style>.mneme-betas{border-collapse:collapse;width:100%;font-size:.86rem}"
    ".mneme-betas th{text-align:left;font-weight:400;opacity:.7;padding:2px 6px 4px 0}"
    ".mneme-betas td{padding:3px 6px 3px 0;border-top:1px solid rgba(128,128,128,.25);vertical-align:top}"
    ".mneme-betas .n{text-align:right;white-space:nowrap;padding-right:0;padding-left:6px}"
    ".mneme-betas small{display:block;font-size:.74rem;font-weight:400;opacity:.7}"
    ".mneme-betas b{font-weight:650}</style>"
)


def table(betas: pd.DataFrame, row: dict[str, Any]) -> None:
    """betas: of `queries.latent.betas`; row: the latent's."""
    st.markdown("**Beta, each target and probe**", help=f"{theme.HELP['beta']} {_TARGET}")
    st.html(html(betas, row))


def html(betas: pd.DataFrame, row: dict[str, Any]) -> str:
    """A row a (target, probe), base and tuned side by side."""
    lines = []
    for each in betas.to_dict("records"):
        probe = words.html(each["probe"]) + (" (main)" if each["probe"] == row["probe"] else "")
        cells = "".join(
            f'<td class="n">{_beta(each, model, judged=_judged(each, model, row))}</td>'
            for model in ("base", "tuned")
        )
        lines.append(f"<tr><td>{words.html(each['target'])}</td><td>{probe}</td>{cells}</tr>")
    head = '<th>target</th><th>probe</th><th class="n">beta(b)</th><th class="n">beta(f)</th>'
    return (
        f'{_STYLE}<table class="mneme-betas" aria-label="Latent scaling of this latent, with intervals">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _beta(each: Mapping[Any, Any], model: str, *, judged: bool) -> str:
    value = words.number(each[model])
    ends = words.between(each[f"{model}_low"], each[f"{model}_high"], signed=False)
    return (f"<b>{value}</b>" if judged else value) + ("" if ends == "–" else f"<small>{ends}</small>")


def _judged(each: Mapping[Any, Any], model: str, row: dict[str, Any]) -> bool:
    """Whether the verdict rests on it: error along the main probe, or, if turned, each model's own."""
    found: bool = each["target"] == "error" and each["probe"] == (model if row["turned"] else row["probe"])
    return found
