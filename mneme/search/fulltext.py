"""Full text: which latents have these words in their label, fire on them, or have them in their contexts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import tantivy
from tantivy import Filter, Occur, Query

from mneme.search.paths import folder
from mneme.store.run import Run

_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 12
WEIGHTS = {"label": 10.0, "fires": 4.0, "text": 1.0}
"""What a match in the label, on the words it fires on, in the text around counts in BM25."""
_LONGEST = 64  # bytes of a word that is indexed


def query_words(text: str) -> list[str]:
    """The words of a query, lower case, each once."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))[:_MOST_WORDS]


def find_text(run: Run, text: str, *, limit: int = 1000) -> list[int]:
    """Latents, the best match first: those with all the words, or where none has all, with any.

    Words are stemmed as English. Nothing of `text` is read as query syntax.
    """
    words = query_words(text)
    made = folder(run) / "index.json"
    where = folder(run) / "text"
    if not words or not made.is_file() or not where.is_dir():
        return []
    index = _opened(str(where), made.stat().st_mtime_ns)
    for occur in (Occur.Must, Occur.Should):
        # A label that says it comes first, however long the texts: BM25's weights alone don't see to that.
        found = dict.fromkeys(_match(index, words, ["label"], occur, limit))
        found.update(dict.fromkeys(_match(index, words, list(WEIGHTS), occur, limit)))
        if found:
            return list(found)[:limit]
    return []


def write_text_index(where: Path, rows: Iterable[tuple[int, str, str, str]]) -> None:
    """Make the index in an empty folder. rows: latent, its labels, words it fires on, words of its contexts."""
    index = _with_words(tantivy.Index(_schema(), path=str(where)))
    writer = index.writer(heap_size=128_000_000, num_threads=1)
    for latent, label, fires, text in rows:
        writer.add_document(tantivy.Document(latent=latent, label=label, fires=fires, text=text))
    writer.commit()
    writer.wait_merging_threads()


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("latent", fast=True)
    for name in WEIGHTS:  # the texts themselves stay in run.duckdb
        builder.add_text_field(name, tokenizer_name="words", index_option="freq")
    return builder.build()


@lru_cache(maxsize=1)
def _analyzer() -> tantivy.TextAnalyzer:
    made = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        Filter.remove_long(_LONGEST),
        Filter.lowercase(),
        Filter.ascii_fold(),
        Filter.stemmer("English"),
    ):
        made = made.filter(step)
    return made.build()


def _with_words(index: tantivy.Index) -> tantivy.Index:
    index.register_tokenizer("words", _analyzer())
    return index


@lru_cache(maxsize=4)
def _opened(where: str, stamp: int) -> tantivy.Index:
    return _with_words(tantivy.Index.open(where))


def _match(
    index: tantivy.Index, words: Sequence[str], fields: Sequence[str], occur: Occur, limit: int
) -> list[int]:
    """Latents with all (Must) or any (Should) of the words in any of the fields, by BM25, then number."""
    clauses = []
    for word in words:
        anywhere = [
            (Occur.Should, Query.boost_query(Query.term_query(index.schema, name, term), WEIGHTS[name]))
            for term in _analyzer().analyze(word)
            for name in fields
        ]
        clauses.append((occur, Query.boolean_query(anywhere) if anywhere else Query.empty_query()))
    searcher = index.searcher()
    hits = searcher.search(Query.boolean_query(clauses), limit=limit, count=False).hits
    latents: list[Any] = searcher.fast_field_values("latent", [address for _, address in hits])
    scores = (-float(score) for score, _ in hits)
    ranked = sorted(zip(scores, map(int, latents), strict=True))
    return [latent for _, latent in ranked]
