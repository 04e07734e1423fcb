"""Quizzes of WordNet's nouns: scores against a reference that reads one row at a time, and what becomes of a run."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme._util.errors import OutcomesError
from mneme.effects.categories import load_taxonomy
from mneme.effects.quiz import QUIZZES, QuizItem, answer_scores, load_quiz, measure_quiz
from mneme.effects.wordnet_items import make_quizzes
from mneme.models.bundled import data_folder

ITEMS = [
    QuizItem(
        "cells" if i % 2 else "money",
        f"what of cells number {i} and more" if i % 3 else "money?",
        "what is it",
        ("cells", "money and wars", "stars", "songs or ships"),
    )
    for i in range(12)
]


def reference(model: torch.nn.Module, text: str, answer: str) -> float:
    """log p(answer | text), a row alone, from all logits."""
    tokenizer = tiny_tokenizer()
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    before = bos + tokenizer(text, add_special_tokens=False)["input_ids"]
    after = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        said = model(input_ids=torch.tensor([before + after])).logits[0].double().log_softmax(-1)
    return sum(float(said[len(before) - 1 + i, token]) for i, token in enumerate(after))


def test_scores_are_those_of_rows_read_alone() -> None:
    model = tiny_llama()
    found = answer_scores(model, tiny_tokenizer(), ITEMS)
    for item, scores in zip(ITEMS, found, strict=True):
        wanted = [reference(model, item.question, c) - reference(model, item.plain, c) for c in item.choices]
        np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_only_logits_of_the_answers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = tiny_llama(), []
    monkeypatch.setattr(
        model.lm_head, "forward", lambda x, f=model.lm_head.forward: made.append(x.shape[:2]) or f(x)
    )
    answer_scores(model, tiny_tokenizer(), [ITEMS[1]])
    longest = max(len(tiny_tokenizer()(f" {c}")["input_ids"]) for c in ITEMS[1].choices)
    assert sorted(made) == [(1, 1), (1, 1), (4, longest), (4, longest)]


def test_a_model_whose_state_cannot_be_dealt_out_reads_every_row_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_llama()
    wanted = answer_scores(model, tiny_tokenizer(), ITEMS)
    monkeypatch.setattr(type(model), "_is_stateful", True)
    np.testing.assert_allclose(answer_scores(model, tiny_tokenizer(), ITEMS), wanted, atol=1e-4)


def test_outcomes_are_error_rates_with_margins_and_paired_intervals(tmp_path: Path) -> None:
    base = tiny_llama()
    tuned = changed_in_layer(base, 1)
    frame = measure_quiz(base, tuned, tiny_tokenizer(), ITEMS, name="words", partial=tmp_path / "kept")
    scores = answer_scores(tuned, tiny_tokenizer(), ITEMS)
    assert frame["category"].tolist() == ["cells", "money"] and set(frame["kind"]) == {"capability"}
    for row in frame.itertuples():
        own = [s for s, item in zip(scores, ITEMS, strict=True) if item.category == row.category]
        right = np.mean([s[0] > max(s[1:]) for s in own])
        assert row.accuracy_tuned == pytest.approx(right) and row.tuned == pytest.approx(1 - right)
        assert row.margin_tuned == pytest.approx(np.mean([s[0] - np.mean(s[1:]) for s in own]), abs=1e-5)
        assert row.ci_low <= row.change <= row.ci_high
        assert row.margin_low <= row.margin_tuned - row.margin_base <= row.margin_high
        assert row.chance == 0.25 and 0 <= row.chance_q <= 1
    text = (tmp_path / "kept").read_text()
    again = measure_quiz(base, tuned, tiny_tokenizer(), ITEMS, name="words", partial=tmp_path / "kept")
    assert again.equals(frame) and (tmp_path / "kept").read_text() == text  # nothing was read again


def test_bundled_quizzes_are_of_the_bundled_taxonomy_and_give_no_answer_away() -> None:
    known = load_taxonomy("default").keys
    for name in QUIZZES:
        rows = [json.loads(x) for x in (data_folder() / "words" / f"{name}.jsonl").read_text().splitlines()]
        items = load_quiz(name, known)
        assert len(items) == len(rows) > 300
        assert all(len(set(item.choices)) == 4 for item in items)
        assert not any(r["choices"][0].lower() in r["asked"].lower() for r in rows)
        counts = {c: sum(i.category == c for i in items) for c in {i.category for i in items}}
        assert min(counts.values()) >= 16 and max(counts.values()) <= 40
    assert "Princeton University" in (data_folder() / "words" / "LICENSE-WordNet").read_text()


def test_a_taxonomy_of_ones_own_is_refused_with_what_would_do() -> None:
    with pytest.raises(OutcomesError, match="of which this run has none"):
        load_quiz("words", ["cells", "money"])


def test_quizzes_are_made_the_same_again(tmp_path: Path) -> None:
    nouns = [
        {
            "lexname": "noun.food",
            "lemmas": [f"dish{i}", f"plate{i}"],
            "gloss": f"(cooking) something made of {i} kinds of flour",
            "topic": [],
        }
        for i in range(40)
    ]
    nouns.append(dict(nouns[0], lemmas=["cake"], gloss="a cake is a cake, and that is all there is to it"))
    with gzip.open(tmp_path / "glosses.jsonl.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, nouns)))
    (tmp_path / "areas.toml").write_text('cooking = ["noun.food"]\n')
    for out in ("a", "b"):
        make_quizzes(tmp_path / "glosses.jsonl.gz", tmp_path / "areas.toml", tmp_path / out, most=20)
    rows = [json.loads(x) for x in (tmp_path / "a" / "words.jsonl").read_text().splitlines()]
    assert (
        len(rows) == 20
        and (tmp_path / "a" / "words.jsonl").read_bytes() == (tmp_path / "b" / "words.jsonl").read_bytes()
    )
    for row in rows:
        number = row["asked"].split()[3]
        assert row["choices"][0] == f"dish{number}" and not row["asked"].startswith("(")
        assert "cake" not in row["choices"]  # its gloss names it
