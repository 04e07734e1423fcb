"""A healthy database is never called damaged: who holds it, wrote it or left a log beside it is named."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from damage import cut, flip, make_older, written_by_another_duckdb

from mneme._util.errors import CorruptRunError, DiskFullError, MnemeError, RunError
from mneme._util.files import sha256
from mneme.analyst.history import History
from mneme.store import database
from mneme.store.duckdb_errors import wal
from mneme.store.manifest import read_manifest
from mneme.store.run import Run, open_run
from mneme.store.writing import write_manifest

ROWS = 40_000


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "run")
    with made.stage_writer() as writer:
        rows = {"latent": range(ROWS), "delta_norm": [i / ROWS for i in range(ROWS)], "verdict": "unchanged"}
        writer.append("latents", pd.DataFrame(rows))
        writer.set_info(name="test", layer=3)
    return made


@contextlib.contextmanager
def another_process(file: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A DuckDB client that opens the file for writing, does something, and stays until the block ends."""
    program = f"import duckdb\ndb = duckdb.connect({str(file)!r})\n{code}\nprint('open', flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def one_line(error: BaseException, *words: str) -> None:
    said = str(error)
    assert "\n" not in said and all(word in said for word in words), said
    assert "delete" not in said and ("damaged" not in said or isinstance(error, CorruptRunError)), said


def test_a_database_that_another_process_holds_is_waited_for_and_its_holder_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.3)
    with another_process(run.database, "") as holder:
        for call in (lambda: open_run(run.path), lambda: run.stage_writer().__enter__()):
            with pytest.raises(RunError) as told:
                call()
            one_line(told.value, "held by", f"process id {holder.pid}", "close it there")
    assert open_run(run.path).info()["name"] == "test"


def test_what_another_process_lets_go_of_in_time_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with another_process(run.database, "") as holder:
        waited: list[float] = []

        def let_go(seconds: float) -> None:
            waited.append(seconds)
            assert holder.communicate("\n") == ("", None) and holder.returncode == 0

        monkeypatch.setattr(database, "PATIENCE", 60.0)
        monkeypatch.setattr(database.time, "sleep", let_go)
        assert open_run(run.path).info()["name"] == "test"
    assert len(waited) == 1


def test_reviews_that_another_process_holds_name_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mneme.analyst.history.PATIENCE", 0.2)
    History(tmp_path).add(1, "me", note="odd")
    with another_process(tmp_path / "analyst.duckdb", "") as holder:
        with pytest.raises(RunError) as told:
            History(tmp_path).add(1, "me", note="odder")
        one_line(told.value, f"process id {holder.pid}")


def test_another_duckdb_version_is_named(run: Run) -> None:
    written_by_another_duckdb(run.database)
    with pytest.raises(RunError) as told:
        open_run(run.path)
    one_line(told.value, "written by DuckDB 9.9.9", duckdb.__version__)


def test_what_another_program_left_in_its_log_outlives_a_stage(run: Run) -> None:
    add = "db.execute(\"INSERT INTO run_info VALUES ('theirs', 'x')\")"
    with another_process(run.database, add):
        pass  # killed: the row is in the log only
    assert wal(run.database).exists()
    with run.stage_writer() as writer:
        writer.set_info(k=7)
    assert {"theirs": "x", "k": "7"}.items() <= open_run(run.path).info().items()
    assert sorted(file.name for file in run.path.iterdir()) == ["run.duckdb"]


