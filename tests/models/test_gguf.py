"""GGUF files: every weight is the file's, or the file is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, dequantize
from gguf_files import gguf_llama, write_gguf
from tiny_models import VOCABULARY, changed_in_layer, save, tiny_llama
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme.models import load_model, load_pair, load_tokenizer

IDS = torch.arange(2, 20)[None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNEME_CACHE", str(tmp_path / "cache"))


def load(spec: str) -> PreTrainedModel:
    return load_model(spec, dtype="float32", device="cpu")


def test_a_gguf_in_float32_holds_the_very_weights(tmp_path: Path) -> None:
    loaded = load(write_gguf(tmp_path / "a.gguf", gguf_llama()))
    expected = gguf_llama().state_dict()
    assert [
        name for name, found in loaded.state_dict().items() if not torch.equal(found, expected[name])
    ] == []


def test_only_what_was_tuned_differs_between_a_folder_and_a_gguf(tmp_path: Path) -> None:
    base = save(gguf_llama(), tmp_path / "base")
    load_tokenizer(write_gguf(tmp_path / "base.gguf", gguf_llama())).save_pretrained(base)
    tuned = write_gguf(tmp_path / "tuned.gguf", changed_in_layer(gguf_llama(), 2))
    pair = load_pair(base, tuned, dtype="float32", device="cpu")
    assert pair.changed_parameters == ("model.layers.2.mlp.down_proj.weight",)


def test_a_gguf_in_float16_keeps_each_tensor_in_its_own_precision(tmp_path: Path) -> None:
    model = gguf_llama()
    model.model.norm.weight.data += 1e-4  # which float16 and bfloat16 round
    loaded = load(write_gguf(tmp_path / "a.gguf", model, kind=np.float16)).state_dict()
    for name, expected in model.state_dict().items():
        held = expected if expected.ndim == 1 else expected.half().float()
        assert torch.equal(loaded[name], held), name


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"])
def test_weights_of_few_bits_are_those_that_llama_cpp_unpacks(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantised = GGMLQuantizationType[kind]
    block, size = GGML_QUANT_SIZES[quantised]
    rng, written, plain = np.random.default_rng(0), {}, GGUFWriter.add_tensor

    def add(writer: GGUFWriter, name: str, array: np.ndarray) -> None:
        if name.startswith("blk.") and array.ndim == 2:
            blocks = rng.integers(0, 64, (array.shape[0], array.shape[1] // block * size), dtype=np.uint8)
            written[name] = dequantize(blocks, quantised)
            plain(writer, name, blocks, raw_shape=blocks.shape, raw_dtype=quantised)
        else:
            plain(writer, name, array)

    monkeypatch.setattr(GGUFWriter, "add_tensor", add)
    model = tiny_llama(layers=2, width=256, vocabulary=VOCABULARY + 1)
    found = load(write_gguf(tmp_path / "a.gguf", model)).state_dict()
    for layer in range(2):
        expected = torch.from_numpy(written[f"blk.{layer}.ffn_up.weight"].copy()).bfloat16().float()
        assert expected.isfinite().all() and torch.equal(
            found[f"model.layers.{layer}.mlp.up_proj.weight"], expected
        )


@pytest.mark.parametrize("missing", ["blk.1.ffn_up.weight", "output_norm.weight", "blk.3.attn_k.weight"])
def test_a_weight_that_a_gguf_lacks_is_not_made_up(missing: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks 1 of its weights \(first model\."):
        load(write_gguf(tmp_path / "a.gguf", gguf_llama(), without=[missing]))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_gguf_without_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"lacks token_embd\.weight") as caught:
        load(write_gguf(tmp_path / "a.gguf", gguf_llama(), without=["token_embd.weight"]))
    assert "\n" not in str(caught.value)


def test_one_shard_of_a_split_gguf_is_refused(tmp_path: Path) -> None:
    half = [f"blk.{layer}.{part}.weight" for layer in (2, 3) for part in ("ffn_up", "ffn_down", "attn_q")]
    with pytest.raises(ModelError, match="llama-gguf-split --merge") as caught:
        load(write_gguf(tmp_path / "a-00001-of-00002.gguf", gguf_llama(), without=half))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", ["blk.0.attn_q.bias", "blk.7.attn_norm.weight"])
def test_a_weight_that_would_be_dropped_is_told(extra: str, tmp_path: Path) -> None:
    added = {extra: np.ones(16, dtype=np.float32)}
    with pytest.raises(ModelError, match=f"holds 1 weights of layers .*first {extra}"):
        load(write_gguf(tmp_path / "a.gguf", gguf_llama(), extra=added))


def llama3(factor: float) -> PreTrainedModel:
    """With Llama 3.1's scaling of rotary embeddings."""
    model: Any = gguf_llama()
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor}
    more = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    model.config.rope_parameters = {**rope, **more}
    scaled = type(model)(model.config).eval()
    scaled.load_state_dict(model.state_dict())
    return scaled


def test_the_rotary_table_of_llama_3_is_read(tmp_path: Path) -> None:
    model: Any = llama3(8.0)
    plain = 500000.0 ** (-torch.arange(0, 8, 2).float() / 8)
    table = (plain / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)
    loaded = load(write_gguf(tmp_path / "a.gguf", model, extra={"rope_freqs.weight": table}))
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits, atol=1e-4, rtol=0)
    other = {"rope_freqs.weight": np.array([1, 3, 5, 8], dtype=np.float32)}
    with pytest.raises(ModelError, match="a table that no setting stands for"):
        load(write_gguf(tmp_path / "b.gguf", model, extra=other))


def test_scaled_rotary_embeddings_are_read_or_refused(tmp_path: Path) -> None:
    linear = load(write_gguf(tmp_path / "a.gguf", gguf_llama(), scaling="linear"))
    assert (linear.config.rope_parameters["rope_type"], linear.config.rope_parameters["factor"]) == (
        "linear",
        4.0,
    )
    with pytest.raises(ModelError, match="by yarn, which can't be taken"):
        load(write_gguf(tmp_path / "b.gguf", gguf_llama(), scaling="yarn"))


def test_a_token_that_only_the_reader_adds_is_not_asked_of_the_model(tmp_path: Path) -> None:
    spec = write_gguf(tmp_path / "a.gguf", gguf_llama())
    tokenizer = load_tokenizer(spec)
    assert len(tokenizer) == gguf_llama().config.vocab_size
    assert max(tokenizer("a <|endoftext|> b", add_special_tokens=False)["input_ids"]) < len(tokenizer)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1)
    other = write_gguf(tmp_path / "b.gguf", changed_in_layer(gguf_llama(), 1))
    assert load_pair(spec, other, device="cpu").first_changed_layer == 1


def test_a_gguf_of_a_weight_that_is_tied_stays_tied(tmp_path: Path) -> None:
    model: Any = gguf_llama()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    loaded: Any = load(write_gguf(tmp_path / "a.gguf", model, without=["output.weight"]))
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    torch.testing.assert_close(loaded(IDS).logits, model(IDS).logits)
