"""Results of other harnesses: what fits is imported, the rest named; a fall of accuracy is for the worse."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mneme._util.errors import OutcomesError
from mneme.effects.inspect_logs import import_logs, is_inspect_log
from mneme.effects.lm_eval import import_results
from mneme.effects.outcome_files import read_outcomes
from mneme.effects.outcome_kinds import few_items

KNOWN = ["anatomy", "law", "virology"]


def harness(path: Path, results: dict[str, Any]) -> Path:
    whole = {"results": {task: {"acc,none": value} for task, value in results.items()}}
    path.write_text(json.dumps({**whole, "n-samples": {task: {"effective": 100} for task in results}}))
    return path


@pytest.mark.parametrize("bad", [float("nan"), None, [], "N/A", float("inf"), True, {}])
def test_tasks_that_fit_are_imported_and_the_others_named(tmp_path: Path, bad: Any) -> None:
    base = harness(tmp_path / "a.json", {"mmlu_anatomy": 0.5, "hellaswag": 0.4, "mmlu_law": bad, "law": 0.1})
    tuned = harness(tmp_path / "b.json", {"mmlu_anatomy": 0.2, "mmlu_law": 0.5, "law": 0.1})
    found = import_results(base, tuned, KNOWN)
    assert list(found.frame["category"]) == ["anatomy", "law"]
    assert found.left_out["hellaswag"] == "no category of the run"
    assert found.left_out["mmlu_law"].startswith("acc,none")
    assert found.frame["change"].iloc[0] == pytest.approx(0.3)


def test_where_no_task_fits_the_nearest_category_is_named(tmp_path: Path) -> None:
    files = [harness(tmp_path / f"{name}.json", {"mmlu_virologi": 0.5}) for name in "ab"]
    with pytest.raises(OutcomesError, match=r"no task is an outcome of the run .* did you mean 'virology'"):
        import_results(*files, KNOWN)


def log(path: Path, scores: list[Any], *, subjects: bool = True, **changes: Any) -> Path:
    header = {"version": 2, "status": "success", "eval": {"task": "inspect_evals/mmlu_law"}, **changes}
    samples = [
        {
            "id": i // 2,
            "epoch": 1 + i % 2,
            "input": f"question {i // 2}",
            "metadata": {"subject": ("Anatomy", "law", "hellaswag")[i // 2 % 3]} if subjects else {},
            "scores": {"choice": {"value": score}},
        }
        for i, score in enumerate(scores)
    ]
    if path.suffix == ".eval":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("header.json", json.dumps(header))
            for sample in samples:
                archive.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    else:
        path.write_text(json.dumps({**header, "samples": samples}))
    return path


@pytest.mark.parametrize("suffix", [".eval", ".json"])
def test_logs_of_inspect_are_paired_by_question(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(0, 2, (2, 60))
    files = [
        log(tmp_path / f"{name}{suffix}", ["CI"[1 - v] for v in values])
        for name, values in zip("ab", right, strict=True)
    ]
    assert is_inspect_log(files[0]) and not is_inspect_log(harness(tmp_path / "h.json", {"law": 1.0}))
    found = import_logs(*files, KNOWN)
    assert list(found.frame["category"]) == ["anatomy", "law"] and found.left_out == {
        "hellaswag": "no category of the run"
    }
    share = right.reshape(2, 30, 2).mean(2)[:, 0::3].mean(1)
    row = found.frame.iloc[0]
    assert (row["accuracy_base"], row["accuracy_tuned"]) == pytest.approx(tuple(share))
    assert row["change"] == pytest.approx(share[0] - share[1]) and row["n"] == 10
    assert row["ci_low"] <= row["change"] <= row["ci_high"] and row["unit"] == "error rate"


def test_without_subjects_the_task_names_the_category(tmp_path: Path) -> None:
    files = [log(tmp_path / f"{name}.eval", ["C", "I", 1.0, False], subjects=False) for name in "ab"]
    assert list(import_logs(*files, KNOWN).frame["category"]) == ["law"]


@pytest.mark.parametrize(
    ("scores", "changes", "message"),
    [
        (["C"] * 4, {"status": "error"}, "ended in 'error'"),
        (["C"] * 4, {"eval": {}}, "can't be read as a log of Inspect"),
        (["C", "?"], {}, "has no score that is right or wrong"),
        (["C"] * 6, {}, "are not of the same questions"),
        ([], {}, "has no questions"),
    ],
)
def test_logs_that_do_not_fit_are_refused(
    tmp_path: Path, scores: list[Any], changes: dict[str, Any], message: str
) -> None:
    good = log(tmp_path / "a.eval", ["C"] * 4)
    with pytest.raises(OutcomesError, match=message) as caught:
        import_logs(good, log(tmp_path / "b.eval", scores, **changes), KNOWN)
    assert "\n" not in str(caught.value)


def test_a_zip_that_is_no_log_and_one_that_unpacks_to_gigabytes_are_refused(tmp_path: Path) -> None:
    good = log(tmp_path / "a.eval", ["C"] * 4)
    (tmp_path / "b.eval").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "c.eval", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", " " * (300 << 20))
    for name in "bc":
        with pytest.raises(OutcomesError, match="can't be read as a log of Inspect"):
            import_logs(good, tmp_path / f"{name}.eval", KNOWN)


SHARE = st.floats(0, 1).map(lambda value: round(value, 3))


@given(base=SHARE, tuned=SHARE, form=st.sampled_from(["unit", "accuracy", "both"]))
def test_a_fall_of_accuracy_is_for_the_worse_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, base: float, tuned: float, form: str
) -> None:
    file = tmp_path_factory.mktemp("o") / "o.csv"
    gain = tuned - base
    rows = {
        "unit": f"category,base,tuned,unit,ci_low,ci_high\nlaw,{base},{tuned},Accuracy,{gain - 0.1},{gain + 0.2}",
        "accuracy": f"category,accuracy_base,accuracy_tuned\nlaw,{base},{tuned}",
        "both": f"category,base,tuned,accuracy_base,accuracy_tuned\nlaw,{base},{tuned},{base},{tuned}",
    }
    file.write_text(rows[form])
    row = read_outcomes(file).iloc[0]
    assert row["change"] == pytest.approx(base - tuned) and row["unit"] == "error rate"
    assert (row["accuracy_base"], row["accuracy_tuned"]) == pytest.approx((base, tuned))
    if form == "unit":
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((base - tuned - 0.2, base - tuned + 0.1))


def test_numbers_that_may_be_nats_or_shares_are_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "o.csv"
    file.write_text("category,base,tuned\nlaw,0.5,0.2\n")
    with pytest.raises(OutcomesError, match="doesn't say what base and tuned are"):
        read_outcomes(file)
    file.write_text("category,base,tuned,unit\nlaw,0.5,0.2,nats\n")
    assert read_outcomes(file)["change"].iloc[0] == pytest.approx(-0.3)
    file.write_text("category,base,tuned,unit\nlaw,50,20,accuracy\n")
    with pytest.raises(OutcomesError, match="not percent"):
        read_outcomes(file)


def test_few_items_are_told() -> None:
    frame = pd.DataFrame({"category": ["law", "anatomy", "law"], "n": [29, 30, np.nan]})
    assert few_items(frame).startswith("1 category has fewer than 30 items (law)")
    assert few_items(frame[1:]) == ""
