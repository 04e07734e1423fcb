"""One typed report of a run, and its HTML, Markdown, JSON, CSV and Parquet.

report = build_report(open_run("runs/demo"))
to_html(report), to_markdown(report), to_json(report), to_csv(run, "latents")
write_report(run)        # all of them, into the run's `report` folder
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.report.build import build_report
    from mneme.report.html import to_html
    from mneme.report.jsonform import to_json
    from mneme.report.markdown import to_markdown
    from mneme.report.model import Report
    from mneme.report.write import to_csv, write_report

__all__ = ["Report", "build_report", "to_csv", "to_html", "to_json", "to_markdown", "write_report"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Report": "model",
        "build_report": "build",
        "to_csv": "write",
        "to_html": "html",
        "to_json": "jsonform",
        "to_markdown": "markdown",
        "write_report": "write",
    },
)
