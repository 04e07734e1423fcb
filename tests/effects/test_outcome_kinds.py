"""Kinds of outcomes: which count, which replace which, and what the run's queries make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mneme._util.errors import OutcomesError
from mneme.effects.outcome_files import COLUMNS, read_outcomes, write_outcomes
from mneme.effects.outcome_kinds import BEHAVIOUR, CAPABILITY, NLL, chance_q, merged, primary
from mneme.effects.outcomes import capability_of, summarise_items
from mneme.verdict.calls import outcome


def rows(kind: str, benchmark: str, accuracy: float = 0.8, n: int = 40, chance: float = 0.25) -> pd.DataFrame:
    found = pd.DataFrame(
        {
            "category": ["a", "b"],
            "kind": kind,
            "benchmark": benchmark,
            "base": 1 - accuracy,
            "tuned": 0.5,
            "accuracy_base": [accuracy, 0.25],
            "chance": chance,
            "n": n,
            "change": 0.1,
        }
    )
    return found.assign(chance_q=chance_q(found))


def test_the_base_must_beat_guessing_by_an_exact_one_sided_test_over_the_areas() -> None:
    found = rows(CAPABILITY, "quiz")["chance_q"].to_numpy()
    p = [
        sum(stats.binom.pmf(k, 40, 0.25) for k in range(right, 41)) for right in (32, 10)
    ]  # P(as many right or more)
    np.testing.assert_allclose(found, [min(2 * p[0], p[1]), p[1]])
    assert found[0] < 0.05 < found[1]
    assert np.isnan(rows(NLL, "mmlu")["chance_q"]).all()
    assert np.isnan(rows(CAPABILITY, "quiz", chance=np.nan)["chance_q"]).all()


def test_guessing_is_tested_within_a_benchmark() -> None:
    both = pd.concat([rows(CAPABILITY, "quiz"), rows(CAPABILITY, "other", accuracy=0.3)])
    np.testing.assert_allclose(chance_q(both)[:2], rows(CAPABILITY, "quiz")["chance_q"])


def test_predictions_are_held_against_nll_first_and_never_against_a_capability_at_chance() -> None:
    quiz, nll = rows(CAPABILITY, "quiz"), rows(NLL, "mmlu")
    assert primary(quiz)["category"].tolist() == ["a"]
    assert set(primary(pd.concat([quiz, nll], ignore_index=True))["benchmark"]) == {"mmlu"}
    more = pd.concat([quiz, rows(CAPABILITY, "longer", n=80)], ignore_index=True)
    assert primary(more)["benchmark"].tolist() == ["longer"]


def test_a_benchmark_replaces_its_own_rows_and_nll_all_nll() -> None:
    old = pd.concat([rows(NLL, "mmlu"), rows(CAPABILITY, "quiz")], ignore_index=True)
    assert set(merged(old, rows(NLL, "own"))["benchmark"]) == {"own", "quiz"}
    assert set(merged(old, rows(CAPABILITY, "other"))["benchmark"]) == {"mmlu", "quiz", "other"}
    assert len(merged(old, rows(CAPABILITY, "quiz", accuracy=0.5))) == 4


def test_what_the_base_is_not_known_to_do_can_be_lost_but_not_be_the_same() -> None:
    assert outcome(0.0, -0.01, 0.01, 0.05) == "same"
    assert outcome(0.0, -0.01, 0.01, 0.05, proven=False) == "open"
    assert outcome(0.2, 0.1, 0.3, 0.05, proven=False) == "worse"


def test_answers_to_questions_are_a_capability_beside_the_nll_of_their_text() -> None:
    rng = np.random.default_rng(0)
    items = pd.DataFrame(
        {
            "category": np.repeat(["a", "b"], 30),
            "base": rng.normal(3, 1, 60),
            "tuned": rng.normal(3, 1, 60),
            "accuracy_base": rng.random(60) < 0.9,
            "accuracy_tuned": rng.random(60) < 0.4,
            "answer_base": np.nan,
            "answer_tuned": np.nan,
            "chance": 0.25,
        }
    ).astype({"accuracy_base": float, "accuracy_tuned": float})
    nll = summarise_items(items, source="x")
    found = capability_of(nll)
    assert set(nll["kind"]) == {NLL} and set(found["kind"]) == {CAPABILITY}
    np.testing.assert_allclose(found["change"], nll["accuracy_base"] - nll["accuracy_tuned"])
    assert (found["ci_low"] < found["change"]).all() and (found["change"] < found["ci_high"]).all()
    assert (found["ci_low"] > 0).all() and (found["chance_q"] < 1e-6).all()


def test_a_file_may_hold_several_benchmarks_of_a_category(tmp_path: Path) -> None:
    both = pd.concat([rows(NLL, "mmlu"), rows(CAPABILITY, "quiz")], ignore_index=True)
    both["tuned"], both["change"] = both["base"] + 0.1, 0.1
    again = read_outcomes(write_outcomes(both.assign(unit="error rate"), tmp_path / "o.csv"))
    assert tuple(again.columns) == COLUMNS
    assert again["kind"].tolist() == both["kind"].tolist()
    np.testing.assert_allclose(again["chance_q"], both["chance_q"], rtol=1e-3)


def test_a_file_without_kinds_has_that_of_its_units(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("category,base,tuned,unit\na,0.1,0.2,error rate\nb,3,3.5,nats\n")
    found = read_outcomes(file)
    assert found["kind"].tolist() == [CAPABILITY, NLL] and set(found["benchmark"]) == {"mine"}
    file.write_text("category,base,tuned,kind\na,0.1,0.2,skill\n")
    with pytest.raises(OutcomesError, match="unknown kind 'skill': write nll or behaviour or capability"):
        read_outcomes(file)
    assert BEHAVIOUR == "behaviour"
