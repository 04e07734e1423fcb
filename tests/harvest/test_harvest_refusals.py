"""What a harvest refuses, and how it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harvest_settings import CONFIG
from tiny_models import tiny_llama, tiny_tokenizer

from mneme._util.errors import ActivationError, ConfigError, CorpusError, DiskFullError, OutOfMemoryError
from mneme.corpus import Corpus, load_corpus
from mneme.harvest import HarvestConfig, harvest
from mneme.harvest.batch_memory import bytes_a_token, weight_bytes
from mneme.harvest.forward import PairReader
from mneme.models import ModelPair, pair_models


def test_a_layer_out_of_range_is_refused(pair: ModelPair, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give 0 to 3"):
        harvest(pair, corpus, replace(CONFIG, layer=4), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_too_short_is_refused(pair: ModelPair, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has 5 tokens"):
        harvest(pair, load_corpus(["short"]), CONFIG, tmp_path)


@pytest.mark.parametrize("which", ["base", "tuned"])
def test_a_model_that_gives_nan_is_named(which: str, corpus: Corpus, tmp_path: Path) -> None:
    models = {"base": tiny_llama(0), "tuned": tiny_llama(1)}
    models[which].model.layers[1].mlp.down_proj.weight.data[0, 0] = float("nan")
    pair = pair_models(
        models["base"], models["tuned"], tiny_tokenizer(), base_id="org/before", tuned_id="org/after"
    )
    culprit = {"base": "org/before", "tuned": "org/after"}[which]
    with pytest.raises(
        ActivationError, match=f"{culprit} gives NaN or infinite activations after layer 2 in doc"
    ):
        harvest(pair, corpus, CONFIG, tmp_path)


def test_an_overflow_after_the_layer_is_told_before_any_text_is_read(corpus: Corpus, tmp_path: Path) -> None:
    base, tuned = tiny_llama(0).half(), tiny_llama(1).half()
    tuned.model.norm.weight.data *= 6e4  # times a head's weights: beyond what float16 holds
    pair = pair_models(base, tuned, tiny_tokenizer())
    unmeasured = replace(CONFIG, behaviour_share=0.0)
    with pytest.raises(ActivationError, match=r"tuned gives NaN or infinite predictions .* dtype float32"):
        harvest(pair, corpus, unmeasured, tmp_path)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_predictions_that_are_no_numbers_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    tuned = tiny_llama(1)
    tuned.lm_head.weight.data[3] = float("inf")
    pair = pair_models(tiny_llama(0), tuned, tiny_tokenizer())
    with pytest.raises(ActivationError, match="tuned gives NaN or infinite predictions"):
        harvest(pair, corpus, CONFIG, tmp_path)


def test_too_little_room_is_told_before_anything_is_read(
    pair: ModelPair, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DiskFullError, match="max_tokens"):
        harvest(pair, corpus, CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spare", "told"),
    [
        (120, r"lower harvest.batch_tokens to 64$"),
        (10, r"lower harvest.batch_tokens and harvest.context_length"),
    ],
    ids=["a smaller batch fits", "none fits"],
)
def test_too_little_memory_names_the_batch_that_fits(
    spare: int,
    told: str,
    pair: ModelPair,
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    base, tuned = pair.base._module, pair.tuned._module
    usable = weight_bytes(base, tuned) + spare * bytes_a_token(base)
    monkeypatch.setattr(PairReader, "read", read)
    monkeypatch.setattr("mneme.harvest.batch_memory.usable_bytes", lambda device: usable)
    config = replace(CONFIG, behaviour_share=0.0, share_layers=False)
    with pytest.raises(OutOfMemoryError, match=told) as found:
        harvest(pair, corpus, config, tmp_path)
    assert "\n" not in str(found.value)


def test_what_models_share_is_counted_once(pair: ModelPair) -> None:
    base, tuned = pair.base._module, pair.tuned._module
    alone = sum(p.numel() * 4 for p in base.parameters()) + sum(b.numel() * 4 for b in base.buffers())
    changed = tuned.model.layers[2].mlp.down_proj.weight.numel() * 4
    assert weight_bytes(base) == alone
    assert alone + changed <= weight_bytes(base, tuned) < 1.1 * (alone + changed)


def test_impossible_settings_are_refused() -> None:
    for bad in ({"context_length": 1}, {"behaviour_share": 1.5}, {"sink_ratio": 1}, {"batch_tokens": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            HarvestConfig(**bad)
