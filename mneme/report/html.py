"""The report as one HTML file: inline style, inline charts, no scripts, nothing fetched.

Jinja2 escapes everything that is not a chart. A content-security policy in the page says the same to the
browser: even if a text slipped through, no script would run and no address would be called.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from mneme.report import (
    capability,
    charts,
    explainers,
    findings,
    format,
    labels,
    layers,
    method,
    patched,
    power,
    read_out,
)
from mneme.report import phrases as words
from mneme.report.model import Report


def to_html(report: Report) -> str:
    """The report as a self-contained page."""
    return _environment().get_template("report.html.j2").render(r=report)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mneme.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        capability=capability,
        charts=charts,
        f=format,
        labelling=explainers,
        method=method,
        w=words,
        findings=findings,
        labels=labels,
        patched=patched,
        powers=power,
        profile=layers,
        alone=read_out,
    )
    # Every text goes through `visible` before it is escaped: {{ text|v }}.
    environment.filters["v"] = format.visible
    return environment
