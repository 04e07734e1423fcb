"""What trainings leave on disk: loaded as the model it is, or told what to do with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save, tiny_llama, tiny_tokenizer

from mneme._util.errors import ModelError, first_line
from mneme.models import load_model, load_tokenizer

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tiny_llama(), tmp_path / "model", tiny_tokenizer())
    return tmp_path / "model"


def rewrite(folder: Path, change: Callable[[Tensors], Tensors]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as found:
        load_model(str(folder), device="cpu")
    assert "\n" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module.",
        "_orig_mod.module.",
        "_forward_module.",
        "_fsdp_wrapped_module.",
        "model._orig_mod.",
        "base_model.model.",
    ],
)
def test_names_that_wrappers_put_before_all_weights_are_passed_over(folder: Path, prefix: str) -> None:
    rewrite(folder, lambda tensors: {prefix + name: part for name, part in tensors.items()})
    found = load_model(str(folder), dtype="float32", device="cpu").state_dict()
    assert all(torch.equal(part, found[name]) for name, part in tiny_llama().state_dict().items())


@pytest.mark.parametrize(
    "wrapper", ["_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module._orig_mod"]
)
def test_names_that_wrappers_put_within_are_passed_over(folder: Path, wrapper: str) -> None:
    rewrite(
        folder,
        lambda tensors: {n.replace("layers.1.", f"layers.1.{wrapper}."): part for n, part in tensors.items()},
    )
    found = load_model(str(folder), dtype="float32", device="cpu").state_dict()
    assert all(torch.equal(part, found[name]) for name, part in tiny_llama().state_dict().items())


def test_an_adapter_that_was_saved_within_its_base_is_told(folder: Path) -> None:
    rewrite(
        folder,
        lambda tensors: {
            f"base_model.model.{n.replace('q_proj.', 'q_proj.base_layer.')}": part
            for n, part in tensors.items()
        },
    )
    assert "merge_and_unload()" in refused(folder)


@pytest.mark.parametrize("where", ["", "layers.1"])
def test_weights_that_zero_3_did_not_gather_are_told(folder: Path, where: str) -> None:
    rewrite(
        folder, lambda tensors: {n: torch.zeros(0) if where in n else part for n, part in tensors.items()}
    )
    assert "zero_to_fp32.py" in refused(folder)


def test_weights_of_another_shape_are_told_with_both_shapes(folder: Path) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    rewrite(folder, lambda tensors: {**tensors, name: tensors[name][:3].clone()})
    assert f"(first {name}: (3, 32) where (16, 32) is expected)" in refused(folder)


def _file(*names: str, text: str = "x") -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    return make


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (_file("zero_to_fp32.py", "latest"), "zero_to_fp32.py"),
        (_file("global_step10/zero_pp_rank_0_mp_rank_00_model_states.pt"), "zero_to_fp32.py"),
        (_file("pytorch_model_fsdp_0/.metadata"), "accelerate merge-weights"),
        (_file("checkpoint-9/config.json", "checkpoint-10/config.json"), "for example .*checkpoint-10"),
        (_file("checkpoint-5/adapter_config.json"), "for example .*checkpoint-5"),
        (_file("consolidated.00.pth"), "Meta's or Mistral's own format"),
        (_file("model-Q4_K_M.gguf"), "give the file, for example .*gguf"),
        (_file("model.onnx"), "ONNX weights only"),
        (_file("tf_model.h5"), "TensorFlow weights only"),
        (_file("flax_model.msgpack"), "Flax weights only"),
        (_file("notes.txt"), "no weights|holds no model"),
    ],
)
@pytest.mark.parametrize("with_config", [True, False])
def test_a_folder_without_weights_says_what_to_do(
    folder: Path, left: Callable[[Path], None], told: str, with_config: bool
) -> None:
    (folder / "model.safetensors").unlink()
    if not with_config:
        (folder / "config.json").unlink()
    left(folder)
    with pytest.raises(ModelError, match=told):
        load_model(str(folder), device="cpu")


def test_a_pointer_of_git_lfs_is_told(folder: Path) -> None:
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 9\n"
    )
    assert "git lfs pull" in refused(folder)


def test_a_sentencepiece_tokenizer_names_its_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(ModelError, match="pip install sentencepiece protobuf"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Error(s) in loading state_dict for X:\n\tsize mismatch for a.b: shape", "size mismatch for a.b: shape"),
        ("Error(s) in loading state_dict for X:\n\tMissing key(s): 'a'", "Missing key(s): 'a'"),
        ("Traceback (most recent call last):\n  File \"x.py\", line 3\nKeyError: 'no key'", "KeyError: 'no key'"),
        ("\x1b[1mthe reason\x1b[0m\n\nsee the above report", "the reason"),
        ("----\n the   reason \n----", "the reason"),
        ("", "ValueError"),
    ],
)  # fmt: skip
def test_the_line_with_the_reason_is_quoted(text: str, line: str) -> None:
    assert first_line(ValueError(text)) == line


def test_the_reason_may_lie_in_the_error_before() -> None:
    try:
        try:
            raise KeyError("no such layer")
        except KeyError as before:
            raise RuntimeError("For details look at the above report!") from before
    except RuntimeError as error:
        assert first_line(error) == "'no such layer'"


def test_a_folder_of_checkpoints_loads_by_the_one_that_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "trained" / "checkpoint-20")
    load_model(str(tmp_path / "trained" / "checkpoint-20"), device="cpu")
    assert "for example" in refused(tmp_path / "trained")
