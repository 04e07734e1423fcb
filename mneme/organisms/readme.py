"""An organism's README: what was done to the model, and what came of it."""

from __future__ import annotations

import tomllib

import pandas as pd

_DEGRADED = 0.05  # nats per token


def organism_readme(name: str, about: str, recipe: str, outcomes: pd.DataFrame | None) -> str:
    """Markdown from the recipe's text and, where measured, the outcomes (columns of table `outcomes`)."""
    facts = tomllib.loads(recipe)
    lines = [
        f"# {name}",
        "",
        f"`{facts['base']}` after {about}, by `mneme organism {facts['method']}`. `delta.safetensors` holds"
        " the tensors that changed; `recipe.toml` every setting, seed and the SHA-256 of each file of text.",
        "The weights are a derivative of the base model and stay under its licence.",
        "",
    ]
    for kind in ("forget", "retain", "learn"):
        if kind in facts:
            files = ", ".join(
                f"{s['file']} ({'' if s['part'] == 'all' else s['part'] + ' half, '}{s['texts']} texts)"
                for s in facts[kind]
            )
            lines += [f"Texts to {kind}: {files}.", ""]
    if outcomes is None:
        return "\n".join([*lines, "Outcomes: not measured yet.", ""])
    worst = outcomes.sort_values("change", ascending=False)
    count = int((outcomes["change"] > _DEGRADED).sum())
    lines += [
        f"Measured on {int(outcomes['n'].sum())} items of {len(outcomes)} categories"
        f" ({outcomes['source'].iloc[0]}): NLL a token of question and options rose by more than"
        f" {_DEGRADED} nats in {count}. The fifteen largest changes (all in `outcomes.csv`):",
        "",
        "| category | NLL base | NLL tuned | change | 95% interval | accuracy base | accuracy tuned | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.category} | {r.base:.3f} | {r.tuned:.3f} | {r.change:+.3f}"
        f" | {r.ci_low:+.3f} to {r.ci_high:+.3f} | {r.accuracy_base:.2f} | {r.accuracy_tuned:.2f} | {r.n} |"
        for r in worst.head(15).itertuples()
    ]
    return "\n".join([*lines, ""])
