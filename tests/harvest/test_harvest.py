"""The harvest against a plain forward pass of each model over each document by itself."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harvest_settings import CONFIG
from tiny_models import VOCABULARY, changed_in_layer, tiny_llama, tiny_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from mneme.corpus import Corpus
from mneme.harvest import HarvestConfig, estimated_bytes, harvest, shards
from mneme.harvest.behaviour import compare_predictions
from mneme.models import ModelPair, pair_models


def plain(model: torch.nn.Module, ids: list[int], layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(residual stream after the layer, logits) of one unpadded window, by transformers alone."""
    with torch.no_grad():
        out = model(torch.tensor([ids]), output_hidden_states=True)
    return out.hidden_states[layer + 1][0], out.logits[0]


def expected(pair: ModelPair, corpus: Corpus, config: HarvestConfig) -> dict[str, Any]:
    """Everything a harvest should hold, a window at a time, in double loops."""
    rows: dict[str, list] = {
        "document": [],
        "position": [],
        "token": [],
        "x": [],
        "kl": [],
        "base": [],
        "tuned": [],
    }
    layer = config.layer if config.layer != "auto" else 1
    for number, document in enumerate(corpus.documents):
        ids = pair.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        stride = config.context_length - 1
        for start in range(0, len(ids), stride):
            part = ids[start : start + stride]
            base, base_logits = plain(pair.base._module, [0, *part], layer)
            tuned, tuned_logits = plain(pair.tuned._module, [0, *part], layer)
            for i, token in enumerate(part):
                p = base_logits[i + 1].double().log_softmax(0)
                q = tuned_logits[i + 1].double().log_softmax(0)
                after = ids[start + i + 1] if start + i + 1 < len(ids) else None
                rows["document"].append(number)
                rows["position"].append(start + i)
                rows["token"].append(token)
                rows["x"].append(torch.stack([base[i + 1], tuned[i + 1]]))
                rows["kl"].append(float((p.exp() * (p - q)).sum()))
                rows["base"].append(np.nan if after is None else -float(p[after]))
                rows["tuned"].append(np.nan if after is None else -float(q[after]))
    return rows


def test_a_harvest_holds_what_plain_forward_passes_give(
    pair: ModelPair, corpus: Corpus, tmp_path: Path
) -> None:
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    truth = expected(pair, corpus, CONFIG)
    assert cache.n == len(truth["token"])
    assert cache.document.tolist() == truth["document"]
    assert cache.position.tolist() == truth["position"]
    assert cache.token.tolist() == truth["token"]
    x = torch.cat(list(cache.batches(64)))
    assert torch.allclose(x, torch.stack(truth["x"]), atol=1e-4)
    assert not torch.allclose(x[:, 0], x[:, 1], atol=1e-2)
    measured = ~np.isnan(cache.kl)
    for name, column in (("kl", cache.kl), ("base", cache.nll_base), ("tuned", cache.nll_tuned)):
        wanted = np.where(measured, truth[name], np.nan)
        np.testing.assert_allclose(column, wanted, atol=1e-4, err_msg=name)
    assert cache.kl[measured].mean() > 0.01
    assert cache.document.dtype == cache.token.dtype == np.int32
    assert cache.kl.dtype == np.float32
    assert (cache.layer, cache.n_layers, cache.width, cache.n_shared_layers) == (2, 4, 16, 2)


