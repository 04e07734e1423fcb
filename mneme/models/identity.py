"""A model's identity without loading it: what its files are, so that a changed model is noticed."""

from __future__ import annotations

import hashlib

from mneme.models.sources import resolve


def model_identity(spec: str) -> str:
    """A hash of names, sizes and times of the model's files, and of those of the model it builds on.

    Cheap (no weights are read). A model trained again in place gets another identity; so does one that is
    only copied, which costs a harvest but never a wrong result. Raises ModelError when it can't be found.
    """
    source = resolve(spec)
    lines: list[str] = [source.kind]
    for path in sorted(source.folder.iterdir()):
        if path.is_file() and path.suffix in {".safetensors", ".bin", ".json", ".toml", ".model"}:
            stat = path.stat()
            lines.append(f"{path.name} {stat.st_size} {stat.st_mtime_ns}")
    if source.base is not None:
        lines.append(model_identity(source.base))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
