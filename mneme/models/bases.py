"""What an adapter or a delta builds on: the base of the pair, or the model that its own config names.

Configs go stale: they name a path of the machine that trained, a hub id whose weights lie elsewhere, or nothing. So
the pair's base, which the user named just now, stands in for a model that isn't at hand. Where the named model *is*
at hand and is another one, the adapter belongs to that one, and it is said.
"""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

from mneme._util.errors import ModelError
from mneme.models.sources import Source, is_hub_id, resolve

_NAMES = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "architectures")


def find_base(source: Source, given: Source | None) -> tuple[Source, str | None]:
    """The model that an adapter or delta builds on, and a sentence about it where it isn't the one expected.

    given: the pair's base. Without it the named model is fetched if need be. Raises ModelError when there is none.
    """
    named = source.base
    if given is None:
        if named is None:
            raise ModelError(
                f"{source.spec} doesn't name its base: set base_model_name_or_path in its adapter_config.json"
            )
        try:
            return resolve(named), None
        except ModelError as error:
            raise ModelError(f"the base of {source.spec} can't be found: {error}") from error
    if named is None:
        return given, f"{source.spec} doesn't name its base: it is put on {given.spec}"
    if named == given.spec:
        return given, None
    try:
        # One local folder is enough to work from: the hub is only asked when both are its own.
        found = resolve(named, fetch=is_hub_id(given.spec))
    except ModelError:
        return given, f"{source.spec} was made for {named}, which isn't here: it is put on {given.spec}"
    if _same(found, given):
        return given, None
    return found, (
        f"{source.spec} is built on {named}, which is another model than {given.spec}: what differs between those"
        " two counts as a change too"
    )


def _same(one: Source, other: Source) -> bool:
    """Whether two folders hold the same model."""
    if one.folder.resolve() == other.folder.resolve():
        return True
    if one.kind != "weights" or other.kind != "weights":
        return False
    files = [
        {path.name: path for path in source.folder.iterdir() if path.suffix in (".safetensors", ".bin")}
        for source in (one, other)
    ]
    return (
        files[0].keys() == files[1].keys()
        and _settings(one.folder) == _settings(other.folder)
        and all(filecmp.cmp(path, files[1][name], shallow=False) for name, path in files[0].items())
    )


def _settings(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if key not in _NAMES}
