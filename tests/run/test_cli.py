"""The command line: one line that names the fix and exit code 2 for bad input; every command is in the README."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

import mneme
from mneme.cli import app
from mneme.store.run import Run
from mneme.store.schema import SCHEMA_VERSION

REPOSITORY = Path(mneme.__file__).resolve().parent.parent
TINY = ["--set", "crosscoder.n_latents=32", "--set", "crosscoder.k=4", "--set", "crosscoder.epochs=1"]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(
        "\n\n".join(f"a paragraph of words number {i} about a river and a king" for i in range(200))
    )
    return file


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one line on stderr, which holds the words."""
    code, _, err = result
    assert code == 2, err
    assert err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


def commands() -> list[str]:
    return [*sorted(c.name or c.callback.__name__ for c in app.registered_commands), "corpus"]


def test_every_command_is_in_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    assert [name for name in commands() if f"`mneme {name}" not in readme] == []


@pytest.mark.parametrize("command", [[], ["corpus", "sample"], *([name] for name in commands())])
def test_every_command_explains_itself(cli: Any, command: list[str]) -> None:
    code, out, _ = cli(*command, "--help")
    assert code == 0 and "Usage" in out


def test_what_is_logged_is_told_from_the_level_that_verbose_sets(
    cli: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("mneme.a.module")
    for flags, shown in (((), ["warning: [b]twice"]), (("-v",), ["debug: once", "warning: [b]twice"])):
        assert cli(*flags, "--version")[0] == 0
        log.debug("%s", "once")
        log.warning("[b]twice")
        assert capsys.readouterr().err.splitlines() == shown
    cli("--version")  # as the next test finds it


def test_an_unknown_flag_is_refused(cli: Any) -> None:
    refused(cli("run", "--foo"), "No such option: --foo")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], ["no base model given", "--base"]),
        (["run", "--base", "x"], ["no tuned model given", "--tuned"]),
        (["run", "missing.toml"], ["missing.toml can't be read"]),
        (["run", "--base", "./nowhere", "--tuned", "./nowhere"], ["no model at ./nowhere"]),
        (["run", "--base", "a/b", "--tuned", "a/b"], ["unknown model 'a/b'", "local folder"]),
        (["run", "--base", "x", "--tuned", "y", "--set", "crosscoder.kk=3"], ["crosscoder.kk", "'k'"]),
        (["run", "--base", "x", "--tuned", "y", "--set", "harvst.layer=3"], ["harvst", "'harvest'"]),
        (["run", "--base", "x", "--tuned", "y", "--set", "crosscoder.k=many"], ["whole number"]),
        (["organism", "rmv", "--out", "o"], ["unknown method rmv", "'rmu'"]),
        (["organism", "rmu", "--out", "o"], ["--forget"]),
        (["dashboard", "nowhere"], ["nowhere", "mneme demo"]),
        (["report", "nowhere"], ["nowhere is not a run"]),
        (["label", "nowhere"], ["nowhere is not a run"]),
        (["info", "./nowhere"], ["no model at ./nowhere"]),
    ],
)
def test_bad_words_are_refused(cli: Any, words: list[str], message: list[str]) -> None:
    refused(cli(*words), *message)
    assert sorted(p.name for p in Path.cwd().iterdir() if p.name != "runs") == []


@pytest.mark.parametrize(
    ("tuned", "message"),
    [("wide", "width"), ("other-words", "vocabular")],
)
def test_models_that_do_not_fit_are_refused(
    cli: Any, pair_folder: Path, text_file: Path, tmp_path: Path, tuned: str, message: str
) -> None:
    words = ["--base", pair_folder / "base", "--tuned", pair_folder / tuned, "--corpus", text_file]
    refused(cli("run", *words, "--out", tmp_path / "run", *TINY), message)
    assert not (tmp_path / "run" / "run.duckdb").exists()


