"""Models that were made to harm: one line each, nothing that they hold is run, and no count is believed."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_files import gguf_llama, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_models import save, tiny_llama, tiny_tokenizer

from mneme._util.errors import ModelError
from mneme.models import load_model, load_tokenizer
from mneme.models.identity import model_identity


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MNEME_CACHE", str(tmp_path / "cache"))
    save(tiny_llama(), tmp_path / "model", tiny_tokenizer())
    return tmp_path / "model"


def refused(spec: object) -> str:
    with pytest.raises(ModelError) as found:
        load_model(str(spec), device="cpu")
    assert "\n" not in str(found.value)
    return str(found.value)


class Code:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("written", ["torch", "pickle", "bytes"])
def test_code_in_pickled_weights_is_not_run(folder: Path, tmp_path: Path, written: str) -> None:
    (folder / "model.safetensors").unlink()
    file, ran = folder / "pytorch_model.bin", tmp_path / "ran"
    if written == "torch":
        torch.save({"a": Code(ran)}, file)
    else:
        file.write_bytes(pickle.dumps({"a": Code(ran)}) if written == "pickle" else b"garbage")
    assert "more than tensors" in refused(folder)
    assert not ran.exists()


def test_code_in_an_adapter_is_not_run(folder: Path, tmp_path: Path) -> None:
    adapter, ran = tmp_path / "adapter", tmp_path / "ran"
    adapter.mkdir()
    told = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["q_proj"], "r": 2}
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    torch.save({"a": Code(ran)}, adapter / "adapter_model.bin")
    assert "adapter" in refused(adapter)
    assert not ran.exists()


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}',
        b"[" * 100_000,
    ],
)
def test_bombs_of_safetensors_are_refused(folder: Path, header: bytes) -> None:
    for length in (len(header), 2**63):
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + b"\0" * 16)
        refused(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"vocab_size": ' + "9" * 5000 + "}", "\ud800", "3", ""])
@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_settings_that_are_bombs_are_refused(folder: Path, text: str, name: str) -> None:
    (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    assert name in refused(folder)


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "base = " + "9" * 5000, "base", "", "x = 1"])
def test_recipes_that_are_bombs_are_refused(folder: Path, text: str) -> None:
    save_file({"x": torch.zeros(1)}, folder / "delta.safetensors")
    (folder / "recipe.toml").write_text(text)
    assert "recipe.toml must be TOML" in refused(folder)


@pytest.mark.parametrize("kind", ["recipe", "adapter"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_model_that_is_built_on_itself_is_refused(tmp_path: Path, kind: str, length: int) -> None:
    folders = [tmp_path / str(i) for i in range(length)]
    for folder, base in zip(folders, [*folders[1:], folders[0]], strict=True):
        folder.mkdir()
        if kind == "recipe":
            (folder / "recipe.toml").write_text(f'base = "{base}"')
            save_file({"x": torch.zeros(1)}, folder / "delta.safetensors")
        else:
            told = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
            (folder / "adapter_config.json").write_text(json.dumps(told))
            save_file({"x": torch.zeros(1)}, folder / "adapter_model.safetensors")
    for use in (load_model, load_tokenizer, model_identity):
        with pytest.raises(ModelError, match="is built on itself"):
            use(str(folders[0]))


@pytest.mark.parametrize(
    "name", ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"]
)
def test_sizes_that_the_files_can_not_hold_are_refused_before_they_are_made(folder: Path, name: str) -> None:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {name: 10**9}))
    assert "can't be right" in refused(folder)


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("gguf")
    return Path(write_gguf(folder / "a.gguf", gguf_llama())).read_bytes()


def _at(raw: bytes, place: int, form: str, value: int) -> bytes:
    changed = bytearray(raw)
    struct.pack_into(form, changed, place, value)
    return bytes(changed)


@pytest.mark.parametrize("value", [0, 2**31, 2**40, 2**62, 2**63])
@pytest.mark.parametrize("what", ["tensors", "settings", "length of a name", "tokens", "length of a token"])
def test_false_counts_of_a_gguf_are_refused(gguf: bytes, folder: Path, what: str, value: int) -> None:
    tokens = gguf.find(b"tokenizer.ggml.tokens") + len(b"tokenizer.ggml.tokens") + 4
    places = {
        "tensors": 8, "settings": 16, "length of a name": 24, "tokens": tokens + 4, "length of a token": tokens + 12,
    }  # fmt: skip
    if value == 0 and what == "length of a token":
        value = 2**50
    file = folder / "false.gguf"
    file.write_bytes(_at(gguf, places[what], "<Q", value))
    refused(file)


@pytest.mark.parametrize("name", ["block_count", "embedding_length", "vocab_size", "feed_forward_length"])
@pytest.mark.parametrize("value", [2**31 - 1, 2**32 - 1])
def test_false_sizes_of_a_gguf_are_refused(gguf: bytes, folder: Path, name: str, value: int) -> None:
    key = f"llama.{name}".encode()
    file = folder / "false.gguf"
    file.write_bytes(_at(gguf, gguf.find(key) + len(key) + 4, "<I", value))
    assert "can't be right" in refused(file)


@given(place=st.integers(0, 12_000), junk=st.binary(min_size=1, max_size=12))
@settings(max_examples=40)
def test_no_damage_to_a_gguf_header_ends_in_a_traceback(
    gguf: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    file = folder / "damaged.gguf"
    file.write_bytes(gguf[:place] + junk + gguf[place + len(junk) :])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MNEME_CACHE", str(folder / "cache"))
        try:
            load_model(str(file), device="cpu")
        except ModelError as error:
            assert "\n" not in str(error)
