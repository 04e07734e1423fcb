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

from mneme.errors import RunError
from mneme.interpret import interpret
from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts, read_contexts
from mneme.interpret.labels import stage
from mneme.interpret.labels.chat import ServerChat
from mneme.interpret.labels.config import LabelConfig
from mneme.interpret.labels.prompt import make_question
from mneme.interpret.labels.stage import Labels, label_latents
from mneme.interpret.tokens import TokenTexts
from mneme.store.queries.meaning import found_contexts, near_latents, promoted_tokens
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
            "probe": "tuned",
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


@pytest.fixture
def run(inputs, tokenizer, config, tmp_path) -> Run:
    """A run whose interpretation is done."""
    decoders, codes, cache, pair, latents = inputs
    found = interpret(decoders, codes, cache, pair, tokenizer, config)
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:
        writer.append("latents", latents)
        for name in ("contexts", "logit_lens", "neighbours"):
            writer.append(name, getattr(found, name))
        writer.update_latents(found.umap)
    return run


def label(run: Run, inputs, tokenizer, config, **options) -> Labels:
    """The labels stage on what the run holds."""
    _, codes, cache, _, latents = inputs
    contexts = read_contexts(found_contexts(run), cache, codes.dense.astype(bool).sum(0))
    found = label_latents(
        contexts,
        promoted_tokens(run),
        near_latents(run),
        codes,
        cache,
        TokenTexts(tokenizer),
        latents,
        options.pop("labels", LabelConfig()),
        interpret=config,
        **options,
    )
    with run.stage_writer() as writer:
        writer.replace("labels", found.labels)
        writer.replace("label_failures", found.failures)
        for name, rows in found.scores.items():
            writer.replace(name, rows)
    return found


def test_every_frame_fits_its_table(run, inputs, tokenizer, config) -> None:
    assert run.rows("SELECT count(*) FROM contexts")[0][0] > 0
    assert len(run.rows("SELECT DISTINCT model, direction FROM logit_lens")) == 6
    assert run.rows("SELECT latent FROM latents WHERE umap_x IS NULL") == [(F - 1,)]
    overlap = "SELECT count(*) FROM contexts a JOIN contexts b USING (document) WHERE a.split <> b.split"
    assert run.rows(overlap) == [(0,)]
    found = label(run, inputs, tokenizer, config)
    assert "virus" in run.rows("SELECT label FROM labels WHERE latent = 0 AND method = 'offline'")[0][0]
    assert found.labels.latent.tolist() == list(range(F - 1)) and found.failures.empty
    assert found.labels.score[0] > 0.5


def test_contexts_are_read_back_exactly_as_they_were_found(run, inputs, config) -> None:
    _, codes, cache, _, _ = inputs
    expected = find_contexts(codes, cache, F, config)
    found = read_contexts(found_contexts(run), cache, expected.n_active)
    for name, column in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


def test_contexts_of_other_text_are_refused(run) -> None:
    other = FakeCache([[2, 3, 4]] * 40)
    with pytest.raises(RunError, match="mneme run"):
        read_contexts(found_contexts(run), other, np.zeros(F, dtype=np.int64))


def test_a_model_labels_the_changed_latents_most_severe_first(
    run, inputs, tokenizer, config, tmp_path, monkeypatch
) -> None:
    reply = json.dumps({"label": "virus", "confidence": 1})
    with serving(lambda n, body: reply if n == 0 else "no") as server, httpx.Client() as http:
        client = openai.OpenAI(api_key="k", base_url=server.url, http_client=http, max_retries=0)
        monkeypatch.setattr(stage, "choose_chat", lambda config: ServerChat(client, "m"))
        options = {"labels": LabelConfig(llm_concurrency=1), "folder": tmp_path / "paid"}
        found = label(run, inputs, tokenizer, config, **options)
    mine = found.labels[found.labels.method == "llm:m"]
    assert mine.latent.tolist() == [2] and mine.score.notna().all()
    assert run.rows("SELECT latent, reason FROM label_failures") == [(0, "the reply is not JSON")]


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
