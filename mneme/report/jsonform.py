"""The report as JSON: the dataclasses of `model.py` as they are, plus the format's version.

Keys are described in docs/report.md. Everything outside ASCII, and <, >, &, are written as JSON's
unicode escapes, so that the text can be put into a page or a log as it is and still reads back equal.
"""

from __future__ import annotations

import dataclasses
import json

from mneme.report.model import FORMAT, Report

_MARKUP = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\x7f"}


def to_json(report: Report) -> str:
    """The report as a JSON object; None is null, and no NaN or infinity occurs."""
    values = {"format": FORMAT, **dataclasses.asdict(report)}
    values["verdict_counts"] = dict(report.verdict_counts)
    values["uncertain_reasons"] = dict(report.uncertain_reasons)
    return json.dumps(values, indent=1, allow_nan=False).translate(_MARKUP) + "\n"
