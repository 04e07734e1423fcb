"""Shards on their way to the disk: one is written (copied, hashed, synced) while the models read the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from mneme._util import distributed
from mneme._util.errors import MnemeError
from mneme.harvest import shards

_log = logging.getLogger(__name__)

Write = Callable[[], dict[str, Any] | None]


class ShardWriter:
    """Writes a shard of each rank at a time, and enters it in the index once it is whole.

    To be used as a context: leaving it waits for the last shard, after an exception too, so that nothing that was read
    is read again (with several ranks, which may not all have failed, only what is in the index by then is kept).
    """

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder, self.index = folder, index
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[dict[str, Any] | None] | None = None

    def start(self, write: Write) -> None:
        """Wait for the shard before, then begin with this one: `write` gives its entry, None where there is none.
        Collective. Raises what the writing of the shard before raised."""
        self._enter()
        self._writing = self._thread.submit(write)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._enter()
            elif distributed.world_size() == 1:
                try:
                    self._enter()
                except (OSError, MnemeError):  # what went wrong first is told
                    _log.debug("the last shard was not kept either", exc_info=True)
        finally:
            self._thread.shutdown()

    def _enter(self) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        entries = distributed.gather(writing.result)
        self.index["shards"] += [entry for entry in entries if entry is not None]
        if distributed.rank() == 0:
            shards.write_index(self.folder, self.index)
