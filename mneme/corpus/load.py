"""From what a user names or holds to a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mneme._util.errors import CorpusError, ModelError, first_line
from mneme._util.settings import suggest
from mneme.corpus.chat import ChatLayout
from mneme.corpus.corpus import Corpus, Document
from mneme.corpus.fields import document_of
from mneme.corpus.held import described, rows_of
from mneme.corpus.read import Reading, read_path
from mneme.models.bundled import data_folder

CHARACTERS_PER_TOKEN = 8  # generous: English has about 4, so that enough text for max_tokens is read
LEAST_CHARACTERS = 20_000_000  # of a source that is larger than asked for, so that all its topics are seen


def load_corpus(
    source: Any,
    *,
    field: str | None = None,
    tokenizers: Sequence[Callable[[], Any]] = (),
    max_tokens: int | None = None,
) -> Corpus:
    """Read text: 'bundled', 'bundled:AREA,AREA' (some of its areas, whole), a file (.txt, .md, .jsonl, .json, .csv,
    .tsv, .parquet; .gz and .zst too), a folder of these, 'hf:NAME[:SPLIT[:FIELD]]'; or what Python holds: a path, a
    data frame, a Dataset, or strings or dicts in any iterable.

    field: which field of a row is its text, `a.b` inside of objects; None: `text`, `content`, or a conversation in one
    of the usual layouts (mneme/corpus/fields.py). tokenizers: give one each; conversations are laid out by the first
    that has a chat template. Exact duplicates are dropped; `dropped` counts what else was. `max_tokens` only bounds how
    far a large source is read (tokens aren't counted here); the harvest cuts to it.

    Raises CorpusError for text that is missing, unreadable or empty.
    """
    layout = ChatLayout(tokenizers)
    reading = Reading(field, layout)
    if isinstance(source, Path):
        source = str(source)
    found: Iterable[Document]
    if not isinstance(source, str):
        rows, source = list(rows_of(source)), described(source)
        found = (document_of(row, f"row {n} of the corpus", field, layout) for n, row in enumerate(rows, 1))
    elif source == "bundled":
        found = read_path(bundled_corpus(), reading)
    elif source.startswith("bundled:"):
        found = _areas(source)
    elif source.startswith("hf:"):
        found = _read_hub(source, reading)
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise CorpusError(f"no corpus at {source}: check the path, or use bundled or hf:NAME")
        found = read_path(path, reading)
    corpus = Corpus.of(_up_to(found, max_tokens), source, reading.dropped)
    notes = [*reading.notes, layout.note, f"left out: {corpus.left_out}" if corpus.left_out else ""]
    return Corpus(
        corpus.documents, source, corpus.fingerprint, corpus.dropped, tuple(note for note in notes if note)
    )


def bundled_corpus() -> Path:
    """The file of the bundled corpus. Raises CorpusError where it isn't."""
    try:
        file = data_folder() / "corpus" / "bundled.jsonl.zst"
    except ModelError as error:
        raise CorpusError(str(error)) from error
    if not file.is_file():
        raise CorpusError(f"the bundled corpus isn't at {file}: unset MNEME_DATA, or name a text")
    return file


def _areas(source: str) -> list[Document]:
    """The bundled corpus' documents of the areas that 'bundled:AREA,AREA' names."""
    found = list(read_path(bundled_corpus(), Reading()))
    wanted = [area.strip() for area in source.removeprefix("bundled:").split(",")]
    known = {document.topic for document in found if document.topic}
    for area in wanted:
        if area not in known:
            raise CorpusError(f"the bundled corpus has no area {area!r}: {suggest(area, known)}")
    return [document for document in found if document.topic in wanted]


def _up_to(documents: Iterable[Document], max_tokens: int | None) -> Iterator[Document]:
    limit = None if max_tokens is None else max(max_tokens * CHARACTERS_PER_TOKEN, LEAST_CHARACTERS)
    read = 0
    for document in documents:
        yield document
        read += len(document.text)
        if limit is not None and read >= limit:
            return


def _read_hub(source: str, reading: Reading) -> Iterator[Document]:
    """Stream hf:NAME[:SPLIT[:FIELD]]."""
    _, name, split, column = [*source.split(":", 3), "", ""][:4]
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CorpusError(f"{source} needs the datasets library: pip install 'mneme-diff[hub]'") from error
    try:
        rows = iter(load_dataset(name, split=split or "train", streaming=True))
        for number, row in enumerate(rows, start=1):
            yield document_of(row, f"{source} row {number}", column or reading.text_field, reading.render)
    except (OSError, ValueError, RuntimeError) as error:  # datasets and the hub client raise these
        raise CorpusError(
            f"{source} can't be had ({type(error).__name__}: {first_line(error)}):"
            " check the name and the network, or give a local file"
        ) from error
