"""The whole stage on a tiny pair, its frames written to a run's tables."""

from __future__ import annotations

import json

import httpx
import numpy as np
import openai
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mneme.interpret import stage
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts
from mneme.interpret.labels.llm import Server
from mneme.interpret.labels.prompt import make_question
from mneme.interpret.stage import Interpretation, interpret
from mneme.interpret.tokens import TokenTexts
from mneme.store.run import Run

from .chat_server import serving
from .fakes import FakeCache, FakeCodes

F, D = 6, 16
WORDS = ["the", "virus", "cell", "court", "judge", "law", "star", "planet", "orbit", "of", "and", "runs"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"[UNK]": 0, "a": 1} | {w: i for i, w in enumerate(WORDS, start=2)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


@pytest.fixture(scope="module")
def inputs(tokenizer):
    """Decoders, codes, cache, models and the attribution's frame; the last latent is dead."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    cache = FakeCache([rng.integers(2, len(WORDS) + 2, 50).tolist() for _ in range(40)])
    dense = (rng.random((cache.n, F)) * (rng.random((cache.n, F)) < 0.1)).astype(np.float32)
    dense[:, 0] = (cache.token == 3) * rng.random(cache.n)
    dense[:, -1] = 0
    config = LlamaConfig(
        hidden_size=D,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    pair = LlamaForCausalLM(config), LlamaForCausalLM(config)
    latents = pd.DataFrame(
        {
            "latent": np.arange(F),
            "verdict": ["amplified", "unchanged", "suppressed", "uncertain", "unchanged", "dead"],
            "severity": [0.2, 0.0, 0.9, 0.1, 0.0, np.nan],
            "dense": False,
            "position_bound": False,
        }
    )
    return torch.randn(2, F, D), FakeCodes(dense, 300), cache, pair, latents


@pytest.fixture
def config() -> InterpretConfig:
    # So few latents are placed by their components: UMAP isn't compiled.
    return InterpretConfig(top_contexts=8, decile_contexts=2, window=16, lens_tokens=3, neighbours=2)


def check(found: Interpretation, tmp_path) -> None:
    """The frames fit the tables."""
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:
        writer.append("latents", pd.DataFrame({"latent": np.arange(F)}))
        for name in ("contexts", "logit_lens", "neighbours", "labels"):
            writer.append(name, getattr(found, name))
        writer.update_latents(found.umap)
    assert run.rows("SELECT count(*) FROM contexts")[0][0] == found.contexts.num_rows
    lens = run.rows("SELECT DISTINCT model, direction FROM logit_lens")
    assert len(lens) == 6
    assert run.rows("SELECT latent FROM latents WHERE umap_x IS NULL") == [(F - 1,)]
    assert "virus" in run.rows("SELECT label FROM labels WHERE latent = 0 AND method = 'offline'")[0][0]
    overlap = "SELECT count(*) FROM contexts a JOIN contexts b USING (document) WHERE a.split <> b.split"
    assert run.rows(overlap) == [(0,)]


def test_every_frame_fits_its_table(inputs, tokenizer, config, tmp_path) -> None:
    decoders, codes, cache, pair, latents = inputs
    found = interpret(decoders, codes, cache, pair, tokenizer, config, latents=latents)
    check(found, tmp_path)
    assert found.labels.latent.tolist() == list(range(F - 1)) and found.failures.empty
    assert found.labels.score[0] > 0.5


def test_a_model_labels_the_changed_latents_most_severe_first(
    inputs, tokenizer, config, tmp_path, monkeypatch
) -> None:
    decoders, codes, cache, pair, latents = inputs
    reply = json.dumps({"label": "virus", "confidence": 1})
    with serving(lambda n, body: reply if n == 0 else "no") as server, httpx.Client() as http:
        client = openai.OpenAI(api_key="k", base_url=server.url, http_client=http, max_retries=0)
        monkeypatch.setattr(stage, "choose_server", lambda config: Server(client, "m"))
        config = InterpretConfig(**{**vars(config), "llm_concurrency": 1})
        found = interpret(
            decoders, codes, cache, pair, tokenizer, config, latents=latents, label_folder=tmp_path / "paid"
        )
    mine = found.labels[found.labels.method == "llm:m"]
    assert mine.latent.tolist() == [2] and mine.score.notna().all()
    assert found.failures[["latent", "reason"]].values.tolist() == [[0, "the reply is not JSON"]]
    check(found, tmp_path)


def test_a_question_shows_training_text_only_and_as_data(inputs, tokenizer, config) -> None:
    _, codes, cache, _, _ = inputs
    contexts = find_contexts(codes, cache, F, config)
    secret = contexts._replace(tokens=np.where(contexts.test[:, None], 1, contexts.tokens).astype(np.int32))
    question = make_question(1, secret, TokenTexts(tokenizer), {"base": ["x"]})
    assert question is not None
    data = json.loads(question.user)
    assert set(data) == {"examples", "promotes"} and data["examples"]
    for example in data["examples"]:
        assert "⟦" in example and " a " not in example
    assert "never follow" in question.system and question.system not in question.user
    assert make_question(F - 1, contexts, TokenTexts(tokenizer), {}) is None
