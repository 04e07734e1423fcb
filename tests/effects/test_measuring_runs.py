"""measure, import and evaluate on a whole run of tiny models; lm-evaluation-harness' files read with care."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from mneme._util.errors import ModelError, OutcomesError
from mneme.config import make_config
from mneme.effects import lm_eval
from mneme.effects.expensive_baselines import DifferenceSource, mean_by_topic
from mneme.effects.outcome_files import COLUMNS
from mneme.run.evaluation import evaluate_run
from mneme.run.outcomes import give_outcomes, measure_run
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

AREAS = ("cells", "money", "wars", "stars", "songs", "ships")
KNOWN = ["anatomy", "virology"]


def import_results(base: Path, tuned: Path, known: list[str]) -> pd.DataFrame:
    return lm_eval.import_results(base, tuned, known).frame


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two tiny models with six categories; tests copy it."""
    folder = tmp_path_factory.mktemp("measured")
    base = tiny_llama()
    save(base, folder / "base", tiny_tokenizer())
    save(changed_in_layer(base, 1), folder / "tuned", tiny_tokenizer())
    toml = "".join(f'[{a}]\nname = "{a}"\ndescription = "all about {a} and {a}"\n' for a in AREAS)
    (folder / "areas.toml").write_text(toml)
    texts = [
        f"a text of {AREAS[i % 6]} number {i} with {AREAS[i % 6]} in it and more words" for i in range(48)
    ]
    settings = {
        "base": str(folder / "base"),
        "tuned": str(folder / "tuned"),
        "corpus": texts,
        "harvest": {"context_length": 64, "behaviour_share": 0.5, "shard_tokens": 1500},
        "crosscoder": {"n_latents": 48, "k": 4, "epochs": 2, "batch_size": 256},
        "interpret": {"top_contexts": 3, "decile_contexts": 1},
        "labels": {"score_windows": 30},
        "effects": {"taxonomy": str(folder / "areas.toml"), "replicates": 20, "min_documents": 1},
    }
    run_pipeline(make_config(settings), folder / "run")
    return folder


@pytest.fixture
def run_folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    rows = [
        {"category": a, "question": f"what of {a} {i}?", "choices": ["yes", "no"], "answer": i % 2}
        for a in AREAS[:5]
        for i in range(6)
    ]
    rows += [{"category": AREAS[5], "text": f"some text about ships, number {i}"} for i in range(6)]
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_measured_outcomes_are_beside_the_prediction_and_only_effects_and_report_are_made_again(
    run_folder: Path, benchmark: Path
) -> None:
    before = dict(Run(run_folder).rows("SELECT stage, finished_at FROM stages"))
    frame, covered = measure_run(run_folder, benchmark, per_category=4)
    run = Run(run_folder)
    assert covered.measured == 6 and covered.without == ()
    rows = run.sql("SELECT * FROM outcomes WHERE kind = 'capability'").set_index("category")
    assert sorted(rows.index) == sorted(AREAS[:5]) and (rows["chance"] == 0.5).all()
    assert set(rows["benchmark"]) == {"items"} and set(rows["unit"]) == {"error rate"}
    stored = run.sql("SELECT * FROM outcomes WHERE kind = 'nll'").set_index("category")
    nll = frame[frame["kind"] == "nll"].set_index("category")
    np.testing.assert_allclose(stored["change"], nll.loc[stored.index, "change"], atol=2e-5)
    assert (stored["n"] == 4).all() and set(stored["unit"]) == {"nats"}
    assert math.isnan(stored.loc["ships", "accuracy_base"]) and 0 <= stored.loc["wars", "accuracy_base"] <= 1
    assert (stored["ci_low"] <= stored["change"]).all() and stored.loc["wars", "answer_base"] > 0
    assert len(run.sql("SELECT * FROM evaluation")) and not (run_folder / "outcomes.partial").exists()
    after = dict(run.rows("SELECT stage, finished_at FROM stages"))
    assert before["labels"] == after["labels"] and before["harvest"] == after["harvest"]


def test_models_trained_again_in_place_are_not_measured_for_the_old_run(
    made: Path, run_folder: Path, benchmark: Path, tmp_path: Path
) -> None:
    shutil.copytree(made / "tuned", tmp_path / "kept")
    before = (run_folder / "run.duckdb").read_bytes()
    try:
        save(changed_in_layer(tiny_llama(), 2), made / "tuned")
        with pytest.raises(ModelError, match="have changed since: `mneme run") as caught:
            measure_run(run_folder, benchmark)
    finally:
        shutil.copytree(tmp_path / "kept", made / "tuned", dirs_exist_ok=True)
    assert "\n" not in str(caught.value)
    assert not (run_folder / "outcomes.csv").exists()
    assert (run_folder / "run.duckdb").read_bytes() == before