def test_nan_activations_are_refused(cli: Any, pair_folder: Path, text_file: Path, tmp_path: Path) -> None:
    words = ["--base", pair_folder / "base", "--tuned", pair_folder / "nan", "--corpus", text_file]
    refused(cli("run", *words, "--out", tmp_path / "run", *TINY), "NaN")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--layer", "9"], "layer"),
        (["--corpus", "nowhere.txt"], "nowhere.txt"),
        (["--set", "effects.taxonomy=nowhere.toml"], "nowhere.toml"),
        (["--set", "effects.outcomes=nowhere.csv"], "nowhere.csv"),
        (["--set", "load_crosscoder=./nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_told_before_the_work(
    cli: Any, pair_folder: Path, text_file: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    words = ["--base", pair_folder / "base", "--tuned", pair_folder / "tuned"]
    words += [] if "--corpus" in flags else ["--corpus", text_file]
    refused(cli("run", *words, "--out", tmp_path / "run", *TINY, *flags), message)
    assert not (tmp_path / "run" / "activations" / "index.json").exists()


@pytest.mark.parametrize(("content", "message"), [("", "no text"), ("too short", "token")])
def test_a_corpus_too_small_is_refused(
    cli: Any, pair_folder: Path, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "small.txt").write_text(content)
    words = [
        "--base",
        pair_folder / "base",
        "--tuned",
        pair_folder / "tuned",
        "--corpus",
        tmp_path / "small.txt",
    ]
    refused(cli("run", *words, "--out", tmp_path / "run", *TINY), message)


def test_a_folder_without_weights_is_refused(cli: Any, pair_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(pair_folder / "base", tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").unlink()
    refused(cli("run", "--base", tmp_path / "empty", "--tuned", tmp_path / "empty"), "no weights")


def test_damaged_weights_are_refused(cli: Any, pair_folder: Path, text_file: Path, tmp_path: Path) -> None:
    shutil.copytree(pair_folder / "tuned", tmp_path / "bad")
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"\x00" * 100)
    words = ["--base", pair_folder / "base", "--tuned", tmp_path / "bad", "--corpus", text_file]
    refused(cli("run", *words, "--out", tmp_path / "run", *TINY), "bad can't be loaded")


def test_a_damaged_database_is_told_and_not_overwritten(
    cli: Any, whole_run: Run, settings: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    (tmp_path / "run" / "run.duckdb").write_bytes(b"not a database" * 1000)
    refused(cli("run", tmp_path / "run" / "run.toml", "--out", tmp_path / "run"), "run.duckdb is damaged")
    refused(cli("report", tmp_path / "run"), "run.duckdb is damaged")


def test_a_run_of_a_newer_schema_is_refused(cli: Any, whole_run: Run, tmp_path: Path) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    with Run(tmp_path / "run").stage_writer() as writer:
        writer.connection.execute("INSERT INTO schema_version VALUES (?)", [SCHEMA_VERSION + 1])
    refused(cli("info", tmp_path / "run"), "later mneme")


def test_a_run_cannot_be_written_below_a_file(cli: Any, pair_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    words = [
        "--base",
        pair_folder / "base",
        "--tuned",
        pair_folder / "tuned",
        "--out",
        tmp_path / "file" / "run",
    ]
    refused(cli("run", *words), "can't be written", "work in another folder")


def test_a_full_disk_is_told_and_what_is_done_is_kept(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    with Run(tmp_path / "run").stage_writer() as writer:
        writer.connection.execute("DELETE FROM stages WHERE stage = 'report'")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mneme.store.database.shutil.copyfile", full)
    refused(cli("run", tmp_path / "run" / "run.toml", "--out", tmp_path / "run"), "no space left")
    assert len(Run(tmp_path / "run").latents()) == 48


def test_a_taken_port_is_told_before_the_work(cli: Any, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(cli("demo", "--port", port, "--out", tmp_path / "run"), f"port {port}", "--port")
    assert not (tmp_path / "run").exists()


def test_ctrl_c_exits_130(cli: Any, whole_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.run.pipeline.run_pipeline", interrupt)
    code, _, err = cli("run", whole_run.path / "run.toml")
    assert code == 130 and "goes on from here" in err


def test_info_and_report_of_a_run(cli: Any, whole_run: Run, pair_folder: Path, tmp_path: Path) -> None:
    code, out, _ = cli("info", whole_run.path)
    assert code == 0 and "batchtopk" in out
    code, out, _ = cli("info", pair_folder / "base")
    assert code == 0 and "LlamaForCausalLM" in out
    code, out, _ = cli("report", whole_run.path, "--out", tmp_path / "report")
    assert code == 0 and (tmp_path / "report" / "report.html").exists()


def test_version(cli: Any) -> None:
    assert cli("--version")[1].strip() == mneme.__version__
