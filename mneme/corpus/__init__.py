"""Text -> documents -> token windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.corpus.corpus import Corpus, Document
    from mneme.corpus.load import load_corpus

__all__ = ["Corpus", "Document", "load_corpus"]

__getattr__ = lazy_exports(__name__, {"Corpus": "corpus", "Document": "corpus", "load_corpus": "load"})
