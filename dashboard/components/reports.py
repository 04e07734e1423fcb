"""The report's files, built once for each state of a run."""

from __future__ import annotations

import streamlit as st

KINDS = {
    "html": ("HTML", "text/html"),
    "md": ("Markdown", "text/markdown"),
    "json": ("JSON", "application/json"),
    "csv": ("CSV of latents", "text/csv"),
}


@st.cache_data(max_entries=4, show_spinner="Writing the report …")
def build(path: str, stamp: tuple[int, ...]) -> dict[str, str | bytes] | None:
    """Kind -> text of the report on the run at `path`; `stamp` (of its files) keys the cache."""
    try:
        from mneme.report import build_report, to_csv, to_html, to_json, to_markdown
    except ImportError:
        return None
    from mneme.store.run import open_run

    run = open_run(path)
    report = build_report(run)
    return {
        "html": to_html(report),
        "md": to_markdown(report),
        "json": to_json(report),
        "csv": to_csv(run, "latents"),
    }
