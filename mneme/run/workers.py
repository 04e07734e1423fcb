"""A run on several processes: rank 0 makes it, the others help in the stages whose work can be shared.

Before a shared stage rank 0 says its name and all ranks call the stage's room; everything else, the database
and every file that is not a shard, is rank 0's alone. After the last shared stage the others leave.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mneme._util import distributed
from mneme._util.progress import NULL_PROGRESS
from mneme.config import RunConfig
from mneme.run.context import RunContext


def _harvest(context: RunContext) -> None:
    from mneme.harvest import harvest

    context.cache = harvest(
        context.pair, context.corpus, context.config.harvest, context.folder / "activations", profile=True
    )


def _train(context: RunContext) -> None:
    from mneme.crosscoder import train_crosscoder

    train_crosscoder(context.cache, context.config.crosscoder, checkpoint=context.folder / "checkpoint")


def _attribute(context: RunContext) -> None:
    from mneme.attribution.stream import attribute

    attribute(context.crosscoder, context.cache, context.folder / "codes", context.config.attribution)


_SHARED: dict[str, Callable[[RunContext], None]] = {
    "harvest": _harvest,
    "crosscoder": _train,
    "attribution": _attribute,
}
"""What ranks other than the first do in a stage; rank 0 runs the stage itself."""


def run_worker(config: RunConfig, folder: Path) -> None:
    """What a rank other than the first does of a run."""
    context = RunContext(config, folder, NULL_PROGRESS)
    while (stage := distributed.from_first("")) is not None:
        _SHARED[stage](context)
    distributed.leave()


class Team:
    """The other ranks, as rank 0 sees them; with one process nobody."""

    def __init__(self) -> None:
        self._waiting = distributed.world_size() > 1

    def share(self, stage: str, context: RunContext) -> None:
        """Let the others help with this stage, where they can; past the last such stage they leave."""
        if stage not in _SHARED:
            self.dismiss()
        elif self._waiting and not (stage == "crosscoder" and context.config.load_crosscoder):
            if stage == "harvest":
                _ = context.pair  # what a first loading writes to the user's cache is written once
            distributed.from_first(stage)

    def dismiss(self) -> None:
        """Let the others leave. When rank 0 fails instead, torchrun ends them."""
        if self._waiting:
            distributed.from_first(None)
            distributed.leave()
            self._waiting = False
