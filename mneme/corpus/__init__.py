"""Text -> documents -> token windows."""

from mneme.corpus.corpus import Corpus, Document
from mneme.corpus.load import load_corpus

__all__ = ["Corpus", "Document", "load_corpus"]
