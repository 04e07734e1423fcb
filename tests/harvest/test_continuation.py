"""A model run on from another stream, against a plain forward hook."""

import pytest
import torch
from patched_models import LAYER, logp_by_hook, made_up, pair_of, streams_by_hook
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from mneme.harvest.continuation import Continuation
from mneme.harvest.forward import PairReader
from mneme.models.pair import pair_models


@pytest.fixture(scope="module")
def models():
    base = tiny_llama()
    return base, changed_in_layer(base, 1)


@pytest.fixture(scope="module")
def continuation(models):
    return Continuation(PairReader(pair_of(*models), LAYER))


@pytest.mark.parametrize("skips", [True, False])
def test_predictions_are_those_of_a_plain_hook(models, continuation, skips, monkeypatch):
    assert continuation.skips
    monkeypatch.setattr(continuation, "skips", skips)
    ids = made_up(1)[0]
    stream = streams_by_hook(models[0], ids) + torch.randn(len(ids), 16)
    where = torch.zeros(1, len(ids), dtype=torch.bool)
    where[0, [3, 7, 8]] = True
    found = continuation.logits(continuation.pair.tuned, torch.tensor([ids]), stream[None], where)
    expected = logp_by_hook(models[1], ids, stream)[[3, 7, 8]]
    torch.testing.assert_close(found.log_softmax(-1), expected, rtol=1e-4, atol=1e-5)


def test_own_stream_gives_own_predictions(models, continuation):
    ids = made_up(1)[0]
    where = torch.ones(1, len(ids), dtype=torch.bool)
    found = continuation.logits(
        continuation.pair.base, torch.tensor([ids]), streams_by_hook(models[0], ids)[None], where
    )
    torch.testing.assert_close(found.log_softmax(-1), logp_by_hook(models[0], ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("changed", "same"), [(1, True), (LAYER, True), (3, False)])
def test_whether_the_layers_after_it_are_the_same_is_known(changed, same):
    base = tiny_llama()
    pair = pair_of(base, changed_in_layer(base, changed))
    assert Continuation(PairReader(pair, LAYER)).same_tail is same


def test_another_architecture_is_patched_alike():
    config = GPT2Config(vocab_size=258, n_embd=16, n_layer=4, n_head=2, n_positions=64, initializer_range=0.3)
    model = GPT2LMHeadModel(config).requires_grad_(False).eval()
    pair = pair_models(model, model, tiny_tokenizer())
    ids = torch.tensor(made_up(1))
    stream, where = torch.randn(1, ids.shape[1], 16), torch.ones_like(ids, dtype=torch.bool)
    found = Continuation(PairReader(pair, LAYER)).logits(pair.base, ids, stream, where)

    def hook(module, args, output):
        return (stream, *output[1:]) if isinstance(output, tuple) else stream

    handle = model.transformer.h[LAYER].register_forward_hook(hook)
    expected = model(input_ids=ids).logits[0]
    handle.remove()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
