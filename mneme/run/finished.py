"""Commands on a finished run: its context and settings, dictionaries trained for checks, its verdict and report."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from mneme._util.errors import ConfigError, RunError
from mneme._util.files import known_sha256
from mneme._util.progress import Progress
from mneme._util.settings import differing, stable_repr
from mneme.config import RunConfig, make_config
from mneme.run.context import RunContext
from mneme.run.kept_text import settings_in
from mneme.store.run import Run, open_run
from mneme.store.seals import SETTINGS, check_seals, sealed_settings

if TYPE_CHECKING:
    from mneme.crosscoder import Crosscoder, CrosscoderConfig
    from mneme.harvest.protocols import Source

_NOTE = "made_from.txt"

_ANYHOW = (
    *("base", "tuned", "corpus"),  # known by what is in them, wherever they lie
    *(f"harvest.{key}" for key in ("dtype", "device", "cache_gb", "remote", "batch_tokens")),
)


def finished_context(folder: str | Path, progress: Progress) -> tuple[RunContext, Run]:
    """The context of a run whose attribution is done, and whose files are those that its tables were made from.

    Raises RunError for a folder that is no such run, or whose settings or files have changed since.
    """
    run = open_run(folder)
    if run.finished("attribution") is None or not (run.path / "activations" / "index.json").exists():
        raise RunError(
            f"{run.path} is not finished: run `mneme run {run.path / 'run.toml'} --out {run.path}` first"
        )
    config = settings_of(run)
    check_seals(run.path, ("harvest", "crosscoder"), progress=progress)
    run.check_blocks()
    return RunContext(config, run.path, progress), run


def settings_of(run: Run) -> RunConfig:
    """A run's settings, from its run.toml, which may name models that were moved, or another device.

    Raises RunError where it gives others than the run's tables were made with.
    """
    file = run.path / SETTINGS
    now = settings_in(run.path)
    if (text := sealed_settings(run)) is None:
        return now
    try:
        made = make_config(tomllib.loads(text))
    except ConfigError:  # in the words of an earlier mneme
        return now
    for each in differing(made.flat(), now.flat()):
        if each.setting not in _ANYHOW:
            raise RunError(
                f"{file} has {each.setting} = {each.now}, and the run's tables were made with {each.there}: put it"
                f" back, or `mneme run {file} --out {run.path} --replace` makes them again"
            )
    return now


def tell_findings(run: Run) -> None:
    """Bring what the run says up to what was found: the verdict in a sentence, and the report where it was written."""
    from mneme.report import write_report
    from mneme.store.queries.evidence import verdict_facts

    if run.finished("effects") is not None:
        config = settings_in(run.path)
        facts = verdict_facts(run, config.effects, config.harvest.behaviour_share)
        with run.stage_writer() as writer:
            writer.set_info(**facts)
    if run.finished("report") is not None:
        write_report(run, run.path / "report")


def kept_crosscoder(
    context: RunContext, name: str, config: CrosscoderConfig, activations: Source
) -> Crosscoder:
    """A dictionary trained into a folder of the run, or the one of an earlier call with the same settings and text."""
    from mneme._util.files import write_text
    from mneme.crosscoder import Crosscoder, train_crosscoder

    folder, fingerprint = context.folder / name, context.cache.fingerprint
    # A damaged one is trained again: it is only kept so that a check that was stopped goes on.
    if is_kept(folder, config, fingerprint):
        return Crosscoder.from_pretrained(folder)
    crosscoder = train_crosscoder(
        activations, config, checkpoint=folder / "checkpoint", progress=context.progress
    )
    crosscoder.save_pretrained(folder)
    write_text(folder / _NOTE, _made_from(folder, config, fingerprint))
    return crosscoder


def is_kept(folder: Path, config: CrosscoderConfig, fingerprint: str) -> bool:
    """Whether a folder holds the undamaged dictionary of these settings and of the text of this fingerprint."""
    note = folder / _NOTE
    return note.is_file() and note.read_bytes() == _made_from(folder, config, fingerprint).encode()


def _made_from(folder: Path, config: CrosscoderConfig, fingerprint: str) -> str:
    weights = folder / "model.safetensors"
    digest = known_sha256(weights) if weights.is_file() else "nothing"
    return f"{stable_repr(config, 'crosscoder')}\n{fingerprint}\n{digest}\n"
