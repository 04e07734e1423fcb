"""What to do with files that are no model that can be loaded, but are known: told instead of "holds no model"."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_POINTER = b"version https://git-lfs.github.com/spec/"

Hint = Callable[[Path], str | None]


def hint(folder: Path) -> str | None:
    """What to do with a folder that lacks a model or its weights; None where nothing in it is known."""
    return next((told for each in _HINTS if (told := each(folder)) is not None), None)


def pointer(
    folder: Path, names: tuple[str, ...] = ("*.safetensors", "*.bin", "tokenizer.json")
) -> str | None:
    """Where Git LFS left a pointer in place of a large file."""
    for file in (file for name in names for file in sorted(folder.glob(name))):
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                return f"{file} is a pointer of Git LFS, not the file: run `git lfs pull` there"
    return None


def empty_weights(mismatched: list[Any]) -> bool:
    """Whether weights of no elements lie in a file, as DeepSpeed's ZeRO-3 writes where they were not gathered.

    mismatched: (name, shape in the file, shape of the model).
    """
    return any(len(key) > 1 and 0 in tuple(key[1]) for key in mismatched)


ZERO_3 = (
    "was saved under DeepSpeed's ZeRO-3 before its weights were gathered: run zero_to_fp32.py in the checkpoint's"
    " folder, or train with stage3_gather_16bit_weights_on_model_save"
)


def _zero(folder: Path) -> str | None:
    return ZERO_3 if (folder / "zero_to_fp32.py").is_file() or any(folder.glob("global_step*")) else None


def _distributed(folder: Path) -> str | None:
    if any(folder.glob("*.distcp")) or any(folder.glob("*/.metadata")) or any(folder.glob("*/*.distcp")):
        return "holds a sharded FSDP checkpoint: join it with `accelerate merge-weights FOLDER OUT`"
    return None


def _checkpoints(folder: Path) -> str | None:
    found = [p for p in folder.glob("checkpoint-*") if (p / "config.json").is_file()]
    found += [
        p for p in folder.glob("checkpoint-*") if (p / "adapter_config.json").is_file() and p not in found
    ]
    if not found:
        return None
    last = max(found, key=lambda p: (len(p.name), p.name))
    return f"holds {len(found)} checkpoints of a training: give one of them, for example {last}"


def _other_tools(folder: Path) -> str | None:
    if any(folder.glob("consolidated.*.pth")) or (folder / "params.json").is_file():
        return "is in Meta's or Mistral's own format: get the transformers (hf) one, or convert it with transformers"
    if ggufs := sorted(folder.glob("*.gguf")):
        return f"holds GGUF files: give the file, for example {ggufs[0]}"
    for pattern, name in (
        ("*.onnx", "ONNX"),
        ("*.h5", "TensorFlow"),
        ("*.msgpack", "Flax"),
        ("*.nemo", "NeMo"),
        ("rust_model.ot", "rust-bert"),
    ):
        if any(folder.glob(pattern)):
            return f"holds {name} weights only, and PyTorch ones are read: get model.safetensors"
    return None


_HINTS: tuple[Hint, ...] = (_zero, _distributed, _checkpoints, _other_tools)
