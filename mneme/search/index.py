"""Making the index: words of every latent, labels into vectors."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from mneme._util.files import translate_os_errors, write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.search.fulltext import write_text_index
from mneme.search.paths import folder
from mneme.store.queries import search as queries
from mneme.store.run import Run

if TYPE_CHECKING:
    from mneme.interpret.encoder import SentenceEncoder

REVISION = "4"
_BLOCK, _READERS = 1024, 4  # latents whose contexts are read at once, and threads that do at most
_LABELS = 512  # labels embedded between two reports of progress


def is_current(run: Run) -> bool:
    """Whether there is an index, made from the labels and contexts that the run has now."""
    try:
        found = json.loads((folder(run) / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("stamp") == _stamp(run)


def build_index(run: Run, encoder: SentenceEncoder | None = None, progress: Progress = NULL_PROGRESS) -> None:
    """Make the index anew, through another folder, so that readers keep the old one until it is whole.

    encoder: embeds the labels; without one there is no search by meaning. Raises DiskFullError.
    """
    stamp = _stamp(run)
    with translate_os_errors(run.path), TemporaryDirectory(prefix="search.", dir=run.path) as made:
        temporary = Path(made) / "search"
        temporary.mkdir()
        _write_words(run, temporary / "text", progress)
        if encoder is not None:
            _write_vectors(run, temporary / "meaning.npz", encoder, progress)
        write_text(temporary / "index.json", json.dumps({"stamp": stamp}) + "\n")
        shutil.rmtree(folder(run), ignore_errors=True)
        os.replace(temporary, folder(run))


def _stamp(run: Run) -> str:
    return hashlib.sha256(f"{REVISION} {queries.sources(run)}".encode()).hexdigest()


def _write_words(run: Run, where: Path, progress: Progress) -> None:
    latents = queries.last_latent(run) + 1
    n_readers = min(_READERS, os.cpu_count() or 1)

    def block(start: int) -> list[tuple[int, str, str, str]]:
        return queries.words(run, start, start + _BLOCK)

    def rows() -> Iterator[tuple[int, str, str, str]]:
        # A block lies in one of the table's row groups, which DuckDB reads with one thread.
        with ThreadPoolExecutor(n_readers) as pool:
            for begin in range(0, latents, n_readers * _BLOCK):
                end = min(begin + n_readers * _BLOCK, latents)
                for found in pool.map(block, range(begin, end, _BLOCK)):
                    yield from found
                task.advance(end - begin)

    where.mkdir()
    with progress.task("search index", total=latents) as task:
        try:
            write_text_index(where, rows())
        except ValueError as error:  # what tantivy makes of every failure, a full disk's too
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise


def _write_vectors(run: Run, file: Path, encoder: SentenceEncoder, progress: Progress) -> None:
    from mneme.interpret.scorers.text_fit import content

    found = queries.label_texts(run)
    texts, which = np.unique([content(label) for label in found["label"]], return_inverse=True)
    vectors = np.empty((len(texts), encoder.width if len(texts) else 0), np.float16)
    with progress.task("vectors of labels", total=len(texts)) as task:
        for start in range(0, len(texts), _LABELS):
            block = texts[start : start + _LABELS]
            vectors[start : start + len(block)] = encoder.embed(block.tolist())
            task.advance(len(block))
    np.savez(file, vectors=vectors, latent=found["latent"].to_numpy(np.int32), which=which.astype(np.int32))
