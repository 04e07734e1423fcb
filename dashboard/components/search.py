"""Searching from a page: what was found, why, and the index made in the background where there is none yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboard.components import words
from mneme._util.errors import MnemeError
from mneme._util.progress import Task
from mneme.models.bundled import install_line
from mneme.search import build_index, find_meaning, find_text, is_current
from mneme.search.fulltext import query_words
from mneme.search.meaning import has_vectors
from mneme.store.queries import search as queries
from mneme.store.run import Run

MODES = ("label", "contexts", "meaning")
EXPLAINED = (
    "label: labels with these letters, your own too, or a latent's number. contexts: full text, latents with these "
    "words in a label, among the words they fire on, or in their contexts, best match first. meaning: labels that say "
    "something alike, in other words too. The first 1,000 are kept."
)
_EXPLAINED_ROWS = 100
_LOCK = threading.Lock()


@dataclass
class Making:
    """An index being made: what for, how far, and what went wrong. Also the `Progress` it reports to."""

    at: str = ""
    share: float = 0.0
    error: str = ""
    done: bool = False

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        self.at, self.share = name, 0.0
        yield _Step(self, total or 1.0)


@dataclass
class _Step:
    made: Making
    total: float

    def note(self, text: str) -> None:
        """Nothing is shown beside the share."""

    def advance(self, amount: float = 1) -> None:
        self.made.share = min(1.0, self.made.share + amount / self.total)


def found(run: Run, mode: str, text: str) -> tuple[int, ...] | None:
    """Latents that a search in `contexts` or `meaning` finds, the best first; None: no such search is on.

    Where the index is missing or old it is made in the background, and the page says so.
    """
    if mode not in MODES[1:] or not text.strip():
        return None
    if not is_current(run) and not _made(run):
        return ()
    if mode == "meaning" and not has_vectors(run):
        st.warning(
            "Labels of this run can't be searched by meaning: there was no sentence encoder when its index was made. "
            f"Install one with `{install_line()}`, and delete the run's folder `search` to have it made again.",
            icon=":material/search_off:",
        )
        return ()
    try:
        return _found(str(run.path), (run.path / "search" / "index.json").stat().st_mtime_ns, mode, text)
    except (MnemeError, OSError) as error:
        st.error("The search failed.", icon=":material/error:")
        st.code(str(error), language=None, wrap_lines=True)
        return ()


@st.cache_data(max_entries=64, show_spinner=False)
def _found(folder: str, stamp: int, mode: str, text: str) -> tuple[int, ...]:
    search = find_text if mode == "contexts" else find_meaning
    return tuple(search(Run(folder), text))


def add_matches(run: Run, frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """The frame with `match`: for its first rows, the piece of a context that has a word of `text`."""
    latents = [int(latent) for latent in frame["latent"][:_EXPLAINED_ROWS]]
    why = queries.snippets(run, latents, query_words(text))
    return frame.assign(match=[words.plain(why.get(int(latent)), 160) for latent in frame["latent"]])


@st.cache_resource
def _makings() -> dict[str, Making]:
    return {}


def _made(run: Run) -> bool:
    """Start making the index, or show how far it is; True once it can be read."""
    with _LOCK:
        making = _makings().get(str(run.path))
        if making is None or making.done:
            making = _makings()[str(run.path)] = Making()
            threading.Thread(target=_make, args=(run, making), daemon=True).start()
    _wait(making)
    return is_current(run)


def _make(run: Run, making: Making) -> None:
    try:
        try:
            from mneme.interpret.encoder import SentenceEncoder

            encoder = SentenceEncoder()
        except MnemeError:
            encoder = None  # words can still be searched
        build_index(run, encoder, making)
        making.done = True
    except Exception as error:
        making.error = str(error) if isinstance(error, MnemeError) else f"{type(error).__name__}: {error}"


@st.fragment(run_every=1.0)
def _wait(making: Making) -> None:
    if making.done:
        st.rerun()
    if making.error:
        st.error("The search index of this run could not be made.", icon=":material/error:")
        st.code(making.error, language=None, wrap_lines=True)
        return
    st.progress(
        making.share,
        text=f"Making this run's search index, once: {making.at or 'starting'}, {words.percent(making.share)}. "
        "The page goes on by itself; the other filters work meanwhile.",
    )
