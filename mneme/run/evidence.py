"""`mneme evidence`: what takes longer than a run, one part after the other, each kept as it is done.

A part that the run has is skipped, so Ctrl-C or kill -9 and the same command again go on; within a part go on what its
own command keeps (dictionaries, patched latents). A part that can't be done says why, and the next one comes. Which are
done, running or not tested: `Run.evidence()`.

A new part is a `Part` in mneme/store/queries/evidence_parts.py and a function here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mneme._util.console import BothProgress, FileProgress
from mneme._util.errors import ConfigError, MnemeError, RunError
from mneme._util.files import lock_file, translate_os_errors
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import suggest
from mneme.store.queries.evidence_parts import FILE, PARTS, Part, is_done
from mneme.store.run import open_run

if TYPE_CHECKING:
    from mneme.store.run import Run

SEEDS = 2
"""Other seeds that are trained."""


def run_evidence(
    folder: str | Path, *, only: Iterable[str] = (), progress: Progress = NULL_PROGRESS
) -> dict[str, str]:
    """Do the parts that a finished run lacks, or those of `only`; returns why a part could not be done, by its name.

    Raises ConfigError for a part that there isn't, RunError for a folder that is no finished run or that another
    `mneme evidence` works on.
    """
    run = open_run(folder)
    parts = chosen_parts(only)
    if run.finished("attribution") is None:
        raise RunError(
            f"{run.path} is not finished: run `mneme run {run.path / 'run.toml'} --out {run.path}` first"
        )
    with translate_os_errors(run.path), lock_file(run.path / "evidence.lock") as mine:
        if not mine:
            raise RunError(f"another `mneme evidence` works on {run.path}: wait until it is done")
        return _work(run, parts, progress)


def chosen_parts(only: Iterable[str]) -> list[Part]:
    """The parts of these names, all for none, in the job's order. Raises ConfigError for an unknown name."""
    names, known = set(only), [part.name for part in PARTS]
    for name in sorted(names - set(known)):
        raise ConfigError(f"there is no part {name!r} of the evidence: {suggest(name, known)}")
    return [part for part in PARTS if not names or part.name in names]


def _work(run: Run, parts: list[Part], progress: Progress) -> dict[str, str]:
    turns = [part for part in parts if not is_done(run, part)]
    notes: dict[str, str] = {}
    if not turns:
        return notes
    status = FileProgress(run.path / FILE)
    status.tell(turns=[part.name for part in turns], notes=notes, part=None)
    try:
        for part in turns:
            status.tell(part=part.name)
            try:
                _DO[part.name](run.path, BothProgress(progress, status))
            except MnemeError as error:
                notes[part.name] = str(error)
            status.tell(part=None, notes=notes)
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        status.end("cancelled" if stopped else "failed", None if stopped else repr(error))
        raise
    status.end("finished")
    return notes


def _layers(folder: Path, progress: Progress) -> None:
    """The layer profile of a run that was made before there was one."""
    from mneme.harvest.layer_profile import layer_profile
    from mneme.harvest.limits import within_limits
    from mneme.harvest.plan import make_plan
    from mneme.run.finished import finished_context
    from mneme.run.pair_of_run import pair_of_run
    from mneme.store.writing import writing

    context, run = finished_context(folder, progress)
    if context.remote:
        raise RunError("a server runs this run's models, and a layer profile needs them here")
    pair = context.pair = pair_of_run(folder, context.config)
    config = within_limits(context.config.harvest, pair)
    profile = layer_profile(pair, make_plan(context.corpus, pair.tokenizer, config), progress)
    with writing(run.path), run.stage_writer() as writer:
        writer.replace("layer_profile", profile)


def _causal(folder: Path, progress: Progress) -> None:
    from mneme.run.causal import run_causal

    run_causal(folder, progress=progress)


def _readout(folder: Path, progress: Progress) -> None:
    from mneme.run.read_out import run_read_out

    run_read_out(folder, progress=progress)


def _seeds(folder: Path, progress: Progress) -> None:
    from mneme.run.stability import run_stability

    run_stability(folder, seeds=SEEDS, progress=progress)


def _nulls(folder: Path, progress: Progress) -> None:
    from mneme.run.nulls import run_nulls

    run_nulls(folder, progress=progress)


def _power(folder: Path, progress: Progress) -> None:
    from mneme.run.power_retrain import run_retrained

    run_retrained(folder, progress=progress)


_DO: dict[str, Callable[[Path, Progress], None]] = {
    "layers": _layers,
    "causal": _causal,
    "readout": _readout,
    "seeds": _seeds,
    "nulls": _nulls,
    "power": _power,
}
"""Part -> what does it: raises a MnemeError where it can't be done."""
