"""Finding latents by words and by meaning, without a network.

    RUN/search/
      text/            tantivy: a document a latent; fields label, fires (words it fires on), text (words around)
      meaning.npz      vectors of the labels, each text once, and which latents have it
      index.json       what it was made from

Made by the stage `report` and again whenever the labels or contexts have changed, or an older mneme made it; the
dashboard makes it in the background where a run has none. DuckDB's own full-text extension would be fetched from the
network at first use; SQLite's FTS5 took twice the time and space and up to twenty times the wait on rich text.
"""

from mneme.search.fulltext import find_text
from mneme.search.index import build_index, is_current
from mneme.search.meaning import find_meaning

__all__ = ["build_index", "find_meaning", "find_text", "is_current"]
