"""A run on disk: read it, or write one stage of it so that nothing half-written is ever seen.

    runs/NAME/
      run.toml  run.duckdb  manifest.json  analyst.duckdb
      crosscoder/  activations/  codes/  report/

Reading: one read-only connection a process, a fresh `cursor()` a query (a shared DuckDB connection used
from several threads returns other threads' rows). Writing: `Run.stage_writer()` works on a copy of
run.duckdb and renames it into place at the end, so that an open dashboard never blocks a run, and a killed
run leaves the last whole file.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from mneme._util.errors import CorruptRunError, RunError
from mneme._util.files import translate_os_errors
from mneme.store import database
from mneme.store.queries.labels import BEST_LABEL, PRECOMPUTED

INFO_KEYS = {
    "name": "the run's name",
    "base": "the base model, as given",
    "tuned": "the tuned model, as given",
    "layer": "index of the layer whose output is read",
    "layer_why": "why that layer: a sentence",
    "n_layers": "layers of the models",
    "width": "d",
    "latents": "F",
    "k": "active latents per token in training",
    "variant": "batchtopk, topk, l1, base or tuned",
    "corpus": "where the text came from",
    "text_left_out": "documents and characters of it that were left out, in words",
    "n_documents": "documents read",
    "n_tokens": "tokens whose activations were kept",
    "n_skipped_bos": "BOS and padding tokens left out",
    "n_skipped_sinks": "attention-sink tokens left out",
    "inputs": "hash of both models' files and of the text",
    "created_at": "ISO time",
    "mneme_version": "the version that wrote it",
    "verdict_sentence": "the run's verdict in one sentence",
    "run_verdict": "the run's verdict in a word (mneme/_util/vocabulary.py)",
    "verdict_reasons": "of too little evidence: the conditions of an all-clear that are not met, a JSON list",
    "verdict_command": "what would give the evidence",
    "nll_change": "mean change of next-token NLL on the run's text, nats per token",
    "nll_low": "lower end of its 95% interval, over documents",
    "nll_high": "upper end",
    "nll_common": "the NLL change that most documents share, nats per token",
    "mean_kl": "mean KL(base || tuned) on the run's text, nats per token",
    "synthetic": "'true' when the tables were made up for tests",
}

COUNTS = {
    *("layer", "n_layers", "width", "latents", "k"),
    *("n_documents", "n_tokens", "n_skipped_bos", "n_skipped_sinks"),
}
"""Facts that are whole numbers."""

FINDINGS = (
    "SELECT f.*, coalesce(a.areas, []) AS areas, c.kl_share AS causal_share, c.kl_low AS causal_low,"
    " c.kl_high AS causal_high, p.kl_share AS causal_pca, c.of_pca, c.of_pca_low, c.of_pca_high FROM findings f"
    " LEFT JOIN (SELECT finding, list(coalesce(k.name, x.category) ORDER BY x.affected_share DESC, x.category) AS areas"
    " FROM finding_categories x LEFT JOIN categories k USING (category) WHERE x.affected_share_low >= ?"
    " GROUP BY finding) a USING (finding)"
    " LEFT JOIN causal_findings c ON c.finding = f.finding AND c.patch = 'undo' AND c.source = 'finding'"
    " LEFT JOIN causal_findings p ON p.finding = f.finding AND p.patch = 'undo' AND p.source = 'pca'"
)
"""A row a finding or part of one; the parameter: least lower end of a category's affected share."""

_LOCK = threading.RLock()  # to open an older run is to bring its manifest up to date, which reads it
_CONNECTIONS: dict[Path, tuple[tuple[int, int], duckdb.DuckDBPyConnection]] = {}


