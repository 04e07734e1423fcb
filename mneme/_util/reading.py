"""Read whole files that a user names: text, TOML and JSON, within bounds.

A byte order mark is taken off, line ends become newlines. What can't be read is an OSError, or a ValueError whose
message is one line: a caller turns both into its own error. Lines of a large file: mneme/corpus/opened.py.
"""

from __future__ import annotations

import codecs
import json
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 256 * 2**20
"""Of a file that is read whole."""
MOST_TOML = 16 * 2**20


def check_regular(path: Path) -> int:
    """The size of a file in bytes. Raises OSError where there is none, ValueError for a pipe, device or folder."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device"}
        kind = kinds.get(stat.S_IFMT(found.st_mode), "no regular file")
        raise ValueError(f"it is {kind}: give a file")
    return found.st_size


def encoding_of(start: bytes) -> str:
    """The encoding that a file's first bytes tell: UTF-16 by its mark, else UTF-8 with or without one."""
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def read_whole(path: str | Path, most: int = MOST_BYTES) -> str:
    """The text of a file. Raises OSError, or ValueError where it is no text, no file, or of more than `most` bytes."""
    path = Path(path)
    if check_regular(path) > most:
        raise ValueError(f"it is larger than {most >> 20} MB")
    with path.open("rb") as handle:
        data = handle.read(most + 1)
    if len(data) > most:  # grown meanwhile, or a file of /proc, which says that it is empty
        raise ValueError(f"it is larger than {most >> 20} MB")
    try:
        text = data.decode(encoding_of(data[:2]))
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises OSError and ValueError as `read_whole` does, and where it is no TOML."""
    text = read_whole(path, MOST_TOML)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("tables or lists are nested too deep") from error


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError where it is none, or is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def read_json(path: str | Path) -> Any:
    """The value of a JSON file. Raises OSError and ValueError as `read_whole` and `parse_json` do."""
    return parse_json(read_whole(path))
