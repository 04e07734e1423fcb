from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mneme._util.errors import LabelError
from mneme.interpret.clients.base import Reply
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.neighbours import nearest_by_firing
from mneme.interpret.scorers.fuzz import set_fuzz
from mneme.interpret.scorers.judge_items import PER_KIND, Item, judge_items_of, score_judge_items
from mneme.interpret.scorers.llm_scorer import judge_labels, read_verdicts
from mneme.interpret.scorers.scoring_set import make_scoring_set

from .fakes import Reader


@pytest.fixture(scope="module")
def judge_items(world) -> dict[int, list[Item]]:
    cache, codes, config, contexts, words, _ = world
    encoder = SentenceEncoder(dtype="float32")
    near = nearest_by_firing(codes, contexts.n_active, n=3)
    scoring_set = make_scoring_set(
        contexts, near, codes, (cache.document, cache.position), words, encoder, config
    )
    fuzz = set_fuzz(contexts, words, encoder, config.seed)
    return {j: judge_items_of(scoring_set, fuzz, words, j) for j in (0, 1)}


def test_a_judge_that_reads_well_scores_a_true_label_full_marks(judge_items, tmp_path: Path) -> None:
    reader = Reader()
    found = judge_labels({0: "virus", 1: "court"}, judge_items, reader, tmp_path)
    rows = found.scores.set_index(["latent", "test", "negatives"])
    assert rows.balanced_accuracy[0, "detection", "random"] == 1
    assert rows.balanced_accuracy[0, "detection", "hard"] == 1
    assert rows.balanced_accuracy[0, "fuzzing", "random"] == 1
    assert rows.shuffled[0, "detection", "random"] <= 0.5 and found.failures.empty
    assert set(found.scores.scorer) == {"llm:reader"}
    assert found.examples.judged[found.examples.latent == 0].eq(found.examples.positive).any()
    judge_labels({0: "virus", 1: "court"}, judge_items, again := Reader(), tmp_path)
    assert len(reader.asked) == 8 and not again.asked  # kept: asked and paid for once


def test_a_request_without_a_usable_reply_is_listed_and_counts_for_nothing(
    judge_items, tmp_path: Path
) -> None:
    found = judge_labels({0: "virus", 1: "court"}, judge_items, Reader(broken="virus"), tmp_path)
    assert found.failures.latent.tolist().count(0) == 2  # its own label, both tests
    assert found.failures.reason.str.contains("no JSON array").all()
    assert found.scores.balanced_accuracy[found.scores.latent == 0].isna().all()
    assert not (found.examples.latent == 0).any()


def test_too_few_verdicts_are_a_failure_not_zeros(judge_items, tmp_path: Path) -> None:
    class Short(Reader):
        def reply(self, system: str, user: str) -> Reply:
            return Reply("[1, 0]", 10, 3)

    found = judge_labels({0: "virus", 1: "court"}, judge_items, Short(), tmp_path)
    assert found.failures.reason.str.contains("verdicts, not").all() and len(found.failures) == 8
    assert found.scores.balanced_accuracy.isna().all()


@pytest.mark.parametrize("reply", [None, "", "yes", "[]", "[1, 2]", '["1"]', "[true]", "{}", "[1, null]"])
def test_replies_that_are_no_verdicts_are_refused(reply) -> None:
    with pytest.raises(LabelError):
        read_verdicts(reply)


def test_verdicts_are_read_out_of_talk() -> None:
    assert read_verdicts("Sure: [1, 0, 1].") == [1, 0, 1]


def test_sheets_hold_held_out_windows_of_every_kind(judge_items) -> None:
    for items in judge_items.values():
        assert all(item.held_out for item in items)
        kinds = [(item.test, item.negatives, item.positive) for item in items]
        assert 2 <= kinds.count(("detection", "random", True)) <= PER_KIND
        assert kinds.count(("fuzzing", "random", True)) == kinds.count(("fuzzing", "random", False)) > 1
    virus = [item for item in judge_items[0] if item.test == "detection"]
    assert all(("virus" in item.text) == item.positive for item in virus)
    marked = [item for item in judge_items[0] if item.test == "fuzzing"]
    assert all(("⟦ virus" in item.text) == item.positive and "⟦" in item.text for item in marked)


def test_a_threshold_is_chosen_on_training_items_only() -> None:
    def items(held_out: bool) -> list[Item]:
        return [Item("detection", "random", held_out, i < 3, i, i, "") for i in range(6)]

    judge_items = {0: items(False) + items(True)}
    fits = {0: [5.0, 6, 7, 1, 2, 3, 3.9, 6, 7, 1, 2, 4.5]}
    scores, _ = score_judge_items(judge_items, fits, {}, threshold=None)
    # Half-way between 3 and 5; held out, one of each side lies on the wrong side of 4.
    assert scores.balanced_accuracy[0] == pytest.approx(2 / 3) and np.isnan(scores.shuffled[0])
