"""Documents, and the corpus they make."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from mneme._util.errors import CorpusError

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n?")
BLANK, DUPLICATE = "blank documents", "duplicates"
SURROGATES, NULS = "lone surrogates replaced", "NUL characters"


class Document(NamedTuple):
    """A text, and what its source says it is about."""

    text: str
    topic: str | None = None


@dataclass(frozen=True)
class Corpus:
    """Task-agnostic text to read a pair on, without exact duplicates.

    Texts have newlines only (no carriage returns), no NUL characters, and are valid Unicode.
    """

    documents: list[Document] = field(metadata={"doc": "in the source's order"})
    source: str = field(metadata={"doc": "where the text came from, as the user wrote it"})
    fingerprint: str = field(metadata={"doc": "SHA-256 of all texts and topics, in order"})
    dropped: Mapping[str, int] = field(
        default_factory=dict, metadata={"doc": "what was left out -> how many"}
    )
    notes: tuple[str, ...] = field(default=(), metadata={"doc": "how it was read, where that isn't plain"})

    @property
    def n_duplicates(self) -> int:
        """Documents left out: their text had come before."""
        return self.dropped.get(DUPLICATE, 0)

    @property
    def left_out(self) -> str:
        """What was left out or replaced, in words; empty where nothing was."""
        return ", ".join(f"{n:,} {what}" for what, n in self.dropped.items() if n)

    @classmethod
    def of(cls, documents: Iterable[Document], source: str, dropped: Counter[str] | None = None) -> Corpus:
        """Documents that say something, each once; `dropped` is counted on. Raises CorpusError when there are none."""
        dropped = Counter() if dropped is None else dropped
        digest = hashlib.sha256()
        seen: set[bytes] = set()
        kept: list[Document] = []
        for document in documents:
            text = clean_text(document.text, dropped).strip()
            if not text:
                dropped[BLANK] += 1
                continue
            key = hashlib.sha256(text.encode()).digest()
            if key in seen:
                dropped[DUPLICATE] += 1
                continue
            seen.add(key)
            topic = None if document.topic is None else clean_text(document.topic, dropped)
            named = (topic or "").encode()
            digest.update(key + len(named).to_bytes(4, "little") + named)
            kept.append(Document(text, topic))
        if not kept:
            raise CorpusError(f"the corpus {source} has no text: give a file that holds some")
        return cls(kept, source, digest.hexdigest(), dict(dropped))


def clean_text(text: str, dropped: Counter[str]) -> str:
    """A text as models and files can take it: newlines, no NULs, no lone surrogates; what goes is counted."""
    if "\r" in text:
        text = _LINE_END.sub("\n", text)
    if "\x00" in text:
        dropped[NULS] += text.count("\x00")
        text = text.replace("\x00", "")
    if not text.isascii() and _LONE_SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode(
            "utf-16", "surrogatepass"
        )  # pairs become characters
        text, n = _LONE_SURROGATE.subn("\ufffd", text)
        if n:
            dropped[SURROGATES] += n
    return text
