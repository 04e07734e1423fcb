import json

import numpy as np
import pandas as pd
import pytest
from effects_world import TOML, World, predict
from interpret.chat_server import serving

from mneme._util.errors import LabelError
from mneme._util.progress import NULL_PROGRESS
from mneme.config import make_config
from mneme.effects.categories import load_taxonomy
from mneme.effects.config import EffectsConfig
from mneme.effects.llm_assignment import ask_categories, category_prompts, read_categories
from mneme.interpret.label_config import LabelConfig
from mneme.run.context import RunContext
from mneme.run.preflight import preflight

LABELS = pd.DataFrame(
    {
        "latent": [4, 1, 3],
        "label": ["viruses", "banks", 'ends of words"}]'],
        "detail": [json.dumps({"sentence": "Active on viruses."}), None, "no JSON"],
    }
)


@pytest.fixture
def taxonomy(tmp_path):
    file = tmp_path / "areas.toml"
    file.write_text(TOML)
    return load_taxonomy(file)


def test_a_model_lays_labels_to_categories_and_bad_replies_are_reasons(taxonomy, tmp_path, monkeypatch):
    def reply(_, body):
        label = json.loads(body["messages"][1]["content"])["label"]
        areas = {"viruses": {"cells": 0.9}, "banks": {"cells": 1, "money": 1}}.get(label, {"geology": 1})
        return "Sure: " + json.dumps({"areas": areas})

    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        found = ask_categories(LABELS, taxonomy, "m", LabelConfig(), tmp_path / "labels")
        again = ask_categories(LABELS.iloc[:2], taxonomy, "m", LabelConfig(), tmp_path / "labels")
        assert len(server.requests) == 3  # what was paid for is kept
        system = server.requests[0]["messages"][0]["content"]
    assert "cell gene virus" in system and '"money"' in system
    assert found.weights[4].tolist() == pytest.approx([0.9, 0]) and found.weights[1].tolist() == [0.5, 0.5]
    assert list(found.reasons) == [3] and "not in the list: 'geology'" in found.reasons[3]
    assert again.weights.keys() == {4, 1}


def test_a_question_quotes_the_label_and_its_sentence(taxonomy):
    prompts = category_prompts(LABELS, taxonomy)
    assert list(prompts) == [4, 1, 3] and len({prompt.system for prompt in prompts.values()}) == 1
    assert json.loads(prompts[4].user) == {"label": "viruses", "sentence": "Active on viruses."}
    assert json.loads(prompts[3].user) == {"label": 'ends of words"}]'}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ("none of them", "not JSON"),
        ('{"area": "cells"}', "no areas"),
        ('{"areas": ["cells"]}', "no areas"),
        ('{"areas": {"cells": "much"}}', "not a number"),
        ('{"areas": {"cells": true}}', "not a number"),
        ('{"areas": {"cells": 1.5}}', "not a number"),
        ('{"areas": {"a": 0, "b": 0, "c": 0, "d": 0}}', "more than 3"),
    ],
)
def test_replies_that_cannot_be_used_say_why(reply, why):
    with pytest.raises(LabelError, match=why):
        read_categories(reply, ["cells", "money"])


def test_none_is_an_answer():
    assert read_categories('{"areas": {}}', ["cells", "money"]).tolist() == [0, 0]


@pytest.mark.parametrize("assign", ["llm", "both"])
def test_the_models_weights_take_the_place_of_the_encoders_or_half_of_it(assign, tmp_path):
    world = World.make(tmp_path)
    file = tmp_path / "areas.toml"
    file.write_text(TOML)
    labels = pd.DataFrame({"latent": [3], "label": ["gene"]})

    def weights(named, assign="encoder"):
        config = EffectsConfig(
            taxonomy=str(file), window=12, replicates=10, assign=assign, label_weight=0.9, min_weight=0
        )
        found = predict(world, config, labels=labels, named=named).latent_categories
        rows = found[found["latent"] == 3].set_index("category")["weight"]
        return rows.reindex(["cells", "money"]).fillna(0).to_numpy()

    encoder, model = weights(None), weights({3: np.array([0.0, 1.0])}, "llm")
    assert encoder[0] > encoder[1] and model[1] > model[0]
    if assign == "both":
        assert weights({3: np.array([0.0, 1.0])}, "both") == pytest.approx((encoder + model) / 2)


def test_a_model_that_is_not_named_is_told_before_any_work(tmp_path, monkeypatch):
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    pair = {"base": "bundled:base", "tuned": "bundled:tuned", "corpus": "bundled"}
    context = RunContext(make_config({**pair, "effects": {"assign": "llm"}}), tmp_path, NULL_PROGRESS)
    with pytest.raises(LabelError, match="OPENAI_MODEL"):
        preflight(context)
