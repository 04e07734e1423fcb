"""manifest.json: what a run was made from, and the SHA-256 of each of its artefacts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from mneme._util.files import sha256, write_text

_log = logging.getLogger(__name__)

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json, {} where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.debug("%s can't be read, and counts as empty: %s", folder / MANIFEST, error)
        return {}
    return found if isinstance(found, dict) else {}


def write_json(folder: Path, said: dict[str, Any]) -> None:
    """manifest.json with these keys, in order."""
    write_text(folder / MANIFEST, json.dumps(said, indent=2, sort_keys=True) + "\n")


def rehash(file: Path) -> None:
    """Say what an artefact that was written again is now; nothing where the manifest has no such artefact."""
    said = read_manifest(file.parent)
    if file.name in said.get("artefacts", {}):
        said["artefacts"][file.name] = sha256(file)
        write_json(file.parent, said)
