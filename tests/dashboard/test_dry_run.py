"""What a run would refuse is told on the page before it is started or queued."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from dashboard.components import dry_run, jobs
from mneme.cli import main

APP = Path(jobs.__file__).parents[1] / "app.py"


def test_the_page_says_what_the_dry_run_says_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(
        command: list[str], *, cwd: Path, timeout: float, **_: object
    ) -> subprocess.CompletedProcess[str]:
        """The command, in this process: another one would import torch again."""
        assert command[:3] == [sys.executable, "-m", "mneme"]
        if timeout < 1:
            raise subprocess.TimeoutExpired(command, timeout)
        monkeypatch.setattr(sys, "argv", command[2:])
        monkeypatch.chdir(cwd)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        return subprocess.CompletedProcess(
            command, int(ended.value.code or 0), out.getvalue(), err.getvalue()
        )

    monkeypatch.setattr(subprocess, "run", run)
    save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    save(changed_in_layer(tiny_llama(), 2), tmp_path / "tuned", tiny_tokenizer())
    (tmp_path / "text.txt").write_text("a river and a king and a cat on a mat. " * 60)
    before = sorted(tmp_path.rglob("*"))
    request = jobs.Request("early", "base", "tuned", "text.txt", 1, 64, 8, None, "")
    fine, text = dry_run.dry_run(tmp_path, request)
    assert not fine and text.startswith("layer 1 can't show the change") and "--layer 2 to 3" in text
    fine, text = dry_run.dry_run(tmp_path, request._replace(layer=None))
    assert fine and "tokens of 1 document; on disk" in text and "documents are the unit of evidence" in text
    fine, text = dry_run.dry_run(tmp_path, request, patience_s=0.01)
    assert not fine and "more than 0 s" in text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("fine", "box"), [(True, "success"), (False, "error")])
def test_check_shows_the_answer_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fine: bool, box: str
) -> None:
    asked: list[jobs.Request] = []

    def answer(folder: Path, request: jobs.Request) -> dry_run.Answer:
        asked.append(request)
        return dry_run.Answer(fine, "said [of it](x)")

    monkeypatch.setattr(dry_run, "dry_run", answer)
    monkeypatch.setattr(jobs, "_begin", lambda *_: pytest.fail("a run was started"))
    monkeypatch.setenv("MNEME_RUNS", str(tmp_path))
    app = AppTest.from_file(str(APP), default_timeout=30).run()
    app.switch_page("app_pages/runs.py").run()
    app.text_input(key="new_name").set_value("mine")
    app.number_input(key="new_layer").set_value(2)
    app.button(key="FormSubmitter:new_run-Check").click().run()
    assert not app.exception
    assert [(r.name, r.layer) for r in asked] == [("mine", 2)]
    assert [b.value for b in getattr(app, box)] == [r"said \[of it\]\(x\)"]
    app.text_input(key="new_name").set_value("../mine")
    app.button(key="FormSubmitter:new_run-Check").click().run()
    assert len(asked) == 1 and "name" in app.error[0].value