def test_behaviour_is_measured_on_the_wanted_share_of_each_topic(
    pair: ModelPair, corpus: Corpus, tmp_path: Path
) -> None:
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    measured = {int(d) for d in cache.document[~np.isnan(cache.kl)]}
    for topic in "abc":
        of_topic = [d for d, t in enumerate(cache.topics) if t == topic]
        assert len(measured & set(of_topic)) in (4, 5, 6), topic
    # The first tokens of a document or none.
    for d in range(30):
        here = cache.document == d
        assert (np.isfinite(cache.kl[here]) == ((d in measured) & (cache.position[here] < 20))).all()
    longer = [d for d in measured if len(cache.document_tokens(d)) > 20]
    assert longer and all(
        np.isfinite(cache.nll_base[(cache.document == d) & (cache.position == 19)]).all() for d in longer
    )


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_behaviour_or_all_of_it(share: float, pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    config = replace(CONFIG, behaviour_share=share, behaviour_tokens=1000)
    cache = harvest(pair, corpus, config, tmp_path)
    # of each document its first window, which is what the models read at once
    assert (np.isfinite(cache.kl) == ((share > 0) & (cache.position < CONFIG.context_length - 1))).all()


def test_documents_are_whole_and_described(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    frame = cache.documents()
    for number, document in enumerate(corpus.documents):
        ids = pair.tokenizer(document.text, add_special_tokens=False)["input_ids"]
        assert cache.document_tokens(number).tolist() == ids
        assert frame.loc[number, ["topic", "n_tokens", "n_kept", "preview"]].tolist() == [
            document.topic,
            len(ids),
            len(ids),
            document.text[:200],
        ]
    lengths = [len(cache.document_tokens(d)) for d in range(30)]
    assert cache.n_skipped_bos == sum(-(-length // 39) for length in lengths)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2


def test_batch_and_shard_sizes_change_nothing(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    one = harvest(pair, corpus, CONFIG, tmp_path / "a")
    other = harvest(pair, corpus, replace(CONFIG, batch_tokens=41, shard_tokens=10_000), tmp_path / "b")
    assert torch.allclose(one.read(0, one.n), other.read(0, other.n), atol=1e-4)
    np.testing.assert_allclose(one.kl, other.kl, atol=1e-4)
    assert one.fingerprint != other.fingerprint


def test_a_pair_that_shares_nothing_is_read_too(corpus: Corpus, tmp_path: Path) -> None:
    pair = pair_models(tiny_llama(0), tiny_llama(1), tiny_tokenizer())
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    assert cache.n_shared_layers == 0
    truth = expected(pair, corpus, CONFIG)
    assert torch.allclose(cache.read(0, cache.n), torch.stack(truth["x"]), atol=1e-4)


def test_a_model_against_itself_differs_nowhere(corpus: Corpus, tmp_path: Path) -> None:
    cache = harvest(pair_models(tiny_llama(), tiny_llama(), tiny_tokenizer()), corpus, CONFIG, tmp_path)
    x = cache.read(0, cache.n)
    assert torch.equal(x[:, 0], x[:, 1])
    assert np.nanmax(cache.kl) == 0


def test_no_bos_where_the_tokenizer_has_none(corpus: Corpus, tmp_path: Path) -> None:
    pair = pair_models(tiny_llama(0), tiny_llama(1), tiny_tokenizer(bos=None))
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    assert cache.n_skipped_bos == 0
    hidden, _ = plain(pair.base._module, cache.document_tokens(0).tolist(), 2)
    assert torch.allclose(cache.read(0, len(hidden))[:, 0], hidden, atol=1e-4)


def test_attention_sinks_are_left_out_and_counted(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    whole = harvest(pair, corpus, CONFIG, tmp_path / "whole")
    norms = whole.read(0, whole.n).norm(dim=-1)
    first_shard = json.loads((tmp_path / "whole" / shards.INDEX).read_text())["shards"][0]["n"]
    medians = norms[:first_shard].median(0).values
    limited = harvest(pair, corpus, replace(CONFIG, sink_ratio=1.2), tmp_path / "limited")
    keep = (norms <= 1.2 * medians).all(1)
    assert 0 < int((~keep).sum()) == limited.n_skipped_sinks < whole.n
    assert torch.equal(limited.read(0, limited.n), whole.read(0, whole.n)[keep])
    np.testing.assert_array_equal(limited.token, whole.token[keep.numpy()])
    np.testing.assert_array_equal(limited.kl, whole.kl[keep.numpy()])
    assert limited.document_tokens(3).tolist() == whole.document_tokens(3).tolist()
    assert limited.documents().n_kept.sum() == limited.n
    assert limited.median_norm == pytest.approx(medians.tolist(), rel=1e-6)


def test_activations_are_stored_in_bfloat16_by_default(
    pair: ModelPair, corpus: Corpus, tmp_path: Path
) -> None:
    exact = harvest(pair, corpus, CONFIG, tmp_path / "a")
    cache = harvest(pair, corpus, replace(CONFIG, store_dtype="bfloat16"), tmp_path / "b")
    assert torch.equal(cache.read(0, cache.n), exact.read(0, exact.n).bfloat16())
    size = sum(file.stat().st_size for file in (tmp_path / "b").glob("*.safetensors"))
    estimate = estimated_bytes(cache.n, cache.width, replace(CONFIG, store_dtype="bfloat16"))
    assert estimate <= size <= estimate + 2000 * len(list((tmp_path / "b").iterdir()))


def test_max_tokens_bounds_what_is_read(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    cache = harvest(pair, corpus, replace(CONFIG, max_tokens=123), tmp_path)
    assert cache.n == 123
    assert set(cache.topics) == {"a", "b", "c"}


def test_gpt2_with_learned_positions_is_read_too(corpus: Corpus, tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "gpt2", n_embd=16, n_layer=4, n_head=2, vocab_size=VOCABULARY, n_positions=32
    )
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    tuned = copy.deepcopy(base)
    tuned.transformer.h[1].mlp.c_proj.weight.data += 1
    pair = pair_models(base, tuned, tiny_tokenizer())
    # The positions end at 32: longer windows are cut to that.
    cache = harvest(pair, corpus, CONFIG, tmp_path)
    assert cache.n_shared_layers == 1
    truth = expected(pair, corpus, replace(CONFIG, context_length=32))
    assert torch.allclose(cache.read(0, cache.n), torch.stack(truth["x"]), atol=1e-4)


def test_the_behaviour_comparison_matches_float64_over_uneven_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mneme.harvest.behaviour._CHUNK", 50)
    generator = torch.Generator().manual_seed(0)
    base, tuned = (10 * torch.randn(7, n, generator=generator) for n in (20, 23))
    following = torch.tensor([3, -1, 0, 19, 5, 5, -1])
    found = compare_predictions(base, tuned, following)
    p, q = base.double().log_softmax(1), tuned[:, :20].double().log_softmax(1)
    assert torch.allclose(found.kl.double(), (p.exp() * (p - q)).sum(1), rtol=1e-4)
    for nll, log_p in ((found.nll_base, p), (found.nll_tuned, q)):
        wanted = [-float(log_p[i, t]) if t >= 0 else np.nan for i, t in enumerate(following.tolist())]
        np.testing.assert_allclose(nll, wanted, rtol=1e-4)


def test_progress_counts_every_token_once(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    class Counter:
        done, waits = 0.0, False

        def task(self, name: str, total: float | None, unit: str = "") -> Any:
            self.total = total
            return self

        def __enter__(self) -> Counter:
            return self

        def __exit__(self, *_: object) -> None: ...

        def advance(self, amount: float = 1) -> None:
            self.done += amount

        def note(self, text: str) -> None:
            self.last = text
            self.waits = self.waits or bool(text)

    counter = Counter()
    cache = harvest(pair, corpus, CONFIG, tmp_path, counter)
    assert counter.done == counter.total == sum(len(cache.document_tokens(d)) for d in range(30))
    assert counter.waits and counter.last == ""  # said while predictions are measured, and taken back


@pytest.mark.parametrize(("changed", "layer"), [(0, 1), (1, 1), (2, 2), (3, 3)])
def test_the_default_layer_is_the_middle_but_never_before_the_first_change(
    changed: int, layer: int, corpus: Corpus, tmp_path: Path
) -> None:
    pair = pair_models(tiny_llama(), changed_in_layer(tiny_llama(), changed), tiny_tokenizer())
    cache = harvest(pair, corpus, replace(CONFIG, layer="auto", max_tokens=200), tmp_path)
    assert cache.layer == layer
    assert not torch.equal(*cache.read(0, cache.n).unbind(1))
