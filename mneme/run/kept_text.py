"""Text that a Python program holds, kept as a file in the run, whose run.toml has its name: it can be made again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import zstandard

from mneme._util.files import replacing
from mneme.config import RunConfig, make_config, read_config
from mneme.corpus.chat import plain_chat
from mneme.corpus.fields import document_of
from mneme.corpus.held import rows_of

_NAME = "text-{}.jsonl.zst"  # named after what is in it: text of a refused run never replaces that of the finished one


def keep_text(source: Any, folder: Path, field: str | None = None) -> tuple[Path, bool]:
    """The file in the run's folder that holds the rows of `source`, and whether it is new there; conversations are kept
    as they are.

    Raises CorpusError for what is no text (mneme/corpus/held.py, fields.py), RunError where it can't be written.
    """
    lines = "".join(json.dumps(row, default=_plain) + "\n" for row in _checked(rows_of(source), field))
    data = lines.encode()
    file = folder.absolute() / _NAME.format(hashlib.sha256(data).hexdigest()[:12])
    if file.exists():
        return file, False
    with replacing(file) as temporary, zstandard.open(temporary, "wb") as out:
        out.write(data)
    return file, True


def where(source: str, folder: Path) -> str:
    """Where a corpus lies that run.toml names: a text that the run keeps is in the run, wherever that was moved."""
    file = folder / source
    return str(file) if fnmatch(source, _NAME.format("*")) and file.exists() else source


def as_named(source: Any, folder: Path) -> Any:
    """A corpus as the run in `folder` names it: the text that it keeps by the file's name."""
    if not isinstance(source, str):
        return source
    file = Path(source)
    kept = fnmatch(file.name, _NAME.format("*")) and file.parent.resolve() == folder.resolve()
    return file.name if kept else source


def settings_in(folder: Path) -> RunConfig:
    """The settings in a run's run.toml. Raises ConfigError."""
    made = make_config(read_config(folder / "run.toml"))
    return dataclasses.replace(made, corpus=as_named(made.corpus, folder))


def forget_other_texts(kept: Path) -> None:
    """Delete the texts that the run held before this one."""
    for file in kept.parent.glob(_NAME.format("*")):
        if file != kept:
            file.unlink()


def _checked(rows: Iterable[dict[str, Any]], field: str | None) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, start=1):
        document_of(row, f"row {number} of the corpus", field, plain_chat)
        yield row


def _plain(value: Any) -> Any:
    """What JSON has no form for: arrays as lists (a Parquet file's lists come as such), the rest as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
