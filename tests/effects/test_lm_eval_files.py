"""lm-evaluation-harness' own files, as it wrote them for the bundled pair (lm_eval_files/README.md), against pandas."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mneme._util.errors import OutcomesError
from mneme.effects import lm_eval

FILES = Path(__file__).parent / "lm_eval_files"
KNOWN = ["virology", "gsm8k_local"]


def import_results(base: Path, tuned: Path, known: list[str]) -> pd.DataFrame:
    return lm_eval.import_results(base, tuned, known).frame


def result(model: str, task: str, folder: Path = FILES) -> Path:
    """The result file that has `task` and no other."""
    return next(
        f for f in (folder / model).glob("results_*") if list(json.loads(f.read_text())["results"]) == [task]
    )


def log(model: str, task: str) -> pd.DataFrame:
    file = next((FILES / model).glob(f"samples_{task}_2*"))
    return pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FILES, tmp_path / "files"))


@pytest.mark.parametrize("task", ["mmlu_virology", "mmlu_virology_continuation"])
def test_multiple_choice_gives_the_nll_of_the_right_choice(task: str) -> None:
    row = import_results(result("base", task), result("tuned", task), KNOWN).iloc[0]
    nll = {}
    for model in ("base", "tuned"):
        frame = log(model, task)
        nll[model] = np.array(
            [-float(r[int(t)][0]) for r, t in zip(frame.filtered_resps, frame.target, strict=True)]
        )
        assert row[model] == pytest.approx(nll[model].mean()) and row[f"accuracy_{model}"] == frame.acc.mean()
    change = nll["tuned"] - nll["base"]
    assert (row["category"], row["n"], row["unit"]) == ("virology", 8, "nats")
    assert row["change"] == pytest.approx(change.mean())
    drawn = np.random.default_rng(5).choice(change, (20_000, 8)).mean(axis=1)
    width = np.ptp(np.quantile(drawn, [0.025, 0.975]))
    assert row["ci_low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.08 * width)
    assert row["ci_high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.08 * width)


def test_generated_answers_give_the_error_rate_of_the_first_filter() -> None:
    task = "gsm8k_local"
    row = import_results(result("base", task), result("tuned", task), KNOWN).iloc[0]
    strict = log("base", task).query("filter == 'strict-match'")
    assert (row["unit"], row["n"], row["base"]) == ("error rate", len(strict), 1 - strict.exact_match.mean())
    # Nobody answered right, which isn't known to the last digit: the interval has a width.
    assert row["ci_low"] < -0.1 and row["ci_high"] > 0.1


def test_without_logs_the_interval_is_that_of_independent_draws(copy: Path) -> None:
    for file in copy.glob("*/samples_*"):
        file.unlink()
    task = "mmlu_virology"
    row = import_results(result("base", task, copy), result("tuned", task, copy), KNOWN).iloc[0]
    paired = import_results(result("base", task), result("tuned", task), KNOWN).iloc[0]
    assert row["unit"] == "error rate" and row["base"] == 1 - paired["accuracy_base"]
    assert row["ci_low"] < -paired["accuracy_high"] and row["ci_high"] > -paired["accuracy_low"]


def test_models_that_were_asked_otherwise_are_refused(copy: Path) -> None:
    task = "mmlu_virology"
    files = result("base", task, copy), result("tuned", task, copy)
    written = files[1].read_text()

    def refused(change: dict[str, object], message: str) -> None:
        files[1].write_text(json.dumps(json.loads(written) | change))
        with pytest.raises(OutcomesError, match=message):
            import_results(*files, KNOWN)

    refused({"n-shot": {task: 5}}, "--num_fewshot is 0 for the base and 5 for the tuned model")
    refused({"chat_template_sha": "abc"}, "--apply_chat_template is not set for the base and abc")
    refused({"versions": {task: 2.0}}, "version of the task is 1.0 .* and 2.0")
    files[1].write_text(written)
    file = next((copy / "tuned").glob(f"samples_{task}_2*"))
    file.write_text(file.read_text().replace('"prompt_hash": "', '"prompt_hash": "0'))
    with pytest.raises(OutcomesError, match="same questions in other prompts"):
        import_results(*files, KNOWN)


def test_two_tasks_of_one_category_are_refused(copy: Path) -> None:
    for model in ("base", "tuned"):
        file, other = (result(model, f"mmlu_virology{more}", copy) for more in ("", "_continuation"))
        whole = json.loads(file.read_text())
        whole["results"] |= json.loads(other.read_text())["results"]
        other.unlink()
        file.write_text(json.dumps(whole))
    files = [next((copy / model).glob("results_*T21-5[03]*")) for model in ("base", "tuned")]
    with pytest.raises(
        OutcomesError, match="mmlu_virology and mmlu_virology_continuation are of the category"
    ):
        import_results(files[0], files[1], KNOWN)


@pytest.mark.parametrize(
    "task",
    ["mmlu_virology", "mmlu_virology_generative", "mmlu_flan_cot_zeroshot_virology", "mmlu_llama_virology"],
)
def test_subjects_of_every_mmlu_of_the_harness_are_known_by_name(tmp_path: Path, task: str) -> None:
    for model in ("base", "tuned"):
        (tmp_path / model).write_text(json.dumps({"results": {task: {"exact_match,x": 0.5}}}))
    assert list(import_results(tmp_path / "base", tmp_path / "tuned", KNOWN)["category"]) == ["virology"]
