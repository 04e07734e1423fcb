"""Open a text file of any size as lines: packed or not, with or without a byte order mark, within bounds.

Bounds keep a hostile file from taking the machine: a line of a gigabyte, a kilobyte that unpacks to a terabyte, a pipe
that nobody writes to.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import zstandard

from mneme._util.errors import CorpusError, first_line
from mneme._util.reading import check_regular, encoding_of

MOST_LINE = 32 * 2**20
"""Characters of a line, and of a document."""
MOST_EMPTY = 1_000_000
MOST_UNPACKED = 64 * 2**20
"""Bytes that any packed file may unpack to; beyond, it is held against its size."""
MOST_RATIO = 200
"""Ordinary text unpacks to three to twenty times its size."""
PACKED = (".gz", ".zst")
_PIECE = 4096  # bytes of .zst unpacked at once: at most some 130 MB, whatever they hold


@contextlib.contextmanager
def opened(path: Path, *, newline: str | None) -> Iterator[TextIO]:
    """The text of a file, unpacked; `newline` as for `open`.

    Raises CorpusError, in one line, for what is missing, no regular file, damaged, cut short, no UTF-8 (or UTF-16 with
    a mark), or unpacks to far more than text does.
    """
    try:
        size = check_regular(path)
        with path.open("rb") as packed:
            raw = _unpacked(path, packed, size)
            yield io.TextIOWrapper(raw, encoding=encoding_of(raw.peek(2)[:2]), newline=newline)
    except FileNotFoundError as error:
        raise CorpusError(f"no file at {path}: check the path") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} can't be read: it is not UTF-8; save it as UTF-8") from error
    except EOFError as error:
        raise CorpusError(f"{path} can't be read: it was cut short; copy or make it again") from error
    except (OSError, ValueError, zlib.error, zstandard.ZstdError) as error:
        raise CorpusError(f"{path} can't be read: {first_line(error)}; copy or make it again") from error


def lines_of(text: TextIO, path: Path) -> Iterator[str]:
    """Its lines, with their ends. Raises CorpusError for one beyond MOST_LINE, or MOST_EMPTY empty ones in a row."""
    number, empty = 0, 0
    while line := text.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise CorpusError(
                f"{path} line {number} is longer than {MOST_LINE >> 20} million characters: no document is; split it"
            )
        empty = 0 if line.strip() else empty + 1
        if empty > MOST_EMPTY:
            raise CorpusError(f"{path} has {empty:,} empty lines in a row: it is no text")
        yield line


def _unpacked(path: Path, packed: io.BufferedReader, size: int) -> io.BufferedReader:
    suffix = path.suffix.casefold()
    if suffix not in PACKED:
        return packed
    pieces = _gzip(packed) if suffix == ".gz" else _zstd(packed)
    return io.BufferedReader(_Bounded(pieces, max(MOST_UNPACKED, MOST_RATIO * size)), 1 << 16)


def _gzip(packed: io.BufferedReader) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=packed) as source:
        while data := source.read(1 << 16):
            yield data


def _zstd(packed: io.BufferedReader) -> Iterator[bytes]:
    """What all frames hold. Raises EOFError where the last one ends early: the library's reader says nothing of it."""
    frame = None
    while data := packed.read(_PIECE):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError


class _Bounded(io.RawIOBase):
    """What a packed file unpacks to, as long as text could."""

    def __init__(self, pieces: Iterator[bytes], most: int) -> None:
        self._pieces, self._most, self._read, self._held = pieces, most, 0, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._held = memoryview(piece)
            self._read += len(piece)
            if self._read > self._most:
                raise ValueError(f"it unpacks to more than {MOST_RATIO} times its size, as no text does")
        view = memoryview(buffer)
        n = min(len(view), len(self._held))
        view[:n], self._held = self._held[:n], self._held[n:]
        return n
