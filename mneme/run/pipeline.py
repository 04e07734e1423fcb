"""The stages of a run, in order, each resumable.

    harvest -> crosscoder -> attribution -> interpretation -> labels -> effects -> report

A stage (mneme/run/stages/) is skipped when the run already holds its result made from the same settings and
inputs: its fingerprint is a hash of its settings and of the fingerprint of the stage before. Its tables
appear in one step at its end (mneme/store/run.py), and it keeps what it can meanwhile (activation shards,
training checkpoints, paid labels), so that Ctrl-C or kill -9 and the same command again give the same run.
"""

from __future__ import annotations

import dataclasses
import datetime
import gc
import hashlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import psutil

import mneme
from mneme._util.console import BothProgress, FileProgress
from mneme._util.errors import FinishedRunError, MnemeError, RunError, UserError
from mneme._util.files import translate_os_errors, write_text
from mneme._util.memory import give_back_freed_memory, keep_freed_memory
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.ranks_started import started_ranks
from mneme._util.versions import versions
from mneme.config import RunConfig
from mneme.run.context import RunContext
from mneme.run.kept_text import keep_text
from mneme.run.preflight import preflight
from mneme.run.replacing import Loss, check_loss, check_unchanged, give_up, loss, made_from
from mneme.run.stage import Stage, StageResult
from mneme.run.stages import STAGES
from mneme.store.queries.runs import read_progress
from mneme.store.run import Run, StageWriter, open_run
from mneme.store.seals import SETTINGS, check_seals, seal_folders, seal_settings
from mneme.store.writing import refresh_manifest, writing

if TYPE_CHECKING:
    from mneme.models import ModelPair
    from mneme.run.workers import Team


def run_pipeline(
    config: RunConfig,
    out: str | Path,
    progress: Progress = NULL_PROGRESS,
    *,
    first: str | None = None,
    replace: bool = False,
    pair: ModelPair | None = None,
) -> Run:
    """Do what is still to do of a run, and return it.

    `out` is the run's folder; where it stands is also kept in its progress.json. `first`: a stage to do in any
    case, on what the stages before it left, whatever made that; then those after it. `replace`: other settings or
    inputs may replace what the run has finished; without it they raise FinishedRunError, and the run stays as it is.
    `pair`: models in memory, whose names the settings then hold.
    Raises a UserError (one line that names the fix) for models, text, settings or folders that can't be used.

    Under torchrun every process calls this; those other than the first help, and return before the run is whole.
    """
    folder = Path(out)
    keep_freed_memory()
    team = None
    if started_ranks() > 1:
        if pair is not None:
            raise UserError(
                "models in memory are compared in one process: save them, and give torchrun their folders"
            )
        from mneme._util import distributed
        from mneme.run.workers import Team, run_worker

        distributed.join()
        if distributed.rank() > 0:
            run_worker(config, folder)
            return Run(folder)
        team = Team()
    with writing(folder):
        status = FileProgress(folder / "progress.json")
        try:
            with translate_os_errors(folder):
                if not isinstance(config.corpus, str):  # the texts themselves
                    kept, _ = keep_text(config.corpus, folder)
                    config = dataclasses.replace(config, corpus=kept.name)
                context = RunContext(config, folder, BothProgress(progress, status), pair)
                _run_stages(context, team, first, replace)
        except FinishedRunError as error:
            # What the run says of itself stays true; only one who started this in the background has to be told.
            told = read_progress(folder) or {}
            if (told.get("state"), told.get("pid")) == ("running", os.getpid()):
                status.end("refused", str(error))
            raise
        except KeyboardInterrupt:
            status.end("cancelled", "interrupted: the same command goes on from here")
            raise
        except BaseException as error:
            status.end("failed", str(error) if isinstance(error, MnemeError) else repr(error))
            raise
        if team is not None:
            team.dismiss()
        status.end("finished")
    return open_run(folder)


def would_lose(context: RunContext) -> Loss:
    """What the run in the context's folder would lose to the context's settings and inputs."""
    return loss(context.run, context.config, _planned(context, {"inputs": context.input_fingerprint()}))


