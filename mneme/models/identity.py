"""A model's identity without loading it: what its files are, so that a changed model is noticed."""

from __future__ import annotations

import hashlib

from mneme.models.bases import find_base
from mneme.models.sources import Source, resolve


def model_identity(spec: str, base: str | None = None) -> str:
    """A hash of names, sizes and times of the model's files, and of those of the model it builds on.

    base: the pair's base, for an adapter that names none or one that isn't here. Cheap (no weights are read, but where
    an adapter's base must be told from the pair's). A model trained again in place gets another identity; so does one
    that is only copied, which costs a harvest but never a wrong result. Raises ModelError when it can't be found.
    """
    return _identity(resolve(spec), None if base is None else resolve(base))


def _identity(source: Source, base: Source | None) -> str:
    lines: list[str] = [source.kind]
    for path in sorted(source.folder.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".bin", ".json", ".toml", ".model", ".py"}:
            stat = path.stat()
            lines.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
    if source.kind != "weights":
        lines.append(_identity(find_base(source, base)[0], None))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