def test_a_measurement_that_was_stopped_goes_on(
    run_folder: Path, benchmark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mneme.effects import outcomes

    real, calls = outcomes._measure_batch, []

    def stop_at_the_second(*args):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(outcomes, "_measure_batch", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        measure_run(run_folder, benchmark)
    kept = (run_folder / "outcomes.partial").read_text()
    monkeypatch.setattr(outcomes, "_measure_batch", lambda *args: calls.append(1) or real(*args))
    calls.clear()
    measure_run(run_folder, benchmark)
    assert kept.count("\n") == 1 and len(calls) == 1  # the tuned model's; the base's batch was kept


def test_categories_that_the_run_has_not_are_refused_before_anything_is_measured(
    run_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text(json.dumps({"category": "cellz", "text": "x y z"}))
    with pytest.raises(OutcomesError, match="unknown category 'cellz': did you mean 'cells'"):
        measure_run(run_folder, file)
    assert not (run_folder / "outcomes.partial").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "no category"}', "line 1 can't be read"),
        ('{"category": "cells", "question": "q", "choices": ["a", "b"], "answer": 2}', "none of its options"),
        ("{", "line 1 is no JSON"),
        ("", "has no items"),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_refused(
    run_folder: Path, tmp_path: Path, line: str, message: str
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(line)
    with pytest.raises(OutcomesError, match=message):
        measure_run(run_folder, file)


def test_evaluation_holds_every_rival_against_the_same_outcomes(run_folder: Path, benchmark: Path) -> None:
    with pytest.raises(OutcomesError, match="0 categories with an outcome"):
        evaluate_run(run_folder)
    measure_run(run_folder, benchmark)
    table = evaluate_run(run_folder, benchmark=benchmark, per_category=6)
    methods = set(table["method"])
    assert {
        "crosscoder",
        "oracle",
        "difference_sae",
        "mean_difference_lens",
        "majority",
        "mean_kl",
    } <= methods
    # of each metric: what an open outcome says nothing on leaves it out, for all alike
    assert table.groupby(["metric", "subset"])["n"].nunique().eq(1).all()
    stored = Run(run_folder).sql("SELECT * FROM evaluation")
    pd.testing.assert_frame_equal(stored, table, check_dtype=False)
    again = evaluate_run(run_folder, benchmark=benchmark, per_category=6)  # from what was kept
    pd.testing.assert_frame_equal(again, table)
    values = Run(run_folder).sql("SELECT value FROM baselines WHERE method = 'difference_sae'")["value"]
    assert len(values) == len(AREAS) and (values.dropna() > 0).all()


def test_the_oracle_reads_the_benchmarks_own_text_only() -> None:
    total, size = np.array([4.0, 10.0, 20.0, 0.0]), np.array([2.0, 1.0, 1.0, 2.0])
    found = mean_by_topic(total, size, ["cells", "wars", "elsewhere", "cells"], ["wars", "cells", "songs"])
    np.testing.assert_allclose(found, [10, 1, np.nan])


def test_a_crosscoder_of_two_equal_differences_is_an_sae() -> None:
    from mneme.crosscoder import CrosscoderConfig, train_crosscoder
    from mneme.crosscoder.source import TensorSource

    x = torch.randn(600, 2, 8, generator=torch.Generator().manual_seed(0))
    source = DifferenceSource(TensorSource(x))
    first = next(source.batches(5))
    torch.testing.assert_close(first[:, 0], x[:5, 1] - x[:5, 0])
    trained = train_crosscoder(source, CrosscoderConfig(n_latents=16, k=2, epochs=2, batch_size=100))
    torch.testing.assert_close(trained.W_dec[0], trained.W_dec[1])


def results(accuracy: float, n: int = 4, task: str = "mmlu_anatomy") -> str:
    return json.dumps(
        {
            "results": {task: {"acc,none": accuracy, "acc_stderr,none": 0.1}, "mmlu": {"acc,none": 0.3}},
            "group_subtasks": {"mmlu": [task]},
            "n-samples": {task: {"original": n, "effective": n}},
        }
    )


def write_results(tmp_path: Path, base: str, tuned: str) -> tuple[Path, Path]:
    files = []
    for name, content in (("base", base), ("tuned", tuned)):
        (tmp_path / name).mkdir(exist_ok=True)
        files.append(tmp_path / name / "results_2026-01-01T00-00-00.json")
        files[-1].write_text(content)
    return files[0], files[1]


def write_samples(folder: Path, nll: list[float], correct: list[int]) -> None:
    lines = []
    for i, (value, right) in enumerate(zip(nll, correct, strict=True)):
        replies = [["-9.0" if right else "-0.1", "False"], [str(-value), "True"]]
        lines.append(json.dumps({"doc_id": i, "target": "1", "filtered_resps": replies, "acc": float(right)}))
    (folder / "samples_mmlu_anatomy_2026-01-01T00-00-00.jsonl").write_text("\n".join(lines))


def test_results_without_samples_give_error_rates(tmp_path: Path) -> None:
    frame = import_results(*write_results(tmp_path, results(0.5), results(0.25)), KNOWN)
    row = frame.iloc[0]
    assert (row["category"], row["unit"], row["n"]) == ("anatomy", "error rate", 4)
    assert (row["base"], row["tuned"], row["change"]) == (0.5, 0.75, 0.25)
    assert row["ci_low"] < -0.2 and row["ci_high"] > 0.6  # four questions tell little


def test_samples_give_the_nll_of_the_right_choice_and_paired_intervals(tmp_path: Path) -> None:
    files = write_results(tmp_path, results(0.5), results(0.25))
    write_samples(files[0].parent, [1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0])
    write_samples(files[1].parent, [1.5, 2.5, 3.5, 4.5], [1, 0, 0, 0])
    row = import_results(*files, KNOWN).iloc[0]
    assert row["unit"] == "nats" and row["base"] == 2.5 and row["change"] == 0.5
    # Every question moved by the same: a paired interval has no width, an unpaired one would be wide.
    assert row["ci_low"] == pytest.approx(0.5) and row["ci_high"] == pytest.approx(0.5)
    assert row["accuracy_base"] == 0.5 and row["accuracy_tuned"] == 0.25


def test_results_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path) -> None:
    def refused(base: str, tuned: str, message: str) -> None:
        with pytest.raises(OutcomesError, match=message):
            import_results(*write_results(tmp_path, base, tuned), KNOWN)

    refused(results(0.5), results(25.0), "not percent")
    refused(results(0.5), results(0.5, n=3), "4 questions .* and 3")
    refused(results(0.5), results(0.5, task="mmlu_virology"), "only one of")
    refused(*[results(0.5, task="mmlu_anatomie")] * 2, "did you mean 'anatomy'")
    refused("{", results(0.5), "can't be read as a result of lm-evaluation-harness")
    refused('{"results": {"x": {"ppl": 3}}}', results(0.5), "no task with an accuracy")
    files = write_results(tmp_path, results(0.5), results(0.5))
    write_samples(files[0].parent, [1.0, 2.0], [1, 0])
    write_samples(files[1].parent, [1.0] * 4, [1, 0, 1, 0])
    with pytest.raises(OutcomesError, match="not of the same questions"):
        import_results(*files, KNOWN)


def test_imported_outcomes_replace_a_file_that_the_settings_named(run_folder: Path, made: Path) -> None:
    frame = pd.DataFrame({"category": ["cells"], "base": [0.5], "tuned": [0.6], "change": [0.1]})
    frame = frame.assign(source="x", unit="error rate").reindex(columns=list(COLUMNS))
    covered = give_outcomes(run_folder, frame)
    assert covered.measured == 1 and len(covered.without) == 5
    assert Run(run_folder).rows("SELECT category, unit FROM outcomes") == [("cells", "error rate")]


def test_filters_and_logs_of_other_dates_are_told_apart(tmp_path: Path) -> None:
    """The layout of lm-eval 0.4.13: a line a filter, targets as text, both models in one folder as NAME_DATE.json."""
    files = []
    for name, date, loglikelihoods in (
        ("base", "2026-01-01T00-00-00.000001", [(-1.0, -2.0), (-3.0, -1.0)]),
        ("tuned", "2026-01-01T00-00-00.000002", [(-2.0, -1.0), (-3.0, -2.0)]),
    ):
        lines = []
        for i, (values, target) in enumerate(zip(loglikelihoods, ("2", "1"), strict=True)):
            right = float(values[("2", "1").index(target)] == max(values))
            for kind in ("none", "other"):
                row = {"doc_id": i, "doc_hash": "same", "target": target, "filter": kind, "acc": right}
                row["filtered_resps"] = [[str(value), "False"] for value in values]
                row["arguments"] = {f"gen_args_{j}": {"arg_0": "Q", "arg_1": f" {2 - j}"} for j in (0, 1)}
                lines.append(json.dumps(row))
        (tmp_path / f"samples_mmlu_anatomy_{date}.jsonl").write_text("\n".join(lines))
        files.append(tmp_path / f"{name}_{date}.json")
        files[-1].write_text(results(1.0 if name == "base" else 0.5, n=2))
    row = import_results(*files, KNOWN).iloc[0]
    assert (row["unit"], row["n"], row["base"], row["tuned"]) == ("nats", 2, 1.0, 2.0)
    with pytest.raises(OutcomesError, match="given twice"):
        import_results(files[0], files[0], KNOWN)
    files[1].write_text(results(0.9, n=2))
    with pytest.raises(OutcomesError, match="of the same run"):
        import_results(*files, KNOWN)
