"""Documents, and the corpus they make."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mneme._util.errors import CorpusError


class Document(NamedTuple):
    """A text, and what its source says it is about."""

    text: str
    topic: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Task-agnostic text to read a pair on, without exact duplicates."""

    documents: list[Document] = field(metadata={"doc": "in the source's order"})
    source: str = field(metadata={"doc": "where the text came from, as the user wrote it"})
    fingerprint: str = field(metadata={"doc": "SHA-256 of all texts and topics, in order"})
    n_duplicates: int = field(default=0, metadata={"doc": "documents left out: their text had come before"})

    @classmethod
    def of(cls, documents: Iterable[Document], source: str) -> Corpus:
        """Documents that say something, each once. Raises CorpusError when there are none."""
        digest = hashlib.sha256()
        seen: set[bytes] = set()
        kept: list[Document] = []
        n_duplicates = 0
        for document in documents:
            text = document.text.strip()
            if not text:
                continue
            key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
            if key in seen:
                n_duplicates += 1
                continue
            seen.add(key)
            topic = (document.topic or "").encode("utf-8", "surrogatepass")
            digest.update(key + len(topic).to_bytes(4, "little") + topic)
            kept.append(Document(text, document.topic))
        if not kept:
            raise CorpusError(f"the corpus {source} has no text: give a file that holds some")
        return cls(kept, source, digest.hexdigest(), n_duplicates)
