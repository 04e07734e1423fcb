"""The reconstruction spliced into tiny models."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from handmade import HandMade
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme.attribution.splice import splice_health
from mneme.harvest.config import HarvestConfig
from mneme.models.pair import pair_models


@pytest.fixture(scope="module")
def pair():
    base = tiny_llama()
    return pair_models(base, changed_in_layer(base, 1), tiny_tokenizer())


@pytest.fixture
def cache():
    """Documents of 12 tokens; the first token of each was not kept."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, 200, (6, 12)).astype(np.int32)
    return SimpleNamespace(
        layer=2,
        n_documents=6,
        document=np.repeat(np.arange(6), 11),
        position=np.tile(np.arange(1, 12), 6),
        document_tokens=lambda i: tokens[i],
    )


def dictionary(scale):
    """Latents +e_i and -e_i of each model: the reconstruction is scale times the stream."""
    eye = torch.eye(16)
    both = torch.zeros(2, 64, 16)
    both[0, :16], both[0, 16:32], both[1, 32:48], both[1, 48:] = eye, -eye, eye, -eye
    return HandMade(both.transpose(1, 2), both * scale, torch.zeros(2, 16))


def test_a_perfect_reconstruction_loses_nothing(pair, cache):
    health = splice_health(pair, dictionary(1.0), cache).set_index("metric")
    assert health.value.abs().max() < 1e-4 and set(health.status) == {"ok"}


def test_what_the_reconstruction_misses_is_lost(pair, cache):
    little = splice_health(pair, dictionary(0.9), cache).set_index("metric").value
    much = splice_health(pair, dictionary(0.0), cache).set_index("metric").value
    for model in ("base", "tuned"):
        assert 0 < little[f"splice_kl_{model}"] < much[f"splice_kl_{model}"]


def test_loss_is_that_of_a_plain_hook(pair, cache):
    health = splice_health(pair, dictionary(0.5), cache).set_index("metric")
    model = tiny_llama()  # the same weights as the pair's base
    kls = []

    def hook(module, args, output):
        halved = output.clone()
        halved[:, 2:] *= 0.5  # neither BOS nor the token that the harvest left out
        return halved

    for document in range(6):
        tokens = torch.from_numpy(cache.document_tokens(document)).long()
        ids = torch.cat([torch.tensor([pair.tokenizer.bos_token_id]), tokens])[None]  # as the harvest reads
        plain = model(input_ids=ids).logits[0, 2:-1].log_softmax(-1)
        handle = model.model.layers[2].register_forward_hook(hook)
        spliced = model(input_ids=ids).logits[0, 2:-1].log_softmax(-1)
        handle.remove()
        kls.append((plain.exp() * (plain - spliced)).sum(-1))
    assert health.value["splice_kl_base"] == pytest.approx(float(torch.cat(kls).mean()), rel=1e-4)


def test_a_tokenizer_without_bos_reads_the_text_alone(cache):
    base = tiny_llama()
    bare = pair_models(base, changed_in_layer(base, 1), tiny_tokenizer(bos=None))
    health = splice_health(bare, dictionary(1.0), cache, HarvestConfig(context_length=12))
    assert health.value.abs().max() < 1e-4


def test_no_text_gives_no_value(pair, cache):
    cache.document_tokens = lambda i: np.array([5], dtype=np.int32)
    health = splice_health(pair, dictionary(1.0), cache)
    assert health.value.isna().all() and set(health.status) == {"info"}
