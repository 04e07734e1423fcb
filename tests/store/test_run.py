"""A run on disk is whole or absent, readable from many threads, and refuses what it can't read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from safetensors import SafetensorError

from mneme._util.errors import CorruptRunError, DiskFullError, NewerSchemaError, RunError
from mneme._util.files import sha256, translate_os_errors
from mneme.store.run import Run, open_run
from mneme.store.schema import SCHEMA_VERSION
from mneme.store.writing import only_writer, write_manifest
from mneme.testing.synthetic import make_synthetic_run

PUBLIC = {
    "latents": "latent norm_base norm_tuned delta_norm beta_base beta_tuned firing_rate verdict umap_x",
    "contexts": "latent rank document position tokens activations",
    "labels": "latent label method score",
    "latent_categories": "latent category weight",
    "effects": "category effect direction verdict",
    "outcomes": "category base tuned change",
    "health": "metric value status",
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    with run.stage_writer() as writer:
        writer.append(
            "latents", pd.DataFrame({"latent": range(50), "delta_norm": [i / 50 for i in range(50)]})
        )
        writer.set_info(name="test")
    return run


@pytest.mark.parametrize("table", PUBLIC)
def test_public_tables_have_their_columns(run: Run, table: str) -> None:
    assert set(PUBLIC[table].split()) <= set(run.sql(f"SELECT * FROM {table}").columns)


def test_a_failed_stage_leaves_the_run_as_it_was(run: Run) -> None:
    with pytest.raises(RuntimeError), run.stage_writer() as writer:
        writer.replace("latents", pd.DataFrame({"latent": [7]}))
        raise RuntimeError
    assert len(run.latents()) == 50
    assert sorted(p.name for p in run.path.iterdir()) == ["run.duckdb"]


def test_an_open_reader_sees_the_next_stage_and_never_blocks_it(run: Run) -> None:
    assert len(run.latents()) == 50
    with run.stage_writer() as writer:
        writer.update_latents(pd.DataFrame({"latent": [3], "verdict": ["amplified"]}))
        assert run.rows("SELECT count(verdict) FROM latents") == [(0,)]
    assert run.rows("SELECT latent FROM latents WHERE verdict = 'amplified'") == [(3,)]


def test_many_threads_get_their_own_rows(run: Run) -> None:
    wrong = []

    def ask(i: int) -> None:
        for _ in range(20):
            if run.rows("SELECT latent FROM latents WHERE latent = ?", [i]) != [(i,)]:
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_upsert_replaces_rows_of_the_same_key(run: Run) -> None:
    for status in ("warn", "ok"):
        with run.stage_writer() as writer:
            writer.upsert("health", pd.DataFrame({"metric": ["dead_share"], "status": [status]}))
    assert run.rows("SELECT metric, status FROM health") == [("dead_share", "ok")]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run.*mneme run"):
        open_run(tmp_path)


def test_a_damaged_database_is_refused(run: Run) -> None:
    run.database.write_bytes(os.urandom(5000))
    with pytest.raises(CorruptRunError, match="damaged"):
        open_run(run.path)


def test_some_other_duckdb_file_is_refused(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "run.duckdb")).execute("CREATE TABLE t (x INTEGER)").close()
    with pytest.raises(RunError, match="not a mneme run"):
        open_run(tmp_path)


def test_a_run_of_a_newer_schema_is_refused(run: Run) -> None:
    with run.stage_writer() as writer:
        writer.connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION + 1])
    with pytest.raises(NewerSchemaError, match="later mneme"):
        open_run(run.path)


def test_a_second_writer_is_refused_while_the_first_works(tmp_path: Path) -> None:
    with only_writer(tmp_path), pytest.raises(RunError, match="another mneme"), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
        pass


def test_a_run_cannot_lie_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't be written"), only_writer(tmp_path / "file" / "run"):
        pass


def test_the_manifest_names_every_artefact_with_its_hash(run: Run) -> None:
    import json

    write_manifest(run.path, {"base": "a"})
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["artefacts"] == {"run.duckdb": sha256(run.database)}
    assert manifest["base"] == "a" and "torch" in manifest["versions"]


def test_a_disk_that_is_full_for_safetensors_is_told_like_any_other(tmp_path):
    with pytest.raises(DiskFullError, match="free some"), translate_os_errors(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_a_fact_that_was_not_measured_is_not_there(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20)
    with run.stage_writer() as writer:
        writer.set_info(nll_change=0.5, mean_kl=0.25)
        writer.set_info(nll_change=float("nan"), mean_kl=None, width=8)
    facts = run.info()
    assert not {"nll_change", "mean_kl"} & facts.keys() and facts["width"] == "8"
