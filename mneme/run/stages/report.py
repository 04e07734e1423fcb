"""The search index and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import RunContext


def report_stage(context: RunContext) -> StageResult:
    """The search index, into `search/`, and the report's files, into `report/`."""
    from mneme.report import write_report
    from mneme.search import build_index, is_current

    if not is_current(context.run):
        build_index(context.run, context.encoder, context.progress)
    with context.progress.task("report", total=None):
        write_report(context.run, context.folder / "report")
    return StageResult()


STAGE = Stage("report", report_stage, (), (), ("report/report.html",))
