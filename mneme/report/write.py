"""The report's files on disk, each written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mneme._util.errors import RunError
from mneme._util.files import replacing
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.report.build import build_report
from mneme.report.exports import EXPORTS, export_table
from mneme.report.format import cell
from mneme.report.html import to_html
from mneme.report.jsonform import to_json
from mneme.report.markdown import to_markdown
from mneme.store.run import Run


def write_report(
    run: Run, folder: str | Path | None = None, *, max_latents: int = 10, progress: Progress = NULL_PROGRESS
) -> list[Path]:
    """Write report.html, .md and .json, a CSV of each table, and latents.parquet; the files written.

    folder: where to; the run's own `report` folder when None. max_latents: as in `build_report`. Raises
    DiskFullError or RunError when the folder can't be written; what was there before then stays. A run's or model's
    own folder is refused: an outcomes.csv there counts as outcomes that were measured for it.
    """
    target = Path(folder) if folder is not None else run.path / "report"
    _refuse_taken(target)
    report = build_report(run, max_latents=max_latents)
    texts = {"report.html": to_html, "report.md": to_markdown, "report.json": to_json}
    written = []
    with progress.task("report", total=len(texts) + len(EXPORTS) + 1, unit="files") as task:

        def keep(name: str, content: bytes) -> None:
            _write(target / name, content)
            written.append(target / name)
            task.advance()

        for name, render in texts.items():
            keep(name, render(report).encode("utf-8"))
        for name in EXPORTS:
            keep(f"{name}.csv", to_csv(run, name))
            if name == "latents":
                keep("latents.parquet", _parquet(export_table(run, name)))
    return written


def to_csv(run: Run, name: str) -> bytes:
    """A table of EXPORTS as the file of its name: UTF-8, null as nothing, texts that a spreadsheet won't calculate."""
    rows = export_table(run, name)
    return _csv(rows.column_names, _rows(rows))


def _refuse_taken(target: Path) -> None:
    for kind, file in (("a run", "run.duckdb"), ("a model", "config.json"), ("a model", "delta.safetensors")):
        if (target / file).exists():
            raise RunError(
                f"{target} is {kind}'s own folder: write the report into another, e.g. {target / 'report'}"
            )


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _rows(rows: pa.Table) -> Iterable[Sequence[Any]]:
    for batch in rows.to_batches(max_chunksize=4096):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """UTF-8, a header line, RFC 4180 quoting; texts made harmless to spreadsheets, null as nothing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([cell(v) if isinstance(v, str) else v for v in row] for row in rows)
    return out.getvalue().encode("utf-8")


def _parquet(rows: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(rows, out, compression="zstd")
    return out.getvalue()
