"""PEFT adapters: merged exactly, or refused in one line."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, changed_in_layer, save, tiny_llama, tiny_tokenizer
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme.models import load_model, load_pair
from mneme.models.identity import model_identity
from mneme.models.quiet import quiet_transformers
from mneme.models.sources import resolve

peft = pytest.importorskip("peft")
IDS = torch.arange(2, 20)[None]
TARGETS = {"target_modules": ["q_proj", "down_proj"]}
KINDS: dict[str, dict[str, Any]] = {
    "AdaLoraConfig": {"total_step": 10, "init_r": 4, **TARGETS},
    "BOFTConfig": {"boft_block_size": 4, **TARGETS},
    "C3AConfig": {"block_size": 2, **TARGETS},
    "FourierFTConfig": {"n_frequency": 20, **TARGETS},
    "HRAConfig": {"r": 2, **TARGETS},
    "IA3Config": {"feedforward_modules": ["down_proj"], **TARGETS},
    "LNTuningConfig": {"target_modules": ["input_layernorm"]},
    "LoHaConfig": {"r": 2, **TARGETS},
    "LoKrConfig": {"r": 2, **TARGETS},
    "LoraConfig": {"r": 2, "use_dora": True, "use_rslora": True, **TARGETS},
    "MissConfig": {"r": 2, **TARGETS},
    "OFTConfig": {"r": 0, "oft_block_size": 4, **TARGETS},
    "RandLoraConfig": {"r": 2, **TARGETS},
    "ShiraConfig": {"r": 2, **TARGETS},
    "TrainableTokensConfig": {"target_modules": ["embed_tokens"], "token_indices": [3, 4]},
    "VBLoRAConfig": {"vector_length": 2, "r": 2, **TARGETS},
    "VeraConfig": {"r": 2, **TARGETS},
    "WaveFTConfig": {"n_frequency": 20, **TARGETS},
}


def tied_llama() -> PreTrainedModel:
    """Its head is its embedding."""
    model = tiny_llama()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    return model


def adapter(base: PreTrainedModel, folder: Path, named: str | None, config: Any) -> torch.Tensor:
    """Save an adapter with random weights in `folder`, made for `named`; the unmerged model's logits on IDS."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of tied ends
        model = peft.get_peft_model(copy.deepcopy(base), config)
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        model.peft_config["default"].base_model_name_or_path = named
        model.save_pretrained(folder, save_embedding_layers=False)
        return model.eval()(IDS).logits.detach()


def lora(**settings: Any) -> Any:
    return peft.LoraConfig(task_type="CAUSAL_LM", **{"r": 2, **TARGETS, **settings})