def test_a_log_that_does_not_fit_is_named_and_the_database_called_whole(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.duckdb"
    with another_process(other, "db.execute('CREATE TABLE t (x INTEGER)')"):
        pass
    shutil.copy(wal(other), wal(run.database))
    for call in (lambda: open_run(run.path), lambda: run.stage_writer().__enter__()):
        with pytest.raises(RunError) as told:
            call()
        one_line(told.value, "run.duckdb.wal", "is whole", "move it away")
    assert not isinstance(told.value, CorruptRunError)
    wal(run.database).rename(tmp_path / "old.wal")
    assert open_run(run.path).info()["name"] == "test"


def test_a_question_mark_in_the_folder_s_name_is_no_option(tmp_path: Path) -> None:
    made = Run(tmp_path / "what? a=b" / "run")
    for layer in (3, 4):
        with made.stage_writer() as writer:
            writer.set_info(layer=layer)
    assert open_run(made.path).info() == {"layer": "4"}
    assert [file.name for file in made.path.iterdir()] == ["run.duckdb"]
    with pytest.raises(RunError, match=r"rename the folder"):
        History(made.path).add(1, "me", note="odd")


def test_an_older_run_is_brought_up_to_date_and_so_is_its_manifest(run: Run) -> None:
    write_manifest(run.path, {"base": "a"})
    make_older(run)
    opened = threading.Thread(target=open_run, args=(run.path,), daemon=True)
    opened.start()
    opened.join(60)
    assert not opened.is_alive(), "opening waits for itself"
    assert run.rows("SELECT count(*) FROM artefacts") == [(0,)]
    assert read_manifest(run.path)["artefacts"] == {"run.duckdb": sha256(run.database)}
    assert read_manifest(run.path)["base"] == "a"


def test_an_older_run_that_can_not_be_written_is_read_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_older(run)
    before = run.database.read_bytes()
    copy = shutil.copyfile

    def refused(source: Path, target: Path) -> Path:
        if Path(target).parent == run.path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        return copy(source, target)

    monkeypatch.setattr("mneme.store.database.shutil.copyfile", refused)
    for _ in range(2):
        assert len(open_run(run.path).latents()) == ROWS
    assert run.rows("SELECT count(*) FROM artefacts") == [(0,)]
    assert run.database.read_bytes() == before
    with pytest.raises(RunError, match="can't be written: make it writable"):
        run.stage_writer().__enter__()


@pytest.mark.parametrize("at", [0.02, 0.5, 0.97])
def test_a_truncated_database_is_told_in_one_line(run: Run, at: float) -> None:
    os.truncate(run.database, int(at * run.database.stat().st_size))
    with pytest.raises(CorruptRunError) as told:
        open_run(run.path).check_blocks()
    one_line(told.value, str(run.database), "move it away", "run.duckdb.damaged", "reviews")


def test_a_flipped_block_is_told_by_whatever_reads_it(run: Run) -> None:
    data = bytearray(run.database.read_bytes())
    for block in range(3 * 4096, len(data), 262_144):  # every block, and none of the headers
        for i in range(24):
            data[min(block + 5000 + i, len(data) - 1)] ^= 0x55
    run.database.write_bytes(data)
    with pytest.raises(CorruptRunError) as told:
        open_run(run.path).check_blocks()
    one_line(told.value, "is damaged", "move it away")
    for read in (run.latents, lambda: run.arrow("SELECT * FROM latents"), run.info):
        with pytest.raises(CorruptRunError, match="is damaged"):
            read()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DROP TABLE contexts", ("lacks the table contexts",)),
        ("ALTER TABLE latents DROP COLUMN severity", ("lacks severity in the table latents",)),
        ("UPDATE run_info SET value = 'nan' WHERE key = 'layer'", ("layer is 'nan', not a number",)),
    ],
)
def test_what_is_missing_or_no_number_is_named(run: Run, change: str, words: tuple[str, ...]) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute(change)
    with pytest.raises(CorruptRunError) as told:
        open_run(run.path)
    one_line(told.value, *words, "move it away")


def test_reviews_are_never_to_be_deleted(tmp_path: Path) -> None:
    History(tmp_path).add(1, "me", note="odd")
    for damage in (flip, cut):
        file = tmp_path / "analyst.duckdb"
        whole = file.read_bytes()
        damage(file)
        with contextlib.suppress(MnemeError):  # it may be a block that nothing lies in
            assert History(tmp_path).reviews()[1].note == "odd"
        os.truncate(file, 3000)
        with pytest.raises(CorruptRunError) as told:
            History(tmp_path).reviews()
        assert "move it away, e.g. to analyst.duckdb.damaged" in str(told.value)
        file.write_bytes(whole)


class _FullDisk:
    """A connection whose checkpoint meets a full disk, in the words of DuckDB 2."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def execute(self, query: str, *rest: object) -> object:
        if query == "CHECKPOINT":
            raise duckdb.TransactionException(
                'Checkpoint failed for database "run". The database has been invalidated. Original error:'
                ' Could not write file "run.duckdb": No space left on device'
            )
        return self.connection.execute(query, *rest)

    def close(self) -> None:
        self.connection.close()


def test_a_disk_that_is_full_at_the_checkpoint_is_told_and_the_run_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run.database.read_bytes()
    real = database.open_to_write
    monkeypatch.setattr(database, "open_to_write", lambda *a: _FullDisk(real(*a)))
    with pytest.raises(DiskFullError, match="free some"), run.stage_writer() as writer:
        writer.set_info(k=1)
    assert run.database.read_bytes() == before
    assert [file.name for file in run.path.iterdir()] == ["run.duckdb"]
