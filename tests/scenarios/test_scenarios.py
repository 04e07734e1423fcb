"""The suite on tiny models: every kind of scenario, resumable, failures listed; floors and page from results."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_models import save, tiny_llama, tiny_tokenizer

from mneme._util.errors import ConfigError, OutcomesError
from mneme.cli import main as cli_main
from mneme.effects.preferences import Contrast, measure_contrasts, read_pairs
from mneme.scenarios.page import markdown
from mneme.scenarios.results import floors, read_results
from mneme.scenarios.spec import LIST, load_scenarios, merged
from mneme.scenarios.suite import Suite, known_results

AREAS = ("cells", "money", "wars", "stars", "songs", "ships")
MINE = """
[common]
corpus = "CORPUS"
effects = {{ taxonomy = "{taxonomy}", min_documents = 1 }}

[tune]
title = "tune"
kind = "unlearning"
method = "rmu"
forget = ["mmlu/test/cells_test.csv::even"]
retain = ["mmlu/test/money_test.csv::even"]
intended_categories = ["cells"]

[drift]
title = "drift"
kind = "drift"
method = "finetune"
rejected = "hh_rlhf/harmless-base_test.jsonl.gz"
topic = "cells"
outcome = "margin"
run = {{ effects = {{ taxonomy = "{taxonomy}" }} }}

[same]
title = "no change"
kind = "null"
method = "noise"
outcome = "none"

[broken]
title = "lacks its text"
kind = "benign"
method = "finetune"
learn = ["nowhere.txt"]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """base/, data/ and a list of scenarios."""
    save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    taxonomy = tmp_path / "areas.toml"
    taxonomy.write_text("".join(f'[{a}]\nname = "{a}"\ndescription = "all about {a}"\n' for a in AREAS))
    questions = tmp_path / "data" / "mmlu" / "test"
    questions.mkdir(parents=True)
    for area in AREAS:
        rows = "".join(f"what of {area} {i}?,yes,no,{i % 2}\n" for i in range(8))
        (questions / f"{area}_test.csv").write_text(rows)
    pairs = []
    for i in range(48):
        prompt = f"\n\nHuman: tell me about {AREAS[i % 6 - i % 2]} number {i}\n\nAssistant:"
        pairs.append(json.dumps({"chosen": f"{prompt} gladly", "rejected": f"{prompt} never, {i}"}))
    (tmp_path / "data" / "hh_rlhf").mkdir()
    (tmp_path / "data" / "hh_rlhf" / "harmless-base_test.jsonl.gz").write_bytes(
        gzip.compress("\n".join(pairs).encode())
    )
    corpus = tmp_path / "corpus.txt"
    texts = [
        f"a text of {AREAS[i % 6]} number {i} with {AREAS[i % 6]} in it and more words" for i in range(48)
    ]
    corpus.write_text("\n\n".join(texts))
    (tmp_path / "list.toml").write_text(MINE.format(taxonomy=taxonomy).replace("CORPUS", str(corpus)))
    return tmp_path


def main(arguments: list[str]) -> int:
    """The exit code of `mneme scenarios ...`."""
    with pytest.raises(SystemExit) as stopped, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mneme", "scenarios", *arguments])
        cli_main()
    return int(stopped.value.code or 0)


def call(place: Path, *words: str, command: str = "run") -> int:
    fixed = ["--data", str(place / "data"), "--out", str(place / "out"), "--list", str(place / "list.toml")]
    docs = ["--docs", str(place / "docs")]
    if command != "run":
        docs = ["--registered", str(place / "registered"), "--protocol", str(place / "protocol.md")]
    return main([command, *fixed, *docs, "--base", str(place / "base"), "--quick", *words])


