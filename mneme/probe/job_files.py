"""Requests and answers as files in the run's folder, so that no reload, restart or kill loses one.

    RUN/probe/ID.request.json    {"text", "chat"}, written by whoever asks
    RUN/probe/ID.result.json     a Reading, or {"error": one line}
    RUN/probe/worker.json        {"pid", "doing", "since"} of the worker

ID is a hash of the text and of the dictionary's file: the same text again is answered at once, and never by
another dictionary's answer. The last `KEPT` answers are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from mneme._util.files import write_text
from mneme._util.processes import living

KEPT = 30
_ID = re.compile(r"[0-9a-f]{16}")
_STARTED: list[subprocess.Popen[bytes]] = []  # waited for when looked at, or they stay as zombies


class Asked(NamedTuple):
    """A text that somebody wants read."""

    id: str
    text: str
    chat: bool


class JobFiles:
    """The folder of one run's requests."""

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        self.folder = self.run / "probe"

    # whoever asks

    def ask(self, text: str, *, chat: bool = False) -> str:
        """Leave a request (unless it is answered already); its id."""
        stamp = _stamp(self.run / "crosscoder" / "model.safetensors")
        key = hashlib.sha256(json.dumps([stamp, chat, text]).encode("utf-8", "surrogatepass")).hexdigest()[
            :16
        ]
        if "error" in (self.answer(key) or {"error": ""}):
            self._file(key, "result").unlink(missing_ok=True)
            body = json.dumps({"text": text, "chat": chat, "asked_at": time.time()})
            write_text(self._file(key, "request"), body)
        return key

    def answer(self, key: str) -> dict[str, Any] | None:
        """The reading of a request as a mapping, {"error": line}, or None while there is none."""
        return _read(self._file(key, "result")) if _ID.fullmatch(key) else None

    def asked(self, key: str) -> Asked | None:
        """The request itself; kept beside its answer."""
        found = _read(self._file(key, "request")) if _ID.fullmatch(key) else None
        return None if found is None else Asked(key, str(found.get("text", "")), bool(found.get("chat")))

    def start_worker(self) -> None:
        """Start a worker in the background, unless one is at work."""
        if self.worker() is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "mneme.probe.worker", str(self.run)],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        _STARTED.append(process)
        self.say("starting", process.pid)

    def worker(self) -> dict[str, Any] | None:
        """What the living worker does: {"pid", "doing", "since"}; None when there is none."""
        for process in list(_STARTED):
            if process.poll() is not None:
                _STARTED.remove(process)
        found = _read(self.folder / "worker.json")
        return found if found and living(found.get("pid"), "mneme.probe.worker") is not None else None

    def cancel(self, key: str) -> None:
        """Take a request back; a worker that may be reading it ends."""
        if self.answer(key) is None and _ID.fullmatch(key):
            self._file(key, "request").unlink(missing_ok=True)
            found = self.worker()
            if found is not None and found.get("doing") != "waiting":
                os.kill(int(found["pid"]), signal.SIGTERM)

    def last_words(self) -> str:
        """The end of what a worker said before it died."""
        try:
            lines = (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""

    # the worker

    def waiting(self) -> list[Asked]:
        """Requests without an answer, the oldest first."""
        files = sorted(self.folder.glob("*.request.json"), key=lambda file: (_mtime(file), file.name))
        keys = [file.name.split(".")[0] for file in files]
        open_ = [self.asked(key) for key in keys if self.answer(key) is None]
        return [request for request in open_ if request is not None]

    def reply(self, key: str, answer: dict[str, Any]) -> None:
        """Leave an answer, and drop the oldest beyond `KEPT`."""
        write_text(self._file(key, "result"), json.dumps(answer))
        answers = sorted(self.folder.glob("*.result.json"), key=_mtime, reverse=True)
        for old in answers[KEPT:]:
            old.unlink(missing_ok=True)
            self._file(old.name.split(".")[0], "request").unlink(missing_ok=True)

    def say(self, doing: str, pid: int | None = None) -> None:
        """What the worker does now."""
        body = {"pid": pid or os.getpid(), "doing": doing, "since": time.time()}
        write_text(self.folder / "worker.json", json.dumps(body))

    def _file(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}.json"


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _stamp(file: Path) -> list[int]:
    try:
        stat = file.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
