"""What a Python program holds as text: rows of data frames, of Datasets, and of iterables of strings or dicts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from mneme._util.errors import CorpusError

_TAKES = "give a path, a data frame, a Dataset, or a list of strings or of dicts"


def rows_of(source: Any) -> Iterator[dict[str, Any]]:
    """The rows of what a program holds; a string is a row with the field `text`.

    Raises CorpusError, in one line, for anything else.
    """
    if isinstance(source, pd.DataFrame):
        missing = source.isna()
        source = source.astype(object).mask(missing, None).to_dict("records")
    elif isinstance(source, Mapping):
        raise CorpusError(
            f"corpus is a {type(source).__name__} of {_names(source)}: give one of them, as a list or split"
        )
    elif isinstance(source, bytes | bytearray) or not isinstance(source, Iterable):
        raise CorpusError(f"corpus can't be a {type(source).__name__}: {_TAKES}")
    for number, row in enumerate(source, start=1):
        if isinstance(row, str):
            yield {"text": row}
        elif isinstance(row, Mapping):
            yield {
                str(key): value.tolist() if isinstance(value, np.ndarray) else value
                for key, value in row.items()
            }
        else:
            raise CorpusError(f"row {number} of the corpus is a {type(row).__name__}: {_TAKES}")


def described(source: Any) -> str:
    """Where the text came from, in two words."""
    n = len(source) if hasattr(source, "__len__") else None
    kind = (
        f"{type(source).__name__} of "
        if hasattr(source, "columns") or hasattr(source, "column_names")
        else ""
    )
    return f"{kind}{n:,} texts" if n is not None else "texts"


def _names(source: Any) -> str:
    names = [str(name)[:40] for name in itertools.islice(source, 6)]
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
