"""A comparison kept beside the first run, and the process that makes it.

    RUN/compare/KEY.parquet     the matched pairs; method and reason in the file's metadata
    RUN/compare/KEY.json        {"pid", "since"} while it is made, {"error": line} when it failed

KEY is a hash of the second run's folder and of both databases' state: a run that went on is compared again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mneme._util.errors import MnemeError, RunError
from mneme._util.files import replacing, translate_os_errors, write_text
from mneme._util.processes import living
from mneme.compare.compare import Comparison, compare_runs

_log = logging.getLogger(__name__)

_STARTED: list[subprocess.Popen[bytes]] = []
KEPT = 20


class CompareFile:
    """The kept comparison of two runs."""

    def __init__(self, one: str | Path, other: str | Path) -> None:
        self.one, self.other = Path(one).resolve(), Path(other).resolve()
        stamps = [(run / "run.duckdb").stat().st_mtime_ns for run in (self.one, self.other)]
        key = hashlib.sha256(json.dumps([str(self.other), stamps]).encode()).hexdigest()[:16]
        self.file = self.one / "compare" / f"{key}.parquet"
        self.state_file = self.file.with_suffix(".json")

    def read(self) -> Comparison | None:
        """The comparison, or None when it is not made yet."""
        try:
            table = pq.read_table(self.file)
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowInvalid) as error:
            _log.warning("the comparison in %s can't be read, and is made again: %s", self.file, error)
            return None
        facts = table.schema.metadata or {}
        return Comparison(facts[b"method"].decode(), facts[b"why"].decode(), table.to_pandas())

    def make(self) -> Comparison:
        """Compare now, in this process, and keep it, where the first run's folder can be written. Raises RunError as
        `compare_runs` does."""
        found = compare_runs(self.one, self.other)
        try:
            with translate_os_errors(self.file):
                self._keep(found)
        except RunError as error:
            _log.debug("the comparison is not kept: %s", error)
        return found

    def _keep(self, found: Comparison) -> None:
        table = pa.Table.from_pandas(found.latents, preserve_index=False)
        table = table.replace_schema_metadata({"method": found.method, "why": found.why})
        with replacing(self.file) as temporary:
            pq.write_table(table, temporary)
        for old in sorted(self.file.parent.glob("*.parquet"), key=lambda f: f.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)

    def start(self) -> None:
        """Make it in the background, unless that is under way. Raises RunError where the folder can't be written."""
        if self.state().get("pid"):
            return
        with translate_os_errors(self.file.parent):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self.file.parent, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.file.parent))
        process = subprocess.Popen(
            [sys.executable, "-m", "mneme.compare.cache", str(self.one), str(self.other)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        _STARTED.append(process)
        self.say(pid=process.pid, since=time.time())

    def cancel(self) -> None:
        """End the process that makes it."""
        if pid := self.state().get("pid"):
            os.kill(pid, signal.SIGTERM)
        self.state_file.unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """{"pid", "since"} while a living process makes it, {"error"} when it failed, else {}."""
        for process in list(_STARTED):
            if process.poll() is not None:
                _STARTED.remove(process)
        try:
            found: dict[str, Any] = json.loads(self.state_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if "error" in found:
            return {"error": str(found["error"])}
        if living(found.get("pid"), "mneme.compare"):
            return found
        return {"error": "the comparison ended without a word: try again"}

    def say(self, **body: Any) -> None:
        """Replace the state."""
        write_text(self.state_file, json.dumps(body))


def main(one: str, other: str) -> int:
    """What `start` runs."""
    kept = CompareFile(one, other)
    try:
        kept.make()
    except MnemeError as error:
        kept.say(error=str(error))
        return 2
    except Exception as error:
        kept.say(error=f"they could not be compared: {error!r}"[:500])
        return 1
    with contextlib.suppress(OSError):
        kept.state_file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