class Run:
    """One analysis, in one folder."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def database(self) -> Path:
        return self.path / "run.duckdb"

    @property
    def name(self) -> str:
        return self.path.name

    # reading

    def sql(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of a query as a data frame; safe from any thread."""
        with self._reading() as cursor:
            return cursor.execute(query, parameters).df()

    def arrow(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pa.Table:
        """Rows of a query as an Arrow table; safe from any thread."""
        with self._reading() as cursor:
            return cursor.sql(query, params=parameters).to_arrow_table()

    def rows(
        self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        """Rows of a query as tuples; safe from any thread."""
        with self._reading() as cursor:
            return cursor.execute(query, parameters).fetchall()

    def info(self) -> dict[str, str]:
        """The facts of INFO_KEYS that are known so far. Raises CorruptRunError for a number that is none."""
        found = dict(self.rows("SELECT key, value FROM run_info WHERE value IS NOT NULL"))
        for key in COUNTS & found.keys():
            if not str(found[key]).isdecimal():
                raise CorruptRunError(
                    f"{self.database} is damaged ({key} is {found[key]!r}, not a number):"
                    f" {database.repair(self.path)}"
                )
        return found

    def latents(self) -> pd.DataFrame:
        """A row a latent, with its best label."""
        return self.sql(
            f"SELECT l.*, b.label FROM latents l LEFT JOIN {BEST_LABEL} b USING (latent) ORDER BY latent"
        )

    def effects(self) -> pd.DataFrame:
        """A row a category: predicted effect, and the measured outcome where there is one."""
        return self.sql(
            "SELECT e.*, o.base AS outcome_base, o.tuned AS outcome_tuned, o.change AS outcome_change"
            " FROM effects e LEFT JOIN outcomes o USING (category) ORDER BY e.effect DESC"
        )

    def layer_profile(self) -> pd.DataFrame:
        """A row a layer: what it shows of the pair's difference; empty where that was not measured.

        layer, changed (its own parameters differ), difference (|tuned - base| / |base| of the streams), restored (share
        of KL(base || tuned) that the tuned model's stream gives the base, with a 95% interval; NaN: not measured),
        exact (known by construction), kl (nats per token), n_documents, n_tokens.
        """
        return self.sql("SELECT * FROM layer_profile ORDER BY layer")

    def evidence(self) -> pd.DataFrame:
        """What has been tested of this run, a row a part of `mneme evidence`.

        part, title, tells; state: done, running, waiting (its turn in the running job comes), not tested; note (how far
        it is, or why it could not be done); command (what tests it).
        """
        from mneme.store.queries.evidence_parts import states

        return states(self)

    def findings(self, *, min_affected_share: float = 0.125) -> pd.DataFrame:
        """A row a finding, the one that explains most first; parts of one follow with the finding as `parent`.

        Columns of table `findings` (mneme/store/schema.py); `areas`: the categories of which it affects at least
        `min_affected_share` of the text, by the lower end of the interval; `causal_share` ... `of_pca_high`: what
        patching did, NaN before `mneme causal`. Empty where no latent changed, or before the stage `findings`.
        """
        return self.sql(
            f'{FINDINGS} ORDER BY parent IS NOT NULL, parent, "rank"',
            [min_affected_share],
        )

    def read_out(self) -> pd.DataFrame:
        """A row a latent of the dictionaries of one model alone (`mneme read-out`), the most severe changes first."""
        return self.sql(
            "SELECT * FROM read_out_latents"
            " ORDER BY verdict IN ('amplified', 'suppressed') DESC, severity DESC NULLS LAST, dictionary, latent"
        )

    def contexts(self, latent: int) -> pd.DataFrame:
        """The latent's contexts, strongest first."""
        return self.sql(
            "SELECT * FROM contexts WHERE latent = ? ORDER BY quantile = 0 DESC, quantile DESC, rank",
            [latent],
        )

    def finished(self, stage: str) -> str | None:
        """The fingerprint a stage was finished with, or None."""
        if not self.database.exists():
            return None
        found = self.rows("SELECT fingerprint FROM stages WHERE stage = ?", [stage])
        return found[0][0] if found else None

    def check_blocks(self) -> None:
        """Read all of the database once, so that damage is told before hours of work. Raises CorruptRunError."""
        with self._reading() as cursor:
            database.check_blocks(cursor, self.database)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor; what DuckDB says of the file is told in one line."""
        try:
            with database.telling(self.database):
                yield self._cursor()
        except CorruptRunError:
            with _LOCK:  # DuckDB refuses everything after the first damaged block
                _CONNECTIONS.pop(self.database.resolve(), None)
            raise

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        try:
            stat = self.database.stat()
        except OSError as error:
            raise RunError(
                f"{self.path} is not a run: it has no run.duckdb; make one with `mneme run --out {self.path}`"
            ) from error
        stamp = (stat.st_ino, stat.st_mtime_ns)
        key = self.database.resolve()
        with _LOCK:
            held = _CONNECTIONS.get(key)
            if held is None or held[0] != stamp:
                # The file was replaced by a finished stage: cursors of the old one stay valid until dropped.
                connection = database.open_to_read(self.database)
                with database.telling(self.database):
                    for query in PRECOMPUTED:
                        connection.execute(query)
                held = (stamp, connection)
                _CONNECTIONS[key] = held
            cursor = held[1].cursor()
        return cursor.execute("USE run")

    # writing

    @contextlib.contextmanager
    def stage_writer(self) -> Iterator[StageWriter]:
        """Write one stage: all of it is seen at the end, or none of it."""
        with translate_os_errors(self.path), database.telling(self.database):
            self.path.mkdir(parents=True, exist_ok=True)
            if self.database.exists():
                self._cursor().close()  # who holds or damaged it is told; what another process writes isn't lost
            with database.working_copy(self.database) as temporary:
                connection = database.open_to_write(temporary, self.database)
                try:
                    yield StageWriter(connection)
                    connection.execute("CHECKPOINT")
                finally:
                    with contextlib.suppress(duckdb.Error):
                        connection.close()


class StageWriter:
    """What a stage may do to the tables."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def replace(self, table: str, rows: pd.DataFrame | pa.Table) -> None:
        """The table holds exactly these rows; columns are matched by name, missing ones are NULL."""
        self.connection.execute(f"DELETE FROM {table}")
        self.append(table, rows)

    def clear(self, tables: Iterable[str]) -> None:
        """No rows in these tables."""
        for table in tables:
            self.connection.execute(f"DELETE FROM {table}")

    def forget_stages(self, names: Iterable[str], *, sealed: bool = True) -> None:
        """These stages are not finished; `sealed`: nor is anything known of the files they left."""
        for name in names:
            self.connection.execute("DELETE FROM stages WHERE stage = ?", [name])
            if sealed:
                self.connection.execute("DELETE FROM artefacts WHERE stage = ?", [name])

    def append(self, table: str, rows: pd.DataFrame | pa.Table) -> None:
        """These rows too."""
        self.connection.register("_rows", rows)
        try:
            self.connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM _rows")
        finally:
            self.connection.unregister("_rows")

    def upsert(self, table: str, rows: pd.DataFrame | pa.Table) -> None:
        """These rows, in place of those with the same primary key."""
        self.connection.register("_rows", rows)
        try:
            self.connection.execute(f"INSERT OR REPLACE INTO {table} BY NAME SELECT * FROM _rows")
        finally:
            self.connection.unregister("_rows")

    def update_latents(self, columns: pd.DataFrame) -> None:
        """Set columns of `latents`; the frame has `latent` and the columns to set."""
        self.update("latents", "latent", columns)

    def update(self, table: str, key: str, columns: pd.DataFrame) -> None:
        """Set columns of the rows that have the frame's `key`; other rows stay as they are."""
        names = [c for c in columns.columns if c != key]
        self.connection.register("_rows", columns)
        try:
            self.connection.execute(
                f"UPDATE {table} SET {', '.join(f'{n} = _rows.{n}' for n in names)} FROM _rows"
                f" WHERE {table}.{key} = _rows.{key}"
            )
        finally:
            self.connection.unregister("_rows")

    def set_info(self, **facts: Any) -> None:
        """Facts of INFO_KEYS; None and NaN are not measured, so such a fact is not there."""
        for key, value in facts.items():
            if key not in INFO_KEYS:
                raise KeyError(key)
            if value is None or value != value:
                self.connection.execute("DELETE FROM run_info WHERE key = ?", [key])
                continue
            self.connection.execute("INSERT OR REPLACE INTO run_info VALUES (?, ?)", [key, str(value)])


def open_run(path: str | Path) -> Run:
    """Open a finished (or half-finished) run to read it.

    Raises RunError when the folder is no run, CorruptRunError when its database is damaged,
    NewerSchemaError when a later mneme wrote it.
    """
    run = Run(path)
    run.info()
    return run
