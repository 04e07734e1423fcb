"""Which explainers the settings and the environment ask for; told before any work where one can't be had."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme._util.errors import LabelError
from mneme._util.vocabulary import CHANGED
from mneme.interpret.clients.asking import Budget, Prices
from mneme.interpret.clients.base import LOCAL
from mneme.interpret.clients.environment import named_server
from mneme.interpret.clients.server import check_server, named_model, server_chat
from mneme.interpret.label_config import LabelConfig

OFFLINE = "offline"


def explainer_names(config: LabelConfig) -> list[str]:
    """Names for `open_chat`, the offline one left out, which always labels.

    Raises LabelError where the settings demand a model that neither they nor the environment name.
    """
    if config.compare:
        return [name for name in config.compare if name != OFFLINE]
    if config.local:
        return [LOCAL + config.local]
    if config.llm == "off":
        return []
    model = named_model() if config.llm == "auto" else None
    if config.llm == "on":
        model = server_chat(config.model).model
    return [config.model or model] if model else []


def check_demanded(config: LabelConfig) -> None:
    """As `check_explainers`, of explainers and budgets that the settings demand.

    A server that only the environment names may be away: latents then have their offline labels, and the run says so.
    What the environment says must be an address, though.
    """
    if config.compare or config.local or config.llm == "on":
        check_explainers(config)
    for name in explainer_names(config):
        budget_of(name, config)
        if not name.startswith(LOCAL):
            named_server()


def check_explainers(config: LabelConfig) -> None:
    """Raises LabelError or ModelError, naming the fix, for an explainer that can't be had."""
    for name in explainer_names(config):
        if name.startswith(LOCAL):
            from mneme.models import load_tokenizer

            if not load_tokenizer(name.removeprefix(LOCAL)).chat_template:
                raise LabelError(f"{name} has no chat template: label with an instruction-tuned model")
        else:
            check_server(name)


def budget_of(name: str, config: LabelConfig) -> Budget:
    """What may be spent on one explainer. A model in this process costs no money."""
    if name.startswith(LOCAL):
        return Budget(config.llm_max_tokens, prices=Prices(0, 0))
    price = config.price_of(name)
    if config.max_cost is not None and price is None:
        raise LabelError(f"max_cost needs a price of {name}: give --price {name}=IN,OUT")
    most = float("inf") if config.max_cost is None else config.max_cost
    return Budget(config.llm_max_tokens, most, Prices(*price) if price else None)


def most_changed(latents: pd.DataFrame, most: int, *, unchanged: bool = False) -> np.ndarray:
    """Live changed latents, most severe first; then, where `unchanged`, the other live ones."""
    changed = latents.verdict.isin(CHANGED)
    # assigned before rows are chosen: a frame without rows takes over the whole index of a series assigned to it
    chosen = latents.assign(changed=changed)[changed | (unchanged & (latents.verdict != "dead"))]
    order = chosen.sort_values(["changed", "severity"], ascending=False, kind="stable")
    return order.latent.to_numpy()[:most]