def _run_stages(context: RunContext, team: Team | None, first: str | None, replace: bool) -> None:
    config, folder, run, progress = context.config, context.folder, context.run, context.progress
    if run.database.exists():
        open_run(folder).check_blocks()  # a damaged or newer run is told before any work
    fingerprints = {"inputs": context.input_fingerprint()} if first is None else _before(run, first)
    preflight(context, None)
    planned = _planned(context, fingerprints)
    to_do = _to_do(run, planned, first)
    done = [stage.name for stage in STAGES if stage not in to_do]
    if first is None:
        lost = loss(run, config, planned)
        if not replace:
            check_loss(run, lost)
        check_seals(folder, done, progress=progress)
        preflight(context, _start(context, planned))
        give_up(run, lost)
    else:
        check_unchanged(run, config, [name for s in STAGES if s.name in fingerprints for name in s.settings])
        check_seals(folder, done, progress=progress)
    write_text(folder / SETTINGS, config.to_toml())
    for stage in to_do:
        if stage is STAGES[-1]:  # the report tells what the manifest says
            refresh_manifest(folder, {**context.facts(), "versions": versions()})
        with _Meter() as meter:
            if team is not None:
                team.share(stage.name, context)
            result = stage.function(context)
        with run.stage_writer() as writer:
            _write(writer, folder, stage, result, planned, meter)
        gc.collect()
        give_back_freed_memory()
    refresh_manifest(folder, context.facts() | ({"versions": versions()} if to_do else {}))


def _to_do(run: Run, planned: dict[str, str], first: str | None) -> list[Stage]:
    """From `first` on; else from the first stage whose result is missing, or of other settings or inputs."""
    for number, stage in enumerate(STAGES):
        whole = run.finished(stage.name) == planned[stage.name] and stage.artefacts_exist(run.path)
        if stage.name == first or (first is None and not whole):
            return list(STAGES[number:])
    return []


def _start(context: RunContext, planned: dict[str, str]) -> str | None:
    """Which of the first two stages is the first to do: "harvest", "crosscoder", or None where both are done."""
    for stage in STAGES[:2]:
        if context.run.finished(stage.name) != planned[stage.name] or not stage.artefacts_exist(
            context.folder
        ):
            return stage.name
    return None


def _planned(context: RunContext, before: dict[str, str]) -> dict[str, str]:
    """`before`, and after it the fingerprints that the stages which are not in it will have."""
    found = dict(before)
    fingerprint = list(before.values())[-1]
    for stage in STAGES:
        if stage.name not in before:
            settings = context.config.section_hash(*stage.settings)
            fingerprint = _hash(stage.name, str(stage.revision), fingerprint, settings, stage.inputs(context))
            found[stage.name] = fingerprint
    return found


def _before(run: Run, first: str) -> dict[str, str]:
    """Fingerprints of the inputs and of the stages before `first`. Raises RunError where one is missing."""
    found = {"inputs": made_from(run) or ""}
    for stage in STAGES:
        if stage.name == first:
            break
        done = run.finished(stage.name)
        if done is None or not stage.artefacts_exist(run.path):
            raise RunError(
                f"{run.path} lacks the stage {stage.name}: `mneme run {run.path / 'run.toml'} --out {run.path}`"
                " makes it"
            )
        found[stage.name] = done
    return found


def _write(
    writer: StageWriter,
    folder: Path,
    stage: Stage,
    result: StageResult,
    fingerprints: dict[str, str],
    meter: _Meter,
) -> None:
    """The stage's tables, and nothing of the stages after it, which were made from what is now replaced."""
    later = STAGES[STAGES.index(stage) :]
    writer.clear({table for each in later for table in each.tables})
    writer.forget_stages([SETTINGS, *(each.name for each in later)])
    writer.append("artefacts", seal_settings(folder))
    writer.append("artefacts", seal_folders(folder, stage.name, stage.rooms))
    for table, rows in result.tables.items():
        writer.append(table, rows)
    if result.latent_columns is not None:
        writer.update_latents(result.latent_columns)
    if result.health is not None:
        writer.upsert("health", result.health)
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    inputs = {"inputs": fingerprints["inputs"]} if fingerprints["inputs"] else {}
    writer.set_info(mneme_version=mneme.__version__, created_at=now.isoformat(), **inputs, **result.info)
    writer.append(
        "stages",
        pd.DataFrame(
            {
                "stage": [stage.name],
                "fingerprint": [fingerprints[stage.name]],
                "seconds": [meter.seconds],
                "peak_memory_mb": [meter.peak_mb],
                "finished_at": [now.replace(tzinfo=None)],
            }
        ),
    )


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class _Meter:
    """Wall seconds, and the highest resident memory of this process, sampled while it runs."""

    def __enter__(self) -> _Meter:
        self._stop = threading.Event()
        self._process = psutil.Process()
        self.peak_mb = self._process.memory_info().rss / 1e6
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.peak_mb = max(self.peak_mb, self._process.memory_info().rss / 1e6)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._started
