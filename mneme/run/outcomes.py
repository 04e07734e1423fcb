"""Give a run its measured outcomes: measured here, or brought from elsewhere; then effects and report are made again.

They lie in the run's folder, outcomes.csv, so that the same command finds them later.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from mneme._util.errors import RunError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.config import RunConfig
from mneme.effects.benchmark import load_benchmark
from mneme.effects.categories import load_taxonomy
from mneme.effects.outcome_files import check_categories, own_outcomes, write_outcomes
from mneme.effects.outcome_kinds import merged
from mneme.run.finished import settings_of
from mneme.store.queries import tables
from mneme.store.run import Run, open_run
from mneme.store.seals import ROOMS, check_seals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mneme.effects.benchmark import Item


class Coverage(NamedTuple):
    """Which of the run's categories have an outcome."""

    measured: int
    without: tuple[str, ...]


def measure_run(
    folder: str | Path,
    benchmark: str | Path,
    *,
    per_category: int | None = None,
    every: int = 1,
    first: int = 0,
    kept: str | Path | None = None,
    progress: Progress = NULL_PROGRESS,
) -> tuple[pd.DataFrame, Coverage]:
    """Measure both models of a finished run on a benchmark; returns its outcomes.

    benchmark: a bundled quiz by name (words, synonyms, definitions: capability), or a path (see `load_benchmark`): NLL
    of its text and, of questions with choices, whether the answers are right. every, first, per_category: of a path.

    Goes on after an interruption: finished batches are kept in the run until the end; or for good in a file `kept`,
    so that other runs that share a model measure it once. Raises OutcomesError for a benchmark that
    can't be read or names categories that the run has not, RunError for a folder that is no finished run, ModelError
    for models that have changed since the run.
    """
    from mneme.effects.outcomes import capability_of, measure
    from mneme.effects.quiz import QUIZZES, load_quiz, measure_quiz
    from mneme.run.pair_of_run import pair_of_run

    config = _settings(folder)
    keys = load_taxonomy(config.effects.taxonomy).keys
    partial = Path(folder) / "outcomes.partial" if kept is None else Path(kept)
    if str(benchmark) in QUIZZES:
        name = str(benchmark)
        quiz = load_quiz(name, keys)
        pair = pair_of_run(Path(folder), config)
        models = (pair.base._module, pair.tuned._module, pair.tokenizer)
        frame = measure_quiz(*models, quiz, name=name, partial=partial, progress=progress)
        return frame, _give(folder, frame, partial, kept, progress)
    items = load_benchmark(benchmark, per_category=per_category, every=every, first=first)
    check_categories(benchmark, sorted({item.category for item in items}), keys)
    pair = pair_of_run(Path(folder), config)
    name = Path(benchmark).stem
    frame = measure(
        pair.base._module,
        pair.tuned._module,
        pair.tokenizer,
        items,
        source=_source(Path(benchmark), items, every, first),
        partial=partial,
        progress=progress,
    )
    frame = pd.concat([frame.assign(benchmark=name), capability_of(frame.assign(benchmark=name))])
    return frame, _give(folder, frame, partial, kept, progress)


def _give(
    folder: str | Path, frame: pd.DataFrame, partial: Path, kept: str | Path | None, progress: Progress
) -> Coverage:
    covered = give_outcomes(folder, frame, progress)
    if kept is None:
        partial.unlink(missing_ok=True)
    return covered


def give_outcomes(folder: str | Path, frame: pd.DataFrame, progress: Progress = NULL_PROGRESS) -> Coverage:
    """Write outcomes (COLUMNS) into a finished run beside those of other benchmarks; make effects and report again.

    What of the run's outcomes stays: outcome_kinds.merged. A file that the run's settings named is no longer read.
    Raises OutcomesError for unknown categories.
    """
    from mneme.run.pipeline import run_pipeline

    config = _settings(folder)
    keys = load_taxonomy(config.effects.taxonomy).keys
    check_categories("outcomes", list(frame["category"]), keys)
    before = tables.outcomes(open_run(folder))
    write_outcomes(merged(before, frame), own_outcomes(folder))
    effects = dataclasses.replace(config.effects, outcomes=None)
    # on what the run holds, whatever has become of its models since: only effects and report are made again
    run_pipeline(dataclasses.replace(config, effects=effects), folder, progress, first="effects")
    measured = set(frame["category"])
    return Coverage(len(measured), tuple(key for key in keys if key not in measured))


def _settings(folder: str | Path) -> RunConfig:
    """The settings of a run whose effects are done, and whose files are those that its tables were made from."""
    run: Run = open_run(folder)
    if run.finished("effects") is None:
        raise RunError(
            f"{run.path} has no effects yet: run `mneme run {run.path / 'run.toml'} --out {run.path}` first"
        )
    config = settings_of(run)
    check_seals(run.path, ROOMS.values())
    run.check_blocks()
    return config


def _source(path: Path, items: Sequence[Item], every: int, first: int) -> str:
    rows = "" if every == 1 and first == 0 else f", rows {first}::{every}"
    return f"{path.name}{rows}, {len(items)} items"
