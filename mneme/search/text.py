"""Full text: which latents have these words in their label, fire on them, or have them in their contexts."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from mneme.search.index import folder
from mneme.store.run import Run

_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 12
WEIGHTS = (10.0, 4.0, 1.0)
"""What a match in the label, on the words it fires on, in the text around counts in BM25."""


def query_words(text: str) -> list[str]:
    """The words of a query, lower case, each once."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))[:_MOST_WORDS]


def find_text(run: Run, text: str, *, limit: int = 1000) -> list[int]:
    """Latents, the best match first: those with all the words, or where none has all, with any.

    Words are stemmed as English. Nothing of `text` is read as query syntax.
    """
    words = query_words(text)
    file = folder(run) / "text.sqlite"
    if not words or not file.is_file():
        return []
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        for join in (" AND ", " OR "):
            asked = join.join(f'"{word}"' for word in words)
            # A label that says it comes first, however long the texts: BM25's weights alone don't see to that.
            found = dict.fromkeys(_match(db, f"{{label}}: ({asked})", limit))
            found.update(dict.fromkeys(_match(db, asked, limit)))
            if found:
                return list(found)[:limit]
    return []


def _match(db: sqlite3.Connection, expression: str, limit: int) -> list[int]:
    rows = db.execute(
        "SELECT rowid FROM latents WHERE latents MATCH ? ORDER BY bm25(latents, ?, ?, ?), rowid LIMIT ?",
        (expression, *WEIGHTS, limit),
    )
    return [latent for (latent,) in rows]
