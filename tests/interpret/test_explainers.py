"""Which explainers the settings and the environment ask for, and which latents they label."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mneme._util.errors import LabelError
from mneme.interpret.clients.factory import open_chat
from mneme.interpret.explainers.names import (
    budget_of,
    check_explainers,
    explainer_names,
    most_changed,
)
from mneme.interpret.label_config import LabelConfig

from .chat_server import serving

GOOD = "any reply"


def test_the_environment_names_the_server(monkeypatch) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert explainer_names(LabelConfig()) == []
    with pytest.raises(LabelError, match="OPENAI_BASE_URL"):
        explainer_names(LabelConfig(llm="on"))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(LabelError, match="--model"):
        explainer_names(LabelConfig(llm="on"))
    assert explainer_names(LabelConfig()) == []
    assert open_chat("other").method == "llm:other"
    monkeypatch.setenv("OPENAI_MODEL", "m")
    assert explainer_names(LabelConfig(llm="off")) == []
    assert explainer_names(LabelConfig()) == ["m"]
    assert explainer_names(LabelConfig(llm="on", model="n")) == ["n"]
    assert explainer_names(LabelConfig(local="folder")) == ["local:folder"]
    assert explainer_names(LabelConfig(compare=("a", "offline"))) == ["a"]


def test_a_server_that_is_not_there_is_told_before_any_work(monkeypatch) -> None:
    with serving(lambda n, body: GOOD) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        check_explainers(LabelConfig(llm="on", model="m"))  # it has no list of models
        server.models = 200, {"object": "list", "data": [{"id": "small-one", "object": "model"}]}
        check_explainers(LabelConfig(llm="on", model="small-one"))
        with pytest.raises(LabelError, match=r"no model smal-one: did you mean 'small-one'\?"):
            check_explainers(LabelConfig(llm="on", model="smal-one"))
        server.models = 401, {}
        with pytest.raises(LabelError, match="OPENAI_API_KEY"):
            check_explainers(LabelConfig(llm="on", model="m"))
        assert not server.requests
    with pytest.raises(LabelError, match="OPENAI_BASE_URL"):
        check_explainers(LabelConfig(llm="on", model="m"))


@pytest.mark.parametrize(
    "settings",
    [
        {"compare": ("a",)},
        {"compare": ("a", "a")},
        {"prices": ("1",)},
        {"prices": ("a=1,-1",)},
        {"max_cost": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings) -> None:
    with pytest.raises(ValueError, match=r"compare|price"):
        LabelConfig(**settings)


def test_prices_are_of_one_model_or_of_all() -> None:
    config = LabelConfig(prices=("1,2", "org/a=3,4"))
    assert config.price_of("org/a") == (3, 4) and config.price_of("b") == (1, 2)
    assert LabelConfig().price_of("b") is None
    with pytest.raises(LabelError, match="--price b=IN,OUT"):
        budget_of("b", LabelConfig(prices=("a=1,2",), max_cost=1.0))


def test_the_most_severe_changed_latents_come_first() -> None:
    latents = pd.DataFrame(
        {
            "latent": [0, 1, 2, 3, 4],
            "verdict": ["unchanged", "amplified", "suppressed", "amplified", "dead"],
            "severity": [9.0, 0.1, np.nan, 0.7, np.nan],
        }
    )
    assert most_changed(latents, 2).tolist() == [3, 1]
    assert most_changed(latents, 9, unchanged=True).tolist() == [3, 1, 2, 0]
