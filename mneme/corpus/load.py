"""From what a user names to a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mneme._util.errors import CorpusError, ModelError
from mneme._util.settings import suggest
from mneme.corpus.corpus import Corpus, Document
from mneme.corpus.read import TEXT_FIELDS, read_path
from mneme.models.bundled import data_folder

CHARACTERS_PER_TOKEN = 8  # generous: English has about 4, so that enough text for max_tokens is read
LEAST_CHARACTERS = 20_000_000  # of a source that is larger than asked for, so that all its topics are seen


def load_corpus(source: str | Sequence[str], *, max_tokens: int | None = None) -> Corpus:
    """Read text: 'bundled', 'bundled:AREA,AREA' (some of its areas, whole), a file (.txt, .jsonl, .jsonl.gz,
    .jsonl.zst, .parquet, .csv), a folder of these, 'hf:NAME[:SPLIT[:COLUMN]]', or a list of strings.

    Exact duplicates are dropped. `max_tokens` only bounds how far a large source is read (tokens aren't
    counted here); the harvest cuts to it.

    Raises CorpusError for text that is missing, unreadable or empty.
    """
    if not isinstance(source, str):
        return Corpus.of((Document(text) for text in source), f"{len(source)} texts")
    found: Iterable[Document]
    if source == "bundled":
        found = read_path(bundled_corpus())
    elif source.startswith("bundled:"):
        found = _areas(source)
    elif source.startswith("hf:"):
        found = _read_hub(source)
    else:
        path = Path(source).expanduser()
        if not path.exists():
            raise CorpusError(f"no corpus at {source}: check the path, or use bundled or hf:NAME")
        found = read_path(path)
    return Corpus.of(_up_to(found, max_tokens), source)


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
    found = list(read_path(bundled_corpus()))
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


def _read_hub(source: str) -> Iterator[Document]:
    """Stream hf:NAME[:SPLIT[:COLUMN]]."""
    _, name, split, column = [*source.split(":", 3), "", ""][:4]
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CorpusError(f"{source} needs the datasets library: pip install 'mneme-diff[hub]'") from error
    try:
        rows = iter(load_dataset(name, split=split or "train", streaming=True))
        for row in rows:
            key = column or next((field for field in TEXT_FIELDS if field in row), "")
            if not isinstance(row.get(key), str):
                raise CorpusError(
                    f"{source} has no text column {key or 'text'!r} (it has {', '.join(row)}): name one,"
                    f" hf:{name}:{split or 'train'}:COLUMN"
                )
            topic = row.get("topic")
            yield Document(row[key], None if topic is None else str(topic))
    except (OSError, ValueError, RuntimeError) as error:  # datasets and the hub client raise these
        raise CorpusError(
            f"{source} can't be had ({type(error).__name__}: {(str(error).splitlines() or [''])[0]}):"
            " check the name and the network, or give a local file"
        ) from error