def test_the_suite_measures_lists_failures_and_skips_what_is_finished(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(place, "--only", "tune") == 0
    assert call(place) == 1  # `broken` fails, the rest goes on
    whole = json.loads((place / "docs" / "results.json").read_text())
    by_name = {result["scenario"]: result for result in whole["results"]}
    assert set(by_name) == {"tune", "drift", "same", "broken"}
    assert "nowhere.txt" in by_name["broken"]["error"] and "--data" in by_name["broken"]["error"]
    methods = {row["method"] for row in by_name["tune"]["evaluation"]}
    assert {"crosscoder", "crosscoder_effect", "oracle", "activation_difference_norm"} <= methods
    assert by_name["same"]["called"] == 0 and by_name["same"]["evaluation"] == []
    assert whole["floors"]["null_categories_without_false_alarm"]["met"] is True
    page = (place / "docs" / "results.md").read_text()
    assert "## Failed" in page and "## tune (seed 0)" in page

    results = place / "out" / "tune" / "seed-0" / "result.json"
    results.write_text(results.read_text().replace('"called": ', '"called": 7'))
    assert call(place, "--only", "tune", "--again") == 0  # effects and evaluation only, from what lies there
    assert json.loads(results.read_text())["called"] == by_name["tune"]["called"]
    (place / "list.toml").write_text(
        (place / "list.toml").read_text() + '[later]\ntitle = "later"\nkind = "null"\nof = "tune"\n'
    )

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished scenario was run again")

    monkeypatch.setattr("mneme.scenarios.run.run_pipeline", never)
    assert call(place, "--only", "tune", "--only", "same") == 0
    whole = json.loads((place / "docs" / "results.json").read_text())
    assert len(whole["results"]) == 4 and whole["missing"] == ["later (seed 0)"]
    shutil.rmtree(place / "out" / "tune")  # a result stays where its files went, until it is asked for afresh
    assert call(place, "--only", "same") == 0
    assert len(json.loads((place / "docs" / "results.json").read_text())["results"]) == 4
    assert call(place, "--only", "same", "--fresh") == 0
    whole = json.loads((place / "docs" / "results.json").read_text())
    assert whole["missing"] == ["tune (seed 0)", "later (seed 0)"]
    assert (
        "Of the list, so not in any figure above: tune (seed 0)"
        in (place / "docs" / "results.md").read_text()
    )


def test_bad_input_is_one_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(place, "--only", "tun") == 2
    assert "did you mean 'tune'" in capsys.readouterr().err
    assert main(["run", "--data", str(place / "none")]) == 2
    assert "--data or MNEME_EVALUATION_DATA" in capsys.readouterr().err


def test_the_list_that_comes_with_mneme_is_whole() -> None:
    common, scenarios = load_scenarios()
    assert common["base"] == "bundled:base" and len(scenarios) >= 15
    assert {s.kind for s in scenarios.values()} == {"unlearning", "drift", "benign", "null", "ablation"}
    for name in ("rmu_biology", "rmu_chemistry", "drift_margin"):
        assert len(scenarios[name].seeds) == 3
    assert LIST.is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\ntitle='a'\nkind='null'", "needs a method"),
        ("[a]\ntitle='a'\nkind='null'\nof='b'", "is of b"),
        ("[a]\ntitle='a'\nkind='null'\nmethod='rmu'\nsead=1", "did you mean 'seed"),
        ("[a]\ntitle='a'\nkind='null'\nmethod='rmu'\noutcome='mlu'", "did you mean 'mmlu'"),
        ("[a", "can't be read"),
    ],
)
def test_a_list_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "l.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_scenarios(tmp_path / "l.toml")


def row(method: str, metric: str, value: float | None, subset: str = "all") -> dict[str, Any]:
    return {"method": method, "metric": metric, "subset": subset, "value": value, "n": 9}


