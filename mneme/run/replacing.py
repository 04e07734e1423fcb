"""What a run would lose to other settings or inputs: told before anything is touched, done only when asked for.

A stage that is finished is hours of work. It is made again without a question only where its own settings and inputs
are as they were (a later mneme makes some stages anew, files may have been deleted); else `replace` has to be given.
What no stage has finished yet (a training that ran out of memory, say) is nobody's loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mneme._util.errors import ConfigError, FinishedRunError
from mneme._util.settings import Difference, as_table, differing
from mneme.config import RunConfig
from mneme.run.kept_text import settings_in
from mneme.store.manifest import read_manifest
from mneme.store.run import Run

_SHOWN = 3  # settings named in the line; the table has them all


class Loss(NamedTuple):
    """What other settings or inputs do to a run."""

    stages: tuple[str, ...]
    """Finished stages that would be made again."""
    kept: tuple[str, ...]
    """Finished stages that would stay."""
    differences: tuple[Difference, ...]
    """Settings that are not what they were."""
    other_inputs: bool
    """The models' files or the text are not what they were."""

    @property
    def asks(self) -> bool:
        """Whether something finished goes for other settings or inputs."""
        return bool(self.stages) and bool(self.differences or self.other_inputs)


def loss(run: Run, config: RunConfig, fingerprints: Mapping[str, str]) -> Loss:
    """What the run would lose to this config.

    fingerprints: of `inputs`, then of every stage in order, as they would be now.
    """
    stages = [name for name in fingerprints if name != "inputs"]
    done = {name: run.finished(name) for name in stages}
    stale = next((i for i, name in enumerate(stages) if done[name] != fingerprints[name]), len(stages))
    lost = tuple(name for name in stages[stale:] if done[name] is not None)
    kept = tuple(stages[:stale])
    if not lost:
        return Loss((), kept, (), False)
    made = made_from(run)
    other = made is not None and made != fingerprints["inputs"]
    return Loss(lost, kept, tuple(changed_settings(run, config)), other)


def made_from(run: Run) -> str | None:
    """The fingerprint of the models' files and the text that the run was made from, where it is known."""
    of_manifest = (read_manifest(run.path).get("fingerprints") or {}).get("inputs")
    return run.info().get("inputs") or of_manifest


def changed_settings(run: Run, config: RunConfig) -> list[Difference]:
    """Settings of the run beside those of `config`; all of them where the run's own can't be read."""
    try:
        there = settings_in(run.path).flat()
    except ConfigError:  # lost, damaged, or of a version that had other settings
        there = {}
    return differing(there, config.flat())


def lost_to_settings(run: Run, config: RunConfig, sections: Mapping[str, Sequence[str]]) -> list[Difference]:
    """Settings that differ, where something finished would go for them; without a look at models and text.

    sections: of every stage in order, the sections and sources of the settings that it is made from.
    """
    found = changed_settings(run, config)
    touched = {each.setting.split(".")[0] for each in found}
    names = list(sections)
    first = next((i for i, name in enumerate(names) if touched & set(sections[name])), len(names))
    return found if any(run.finished(name) is not None for name in names[first:]) else []


def check_loss(run: Run, found: Loss) -> None:
    """Raises FinishedRunError, with the table of settings as its note, where something finished would go."""
    if not found.asks:
        return
    names = [each.setting for each in found.differences]
    what = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    if names:
        why = f"is a run of other settings ({what})"
    else:
        why = "was made from other models' files or other text, which have changed since"
    stays = f"keeps {_listed(found.kept)} and " if found.kept else ""
    raise FinishedRunError(
        f"{run.path} {why}: name another folder with --out, or add --replace, which {stays}makes"
        f" {_listed(found.stages)} again",
        as_table(found.differences),
    )


def check_unchanged(run: Run, config: RunConfig, sections: Sequence[str]) -> None:
    """Raises ConfigError for another setting of these sections, whose stages are not made again."""
    for each in changed_settings(run, config):
        if each.setting.split(".")[0] in sections:
            file = run.path / "run.toml"
            raise ConfigError(
                f"{each.setting} is {each.there} in what {run.path} holds, and this command keeps that: change it with"
                f" `mneme run {file} --out {run.path} --replace --set {each.setting}=...`"
            )


def give_up(run: Run, found: Loss) -> None:
    """Mark the stages to be replaced as unfinished, so that an interrupted replacement resumes without `--replace`."""
    if found.asks:
        with run.stage_writer() as writer:
            writer.forget_stages(found.stages, sealed=False)


def _listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
