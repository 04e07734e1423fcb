"""The search index and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import Workbench


def report_stage(bench: Workbench) -> StageResult:
    """The search index, into `search/`, and the report's files, into `report/`."""
    from mneme.report import write_report
    from mneme.search import build_index, is_current

    if not is_current(bench.run):
        build_index(bench.run, bench.encoder, bench.progress)
    with bench.progress.task("report", total=None):
        write_report(bench.run, bench.folder / "report")
    return StageResult()


STAGE = Stage("report", report_stage, (), (), ("report/report.html",))
