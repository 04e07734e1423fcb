"""python -m mneme.probe.worker RUN: reads what is asked of a run until nothing is asked for a while.

The models are loaded once and stay in memory; without requests for MNEME_PROBE_IDLE seconds (300) it ends.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from pathlib import Path

from mneme._util.errors import MnemeError
from mneme._util.files import lock_file
from mneme.probe.job_files import JobFiles

_PAUSE_S = 0.2


def main(run: Path, idle_s: float) -> int:
    """Answer requests; 0 at the end, also when another worker is at it already."""
    job_files = JobFiles(run)
    job_files.folder.mkdir(parents=True, exist_ok=True)
    with lock_file(job_files.folder / "worker.lock") as mine:
        if not mine:
            return 0
        job_files.say("starting")
        with contextlib.suppress(KeyboardInterrupt):
            _work(job_files, idle_s)
        (job_files.folder / "worker.json").unlink(missing_ok=True)
    return 0


def _work(job_files: JobFiles, idle_s: float) -> None:
    prober, loaded = None, None
    last = time.monotonic()
    while time.monotonic() - last < idle_s:
        requests = job_files.waiting()
        if not requests:
            time.sleep(_PAUSE_S)
            continue
        request = requests[0]
        try:
            stamp = (job_files.run / "crosscoder" / "model.safetensors").stat().st_mtime_ns
            if prober is None or stamp != loaded:
                from mneme.probe.probe import Prober

                prober = None
                gc.collect()
                prober, loaded = Prober.of_run(job_files.run, job_files.say), stamp
            job_files.say("reading the text")
            job_files.reply(request.id, prober.read(request.text, chat=request.chat)._asdict())
        except MnemeError as error:
            job_files.reply(request.id, {"error": str(error)})
        except Exception as error:  # told to whoever asked, and the worker lives on
            job_files.reply(request.id, {"error": f"it could not be read: {error!r}"[:500]})
        job_files.say("waiting")
        last = time.monotonic()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(os.environ.get("MNEME_PROBE_IDLE", "300"))))
