"""Commands that load one model run the Python code it brings only with --trust-remote-code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

QUESTIONS = "\n".join(f"what of {i}?,yes,no,both,none,A" for i in range(4))


@pytest.fixture
def commands(own_code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Name -> words of the command line, all on the model with own code."""
    (tmp_path / "mmlu").mkdir()
    (tmp_path / "mmlu" / "anatomy_test.csv").write_text(QUESTIONS)
    learn = [
        "--learn",
        str(tmp_path / "mmlu" / "anatomy_test.csv"),
        "--set",
        "steps=1",
        "--set",
        "max_tokens=24",
    ]
    measured = ["--measure", str(tmp_path / "mmlu")]

    def sample(model: Any, tokenizer: Any, *_: Any) -> Path:  # a random model writes nothing that is kept
        written = tmp_path / "sampled"
        written.write_text(f"{type(model).__name__} {type(tokenizer).__name__}")
        return written

    monkeypatch.setattr("mneme.corpus.sample.sample_corpus", sample)
    return {
        "info": ["info", own_code],
        "organism": [
            "organism",
            "finetune",
            "--base",
            own_code,
            "--out",
            str(tmp_path / "o"),
            *learn,
            *measured,
        ],
        "corpus sample": [
            "corpus",
            "sample",
            "--model",
            own_code,
            "--out",
            str(tmp_path / "sample.jsonl.zst"),
        ],
    }


@pytest.mark.parametrize("name", ["info", "organism", "corpus sample"])
def test_code_of_a_model_is_run_only_with_the_flag(
    cli: Any, commands: dict[str, list[str]], tmp_path: Path, name: str
) -> None:
    code, _, err = cli(*commands[name])
    assert code == 2 and err.count("\n") == 1 and "give --trust-remote-code" in err, err
    code, out, err = cli(*commands[name], "--trust-remote-code")
    assert code == 0, err
    if name == "info":
        assert "OwnForCausalLM" in out
    elif name == "organism":
        assert pd.read_csv(tmp_path / "o" / "outcomes.csv")["category"].tolist() == ["anatomy"]
    else:
        assert (tmp_path / "sampled").read_text() == "OwnForCausalLM OwnTokenizer"
