"""`mneme label`: explainers compared, and labels judged by a language model too."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from interpret.chat_server import serving

from mneme.store.run import Run

ANSWER = {"label": "a made-up label", "sentence": "It fires.", "role": "detects", "confidence": 0.5}


def test_explainers_compared_are_printed_kept_and_reported(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")

    def reply(number: int, request: dict[str, Any]) -> str:
        return json.dumps(ANSWER) if request["model"] == "A" else "I would rather not."

    with serving(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        words = ("--compare", "A,B,offline", "--latents", "3", "--price", "A=1,2")
        code, out, err = cli("label", tmp_path / "run", *words)
        assert code == 0, err
        asked = len(server.requests)
    run = Run(tmp_path / "run")
    assert run.rows("SELECT method, n_asked, n_labelled FROM label_comparison ORDER BY rowid") == [
        ("llm:A", 3, 3), ("llm:B", 3, 0), ("offline", 3, 3),
    ]  # fmt: skip
    assert asked == 6 + len(run.findings())  # three latents per model, and the first model names the findings
    assert run.rows("SELECT count(*) FROM label_failures WHERE method = 'llm:B'") == [(3,)]
    assert "llm:A and offline: cosine" in out and "3 without a label by llm:B: the reply is not JSON" in out
    assert "made-up" in run.rows("SELECT label FROM labels WHERE method = 'llm:A'")[0][0]
    assert "explain.txt" in json.loads((run.path / "manifest.json").read_text())["prompts"]
    for path in run.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"sk-very-secret" not in content and server.url.encode() not in content, path
    for form in ("report.html", "report.md", "report.json"):
        written = (run.path / "report" / form).read_text().replace("\\", "")  # Markdown escapes the colon
        assert "llm:B" in written, form


def test_a_language_model_judges_labels_where_settings_ask_for_it(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    judged: list[int] = []

    def reply(number: int, request: dict[str, Any]) -> str:
        asked = json.loads(request["messages"][-1]["content"])
        if "texts" not in asked:
            return json.dumps(ANSWER)
        judged.append(len(asked["texts"]))
        return json.dumps(
            [1] * len(asked["texts"])
        )  # all fit: right on every positive, wrong on every negative

    words = ("--model", "A", "--all", "--latents", "48", "--set", "labels.llm_score=true")
    with serving(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        code, _, err = cli("label", tmp_path / "run", *words)
    assert code == 0, err
    run = Run(tmp_path / "run")
    rows = run.rows("SELECT balanced_accuracy FROM label_scores WHERE scorer = 'llm:A' AND method = 'llm:A'")
    assert judged and rows and {value for (value,) in rows if value is not None} == {0.5}
    assert run.rows("SELECT count(*) FROM label_scores WHERE scorer = 'encoder' AND method = 'llm:A'")[0][0]
    assert run.rows("SELECT count(*) FROM label_failures") == [(0,)]


def test_label_asks_the_server_about_changed_latents_and_never_keeps_the_key(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    changed = whole_run.rows("SELECT count(*) FROM latents WHERE verdict IN ('amplified', 'suppressed')")[0][
        0
    ]
    assert changed > 1
    answer = {"label": "a made-up label", "sentence": "It fires.", "role": "detects", "confidence": 0.5}

    def reply(number: int, request: dict[str, Any]) -> Any:
        return (401, {}, "{}") if number == 0 else json.dumps(answer)

    with serving(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
        monkeypatch.setenv("OPENAI_MODEL", "tiny")
        words = ["--set", "labels.llm_concurrency=1"]
        code, _, err = cli("label", tmp_path / "run", *words)
        assert code == 0, err
        asked = len(server.requests)
    run = Run(tmp_path / "run")
    labelled = run.rows("SELECT count(*) FROM labels WHERE method = 'llm:tiny'")[0][0]
    failed = run.rows("SELECT value, status FROM health WHERE metric = 'label_failures'")[0]
    assert asked >= 1 and labelled + failed[0] == changed
    assert failed[1] == ("warn" if failed[0] else "ok")
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes(), path


def test_a_dry_run_of_labels_tells_the_price_and_asks_nothing(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    before = (tmp_path / "run" / "run.toml").read_text()
    with serving(lambda n, body: "") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        code, out, err = cli("label", tmp_path / "run", "--dry-run", "--model", "tiny")
        assert code == 0, err
        assert "unknown" in out and "--price IN,OUT" in out
        code, out, err = cli("label", tmp_path / "run", "--dry-run", "--model", "t", "--price", "1000,1000")
        assert code == 0 and "unknown" not in out and "Nothing was asked" in out, err
        assert not server.requests
    assert (tmp_path / "run" / "run.toml").read_text() == before


def test_labels_that_cannot_be_made_are_told_before_any_work(
    cli: Any, whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(whole_run.path, tmp_path / "run")
    before = (tmp_path / "run" / "run.toml").read_text()
    for words, fix in (
        ([], "OPENAI_BASE_URL"),
        (["--model", "a", "--offline"], "give one"),
        (["--compare", "a"], "two or more"),
        (["--compare", "a,offline"], "OPENAI_BASE_URL"),
        (["--local", str(tmp_path / "nowhere")], "nowhere"),
        (["--offline", "--max-cost", "1"], "prices"),
    ):
        code, _, err = cli("label", tmp_path / "run", *words)
        assert code == 2 and fix in err and len(err.strip().splitlines()) == 1, (words, err)
    with serving(lambda n, body: "") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    code, _, err = cli("label", tmp_path / "run", "--model", "a")
    assert code == 2 and "can't be reached" in err
    assert (tmp_path / "run" / "run.toml").read_text() == before