def change_file(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "adapter_model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})


def change_config(folder: Path, **settings: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


@pytest.fixture
def base(tmp_path: Path) -> str:
    return save(tiny_llama(), tmp_path / "base", tiny_tokenizer())


def loaded(folder: Path) -> torch.Tensor:
    """Logits of the merged model."""
    return load_model(str(folder), dtype="float32", device="cpu")(IDS).logits


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_merged_to_what_it_is_unmerged(kind: str, base: str, tmp_path: Path) -> None:
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **KINDS[kind])
    expected = adapter(tiny_llama(), tmp_path / "adapter", base, config)
    torch.testing.assert_close(loaded(tmp_path / "adapter"), expected, atol=1e-3, rtol=0)
    assert float((expected - tiny_llama()(IDS).logits).abs().max()) > 0.1


@pytest.mark.parametrize(
    "config",
    [
        peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
        peft.PromptEncoderConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    ],
    ids=lambda config: str(config.peft_type.value),
)
def test_what_is_no_change_of_weights_is_refused_in_one_line(config: Any, tmp_path: Path) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", "nowhere/at-all", config)
    with pytest.raises(ModelError, match=f"{config.peft_type.value}, which cannot be merged") as caught:
        load_model(str(tmp_path / "adapter"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]},
    ],
    ids=str,
)
def test_an_adapter_of_one_end_leaves_the_other_as_it_is(
    settings: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    model = tied_llama() if tied else tiny_llama()
    base = save(model, tmp_path / "base", tiny_tokenizer())
    expected = adapter(model, tmp_path / "adapter", base, lora(**settings))
    pair = load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu")
    tuned = pair.tuned._module
    torch.testing.assert_close(tuned(IDS).logits, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(pair.base._module(IDS).logits, model(IDS).logits)
    assert tuned.config.tie_word_embeddings == (tuned.lm_head.weight is tuned.model.embed_tokens.weight)


def test_an_adapter_of_a_tied_head_changes_nothing_before_it(tmp_path: Path) -> None:
    base = save(tied_llama(), tmp_path / "base", tiny_tokenizer())
    adapter(tied_llama(), tmp_path / "adapter", base, lora(target_modules=["lm_head"]))
    pair = load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu")
    assert (pair.changed_parameters, pair.first_changed_layer) == (("lm_head.weight",), None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda file: {f"module.{k}": v for k, v in file.items()}, "have no place in the base"),
        (
            lambda file: {k.replace("model.layers", "model.text.layers"): v for k, v in file.items()},
            "16 of its",
        ),
        (lambda file: dict(sorted(file.items())[: 2 * len(file) // 3]), "6 of its tensors are missing"),
        (lambda file: {**file, "base_model.model.extra.lora_A.weight": torch.ones(2, 2)}, "extra"),
    ],
    ids=["a prefix", "another class", "a third missing", "one too many"],
)
def test_an_adapter_whose_tensors_find_no_place_is_refused(
    change: Callable[..., Any], told: str, base: str, tmp_path: Path
) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", base, lora())
    change_file(tmp_path / "adapter", change)
    with pytest.raises(ModelError, match=f"doesn't fit its base.*{told}") as caught:
        load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu")
    assert "\n" not in str(caught.value)


def test_an_adapter_that_changes_nothing_is_refused(base: str, tmp_path: Path) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", base, lora())
    change_file(tmp_path / "adapter", lambda file: {k: torch.zeros_like(v) for k, v in file.items()})
    with pytest.raises(ModelError, match="changes no weight of its base: it is untrained"):
        load_model(str(tmp_path / "adapter"))


def test_a_merge_that_is_not_exact_is_refused(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", base, lora())
    whole = peft.LoraModel.merge_and_unload

    def wrong(self: Any) -> Any:
        model = whole(self)
        model.model.norm.weight.data *= 1.5
        return model

    monkeypatch.setattr(peft.LoraModel, "merge_and_unload", wrong)
    with pytest.raises(ModelError, match="can't be merged exactly"):
        load_model(str(tmp_path / "adapter"), dtype="float32", device="cpu")


def test_added_tokens_are_merged_and_other_shapes_told(base: str, tmp_path: Path) -> None:
    grown = tiny_llama()
    grown.resize_token_embeddings(VOCABULARY + 2, mean_resizing=False)
    config = lora(target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    expected = adapter(grown, tmp_path / "adapter", base, config)
    pair = load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu")
    torch.testing.assert_close(pair.tuned._module(IDS).logits, expected, atol=1e-4, rtol=0)
    assert pair.vocab_size == VOCABULARY

    wide = tiny_llama(width=32)
    adapter(wide, tmp_path / "wide", base, lora())
    with pytest.raises(ModelError, match=r"size mismatch for .*\[2, 32\].*\[2, 16\]") as caught:
        load_model(str(tmp_path / "wide"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("named", [None, "", "org/gone", "C:\\models\\llama", "/moved/away", "runs/base"])
def test_the_base_of_the_pair_stands_in_for_one_that_is_not_here(
    named: str | None, base: str, tmp_path: Path
) -> None:
    expected = adapter(tiny_llama(), tmp_path / "adapter", named, lora())
    spec = str(tmp_path / "adapter")
    pair = load_pair(base, spec, dtype="float32", device="cpu")
    torch.testing.assert_close(pair.tuned._module(IDS).logits, expected, atol=1e-4, rtol=0)
    assert len(pair.notes) == 1
    assert pair.notes[0].endswith(f"it is put on {base}")
    assert (named or "doesn't name its base") in pair.notes[0]
    assert model_identity(spec, base) == model_identity(spec, base)
    with pytest.raises(ModelError, match="base"):
        load_model(spec)


def test_an_adapter_of_another_model_that_is_here_is_told(base: str, tmp_path: Path) -> None:
    other = changed_in_layer(tiny_llama(), 1)
    elsewhere = save(other, tmp_path / "other", tiny_tokenizer())
    expected = adapter(other, tmp_path / "adapter", elsewhere, lora())
    pair = load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu")
    torch.testing.assert_close(pair.tuned._module(IDS).logits, expected, atol=1e-4, rtol=0)
    assert pair.notes == (
        f"{tmp_path / 'adapter'} is built on {elsewhere}, which is another model than {base}: what differs between"
        " those two counts as a change too",
    )


def test_a_copy_of_the_base_is_the_base(base: str, tmp_path: Path) -> None:
    copied = save(tiny_llama(), tmp_path / "copy")
    adapter(tiny_llama(), tmp_path / "adapter", copied, lora())
    assert load_pair(base, str(tmp_path / "adapter"), dtype="float32", device="cpu").notes == ()


def test_an_adapter_in_the_folder_of_its_base_could_mean_either(base: str, tmp_path: Path) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", base, lora())
    for file in (tmp_path / "adapter").glob("adapter_*"):
        (Path(base) / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ModelError, match="holds both a model and an adapter"):
        resolve(base)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "must hold a JSON object"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "can't be read as JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "peft_type"),
        (
            lambda folder: change_config(folder, peft_type="NEXT"),
            "kind NEXT, which the installed peft doesn't",
        ),
        (lambda folder: change_config(folder, base_model_name_or_path=None), "base_model_name_or_path"),
        (lambda folder: change_config(folder, target_modules=["nothing"]), "can't be merged"),
    ],
    ids=["no weights", "a list", "half", "no kind", "unknown kind", "no base", "other targets"],
)
def test_a_damaged_adapter_is_told_in_one_line(
    change: Callable[[Path], Any], told: str, base: str, tmp_path: Path
) -> None:
    adapter(tiny_llama(), tmp_path / "adapter", base, lora())
    change(tmp_path / "adapter")
    with pytest.raises(ModelError, match=told) as caught:
        load_model(str(tmp_path / "adapter"))
    assert "\n" not in str(caught.value)