def test_floors_are_means_over_scenarios_and_unknown_without_any() -> None:
    assert {floor["met"] for floor in floors([]).values()} == {None}
    rmu = [
        row("crosscoder", "auroc", 0.95),
        row("crosscoder", "accuracy", 0.8),
        row("crosscoder", "spearman", 0.7, "outside_intended"),
        row("mean_kl", "spearman", 0.6, "outside_intended"),
        row("oracle", "spearman", 0.9, "outside_intended"),  # no rival
    ]
    base = {"title": "t", "verdict": "v", "categories": 10, "called": 1, "seed": 0}
    results = [{**base, "scenario": "rmu_x", "kind": "unlearning", "evaluation": rmu}]
    results.append({**base, "scenario": "n", "kind": "null", "evaluation": []})
    found = floors(results)
    assert found["unlearning_auroc"]["met"] is True and found["unlearning_accuracy"]["met"] is False
    assert found["spearman_outside_intended_above_best_baseline"]["value"] == pytest.approx(0.1)
    assert found["null_categories_without_false_alarm"]["value"] == pytest.approx(0.9)
    assert found["direction_of_degraded"]["met"] is None
    worse = [row("crosscoder", "auroc", 0.5)]
    results.append({**base, "scenario": "rmu_law", "kind": "unlearning", "evaluation": worse})
    with_held_out = floors(results)
    assert with_held_out["unlearning_auroc"]["value"] == pytest.approx(0.725)
    assert with_held_out["unlearning_auroc_without_the_held_out"]["value"] == pytest.approx(0.95)
    assert "| unlearning accuracy | 0.80 | >= 0.9 | **no** |" in markdown(
        {"floors": found, "results": results}
    )


def test_settings_merge_deeply_and_leave_what_is_below() -> None:
    below = {"a": {"x": 1, "y": 2}}
    assert merged(below, {"a": {"y": 3}}) == {"a": {"x": 1, "y": 3}} and below["a"]["y"] == 2


def test_a_model_that_came_to_like_the_worse_answer_has_a_higher_margin() -> None:
    """Margins and refusals equal a loop over tokens; a drift to the worse answer is a rise."""
    import torch

    model, tokenizer = tiny_llama(), tiny_tokenizer()
    item = Contrast("cells", "ask?", " good", " bad one")
    frame = measure_contrasts(model, model, tokenizer, [item], source="x").iloc[0]

    def nll(answer: str) -> float:
        ids = [tokenizer.bos_token_id, *tokenizer(item.prompt)["input_ids"][-4:]]
        total, said = 0.0, tokenizer(answer, add_special_tokens=False)["input_ids"]
        for token in said:
            total -= model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)[token].item()
            ids.append(token)
        return total / len(said)

    assert frame["base"] == pytest.approx(nll(" good") - nll(" bad one"), rel=1e-3)
    assert frame["change"] == 0
    tuned = tiny_llama(seed=1)
    drift = measure_contrasts(model, tuned, tokenizer, [item, item._replace(worse=None)], source="x").iloc[0]
    assert drift["change"] == pytest.approx(drift["tuned"] - drift["base"])


def test_answers_read_together_are_as_likely_as_alone(tmp_path: Path) -> None:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    items = [
        Contrast(f"c{n}", "ask " * n + "?", " good" * (5 - n), " bad one" if n % 2 else None)
        for n in range(1, 5)
    ]
    together = measure_contrasts(model, model, tokenizer, items, source="x", kept=tmp_path / "kept.jsonl")
    alone = [measure_contrasts(model, model, tokenizer, [item], source="x").iloc[0] for item in items]
    assert together["base"].tolist() == pytest.approx([frame["base"] for frame in alone], rel=1e-4)

    again = measure_contrasts(model, model, tokenizer, items, source="x", kept=tmp_path / "kept.jsonl")
    assert again.equals(together)


def test_pairs_of_other_prompts_are_left_out_and_files_without_any_refused(tmp_path: Path) -> None:
    good = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
    odd = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: z\n\nAssistant: c"}
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(odd))
    assert read_pairs(file) == [Contrast("", "\n\nHuman: a\n\nAssistant:", " b", " c")]
    file.write_text(json.dumps(odd))
    with pytest.raises(OutcomesError, match="no pair"):
        read_pairs(file)


def test_the_results_in_docs_are_those_of_the_list(tmp_path: Path) -> None:
    """They take hours: no renamed setting or field may lose them."""
    common, scenarios = load_scenarios(LIST)
    results = read_results(Path(__file__).parents[2] / "docs")
    found, missing = known_results(Suite(tmp_path, tmp_path, common, scenarios), results)
    assert not missing and len(found) == len(results) > 20
