"""Measured outcomes: both numbers against a loop over tokens, held-out items, files read with care."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import changed_in_layer, tiny_llama, tiny_tokenizer

from mneme._util.errors import OutcomesError
from mneme.effects import outcomes
from mneme.effects.benchmark import Item, item_text, load_mmlu, read_questions
from mneme.effects.outcomes import COLUMNS, Measured, measure, read_outcomes, summarise, write_outcomes
from mneme.organisms.texts import read_texts

ITEMS = [
    Item("law", "Who signs?", ("judge", "jury"), 0),
    Item("law", "A much longer question about deeds?", ("yes", "no", "maybe"), 2),
    Item("art", "Red and blue?", ("purple", "green"), 0),
]
GOOD = "category,base,tuned\nlaw,1.0,1.5\nart,2.0,2.0\n"


def by_hand(item: Item) -> Measured:
    """NLL a token and the likeliest letter of the base model, one token at a time."""
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    text = [tokenizer.bos_token_id, *tokenizer(item_text(item), add_special_tokens=False)["input_ids"]]
    nll = [
        -model(torch.tensor([text[:t]])).logits[0, -1].log_softmax(-1)[text[t]].item()
        for t in range(1, len(text))
    ]
    asked = text + tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"]
    last = model(torch.tensor([asked])).logits[0, -1]
    letters = [tokenizer.convert_tokens_to_ids(letter) for letter in "ABCD"[: len(item.choices)]]
    answer = -last.log_softmax(-1)[letters[item.answer]].item()
    return Measured(float(np.mean(nll)), int(last[letters].argmax()) == item.answer, answer)


def test_nll_and_accuracy_match_a_loop_over_tokens() -> None:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    frame = measure(model, model, tokenizer, ITEMS, batch_tokens=100).set_index("category")
    for category in ("law", "art"):
        expected = [by_hand(item) for item in ITEMS if item.category == category]
        assert frame.loc[category, "base"] == pytest.approx(np.mean([m.nll for m in expected]), rel=1e-4)
        assert frame.loc[category, "accuracy_base"] == np.mean([m.correct for m in expected])
        assert frame.loc[category, "answer_base"] == pytest.approx(
            np.mean([m.answer for m in expected]), rel=1e-4
        )
        assert frame.loc[category, "change"] == 0


def test_a_changed_model_is_measured_as_tuned_and_columns_are_the_tables() -> None:
    base = tiny_llama()
    frame = measure(base, changed_in_layer(base, 1), tiny_tokenizer(), ITEMS)
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["n"]) == [1, 2]
    assert np.allclose(frame["change"], frame["tuned"] - frame["base"])
    assert (frame["change"] != 0).all()


def test_the_interval_is_a_paired_bootstrap_over_items() -> None:
    # Items differ widely, the change hardly: only pairing gives a narrow interval.
    rng = np.random.default_rng(0)
    base, change = rng.normal(3, 2, 400), rng.normal(0.1, 0.05, 400)
    items = [Item("law", str(i), ("a", "b"), 0) for i in range(400)]
    row = summarise(
        items,
        [Measured(b, True) for b in base],
        [Measured(b + c, False) for b, c in zip(base, change, strict=True)],
        source="x",
    ).iloc[0]
    half = 1.96 * change.std() / np.sqrt(400)
    assert row["ci_low"] == pytest.approx(change.mean() - half, abs=0.15 * half)
    assert row["ci_high"] == pytest.approx(change.mean() + half, abs=0.15 * half)
    assert (row["accuracy_base"], row["accuracy_tuned"]) == (1.0, 0.0)


def test_an_interrupted_measurement_goes_on_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_llama()
    tuned, tokenizer = changed_in_layer(base, 1), tiny_tokenizer()
    whole = measure(base, tuned, tokenizer, ITEMS, batch_tokens=1)
    real, rows_measured = outcomes._measure_batch, []

    def counting(*args):  # type: ignore[no-untyped-def]
        if len(rows_measured) == 4:
            raise KeyboardInterrupt
        rows_measured.extend(args[3])
        return real(*args)

    monkeypatch.setattr(outcomes, "_measure_batch", counting)
    partial = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(base, tuned, tokenizer, ITEMS, batch_tokens=1, partial=partial)
    partial.write_text(partial.read_text() + '{"key": "hal')  # as kill -9 leaves it
    rows_measured.clear()
    again = measure(base, tuned, tokenizer, ITEMS, batch_tokens=1, partial=partial)
    assert len(rows_measured) == 2
    pd.testing.assert_frame_equal(again, whole)


@pytest.mark.parametrize(
    ("was", "became"), [('"items"', '"itens"'), ("[", ""), ("{", "\ufffd"), ("true", "null")]
)
def test_a_damaged_batch_is_measured_again(tmp_path: Path, was: str, became: str) -> None:
    base, tuned, tokenizer = tiny_llama(), changed_in_layer(tiny_llama(), 1), tiny_tokenizer()
    partial = tmp_path / "p.jsonl"
    whole = measure(base, tuned, tokenizer, ITEMS, batch_tokens=1, partial=partial)
    first, rest = partial.read_text().split("\n", 1)
    changed = first.replace(was, became) if was in first else first.replace("false", "true")
    assert changed != first
    partial.write_text(changed + "\n" + rest)
    again = measure(base, tuned, tokenizer, ITEMS, batch_tokens=1, partial=partial)
    pd.testing.assert_frame_equal(again, whole)


def test_measured_items_of_another_model_are_not_taken_over(tmp_path: Path) -> None:
    base, tokenizer = tiny_llama(), tiny_tokenizer()
    measure(base, base, tokenizer, ITEMS, partial=tmp_path / "p")
    frame = measure(base, changed_in_layer(base, 1), tokenizer, ITEMS, partial=tmp_path / "p")
    assert (frame["change"] != 0).all()


def test_no_items_is_refused() -> None:
    with pytest.raises(OutcomesError, match="no items"):
        measure(tiny_llama(), tiny_llama(), tiny_tokenizer(), [])


@pytest.fixture
def mmlu(tmp_path: Path) -> Path:
    rows = "\n".join(f"Question {i}?,w{i},x,y,z,{i % 4}" for i in range(9))
    (tmp_path / "law_test.csv").write_text(f"question,choice0,choice1,choice2,choice3,answer\n{rows}\n")
    (tmp_path / "art_test.csv").write_text(
        '"What, then?",w,x,y,z,C\n'
    )  # the original layout: no header, letters
    return tmp_path


def test_what_is_measured_is_never_what_was_trained_on(mmlu: Path) -> None:
    trained, _ = read_texts(f"{mmlu / 'law_test.csv'}::even")
    held_out = [item_text(item) for item in load_mmlu(mmlu, every=2, first=1) if item.category == "law"]
    assert (len(trained), len(held_out)) == (5, 4)
    assert not any(text in seen for text in held_out for seen in trained)


def test_mmlu_files_are_read_in_both_layouts(mmlu: Path) -> None:
    items = load_mmlu(mmlu, per_category=3)
    assert [item.category for item in items] == ["art", "law", "law", "law"]
    assert items[0] == Item("art", "What, then?", ("w", "x", "y", "z"), 2)
    assert [item.question for item in items[1:]] == ["Question 0?", "Question 3?", "Question 6?"]


def test_wmdp_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "bio.json").write_text('[{"question": "Q?", "choices": ["a", "b"], "answer": 1}]')
    assert read_questions(tmp_path / "bio.json") == [Item("bio", "Q?", ("a", "b"), 1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.csv", "question,choice0,answer\nQ?,a,5\n"),
        ("q.csv", "Q?,a,b,c,d,Z\n"),
        ("q.json", '[{"question": "Q?"}]'),
        ("q.json", "{"),
    ],
)
def test_questions_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OutcomesError, match="can't be read as multiple-choice"):
        read_questions(tmp_path / name)


def test_a_folder_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutcomesError, match="no SUBJECT_test"):
        load_mmlu(tmp_path)


def test_a_csv_of_the_needed_columns_is_completed(tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text(GOOD)
    frame = read_outcomes(tmp_path / "o.csv", known=["law", "art"])
    assert tuple(frame.columns) == COLUMNS
    assert list(frame["change"]) == [0.5, 0.0]
    assert frame["n"].isna().all()
    assert set(frame["source"]) == {"o.csv"}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    base = tiny_llama()
    frame = measure(base, changed_in_layer(base, 1), tiny_tokenizer(), ITEMS)
    again = read_outcomes(write_outcomes(frame, tmp_path / "o.csv"))
    pd.testing.assert_frame_equal(again, frame, atol=2e-5, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("category,base\nlaw,1\n", "lacks tuned"),
        ("category,base,tuned\n", "no rows"),
        ("", "no rows"),
        (GOOD + "law,1,2\n", "more than one row for law"),
        ("category,base,tuned\nlaw,1,two\n", "tuned of law is two"),
        ("category,base,tuned\nlaw,1,\n", "tuned of law is empty"),
        ("category,base,tuned\nlaw,1,inf\n", "tuned of law is inf"),
        ("category,base,tuned,accuracy_base\nlaw,1,2,61.5\n", "not percent"),
        ("category,base,tuned,change\nlaw,1,2,-1\n", "not tuned - base"),
        ("category,base,tuned\nlow,1,2\n", "did you mean 'law'"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused_with_the_reason(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "o.csv").write_text(content)
    with pytest.raises(OutcomesError, match=message):
        read_outcomes(tmp_path / "o.csv", known=["law", "art"])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutcomesError, match="no file at"):
        read_outcomes(tmp_path / "none.csv")


def test_a_kill_while_a_half_line_is_dropped_loses_no_measured_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial, model = tmp_path / "p.jsonl", tiny_llama()
    outcomes.Kept(partial, ITEMS, model).add({0: Measured(1.5, True, 0.5)})
    partial.write_text(partial.read_text() + '{"key": "hal')  # as kill -9 leaves it

    def killed(path: Path, text: str, **_: object) -> int:
        path.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", killed)
        outcomes.Kept(partial, ITEMS, model)
    assert outcomes.Kept(partial, ITEMS, model).done == {0: Measured(1.5, True, 0.5)}
