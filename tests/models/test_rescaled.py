"""RWKV divides weights in place when it first runs: each model of a pair reads as it does alone, whoever ran before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conformance.architectures import tiny_model
from conformance.checks import plain_pass, predictions, streams
from safetensors.torch import save_file
from tiny_models import save, tiny_tokenizer
from transformers import PreTrainedModel

from mneme.harvest.forward import PairReader
from mneme.models import ModelPair, load_pair, pair_models
from mneme.models.delta import replace_tensor, sharing_copy

NAME = "rwkv.blocks.2.feed_forward.value.weight"  # one that is divided
PATH = "rwkv.blocks"
IDS = torch.randint(2, 250, (2, 30), generator=torch.Generator().manual_seed(0))


def changed() -> torch.Tensor:
    return tiny_model("rwkv").get_parameter(NAME) + 0.5


def tuned_rwkv() -> PreTrainedModel:
    model = tiny_model("rwkv")
    model.get_parameter(NAME).data.copy_(changed())
    return model


def apart(_: Path) -> ModelPair:
    return pair_models(tiny_model("rwkv"), tuned_rwkv(), tiny_tokenizer())


def sharing(_: Path) -> ModelPair:
    base = tiny_model("rwkv")
    tuned = sharing_copy(base)
    replace_tensor(tuned, NAME, changed())
    return pair_models(base, tuned, tiny_tokenizer())


def run_before(_: Path) -> ModelPair:
    """The base's weights are divided already, the tuned model's are not."""
    base = tiny_model("rwkv")
    base(IDS, use_cache=False)
    return pair_models(base, tuned_rwkv(), tiny_tokenizer())


def folders(path: Path) -> ModelPair:
    base = save(tiny_model("rwkv"), path / "base", tiny_tokenizer())
    return load_pair(base, save(tuned_rwkv(), path / "tuned"), dtype="float32", device="cpu")


def delta(path: Path) -> ModelPair:
    base = save(tiny_model("rwkv"), path / "base", tiny_tokenizer())
    (path / "delta").mkdir()
    save_file({NAME: changed()}, path / "delta" / "delta.safetensors")
    (path / "delta" / "recipe.toml").write_text(f"base = '{base}'\n")
    return load_pair(base, str(path / "delta"), dtype="float32", device="cpu")


@pytest.mark.parametrize("made", [apart, sharing, run_before, folders, delta])
@torch.no_grad()
def test_each_model_of_a_pair_reads_as_it_does_alone(
    made: Callable[[Path], ModelPair], tmp_path: Path
) -> None:
    pair = made(tmp_path)
    assert (pair.changed_parameters, pair.first_changed_layer) == ((NAME,), 2)
    base, tuned = pair.base._module, pair.tuned._module
    alone = []
    for model in (tiny_model("rwkv"), tuned_rwkv()):
        model.config.rescale_every = base.config.rescale_every  # of layers that are read, halved or not
        alone.append(model)
    for _ in range(2):
        for mine, other in ((base, alone[0]), (tuned, alone[1])):
            torch.testing.assert_close(mine(IDS, use_cache=False).logits, other(IDS, use_cache=False).logits)
    truth = [plain_pass(model, PATH, IDS) for model in alone]
    assert streams(pair, truth, IDS)[0] == "yes"
    assert predictions(pair, (alone[0], alone[1]), ["2 + 2 = 5", "one text of words"]) == "yes"
    assert PairReader(pair, 3).n_shared == 2
    torch.testing.assert_close(tuned(IDS, use_cache=False).logits, truth[1].logits)
