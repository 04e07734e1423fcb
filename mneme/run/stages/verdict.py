"""What is said of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def verdict_stage(context: RunContext) -> StageResult:
    """What is said of the run, from all that its tables hold."""
    from mneme.store.queries.evidence import verdict_facts

    config = context.config
    return StageResult(info=verdict_facts(context.run, config.effects, config.harvest.behaviour_share))


STAGE = Stage("verdict", verdict_stage, ("effects",), ())
