"""Finding latents by words and by meaning, without a network.

    RUN/search/
      text.sqlite      SQLite's FTS5: a row a latent; columns label, fires (words it fires on), text (words around)
      meaning.npz      vectors of the labels, each text once, and which latents have it
      index.json       what it was made from

Made by the stage `report` and again whenever the labels or contexts have changed; the dashboard makes it in
the background where a run has none. SQLite comes with Python and needs no download at first use, which
DuckDB's own full-text extension does.
"""

from mneme.search.index import build_index, is_current
from mneme.search.meaning import find_meaning
from mneme.search.text import find_text

__all__ = ["build_index", "find_meaning", "find_text", "is_current"]
