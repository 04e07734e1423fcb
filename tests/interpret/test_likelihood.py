from __future__ import annotations

import pytest
from tiny_models import save, tiny_llama, tiny_tokenizer

from mneme.interpret.clients.local import LocalChat
from mneme.interpret.scorers.judge_items import Item
from mneme.interpret.scorers.likelihood import doubts, judge_by_likelihood


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> LocalChat:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    folder = tmp_path_factory.mktemp("models") / "small-one"
    save(tiny_llama(), folder, tokenizer)
    return LocalChat(str(folder))


def items(held_out: bool) -> list[Item]:
    texts = ["a b c", "a", "d e f g h", "b", "c d", "e f g"]
    return [Item("detection", "random", held_out, i < 3, i, i, text) for i, text in enumerate(texts)]


def test_what_a_text_gets_does_not_depend_on_the_texts_beside_it(chat) -> None:
    together = doubts(chat, "virus", items(True))
    alone = [doubts(chat, "virus", [item])[0] for item in items(True)]
    assert together == pytest.approx(alone, abs=0.05)  # bfloat16 where the hardware multiplies it


def test_own_and_other_labels_are_judged_on_the_same_windows(chat) -> None:
    judge_items = {j: items(False) + items(True) for j in (0, 1)}
    scores, examples = judge_by_likelihood({0: "virus", 1: "court"}, judge_items, chat)
    assert set(scores.scorer) == {"local:small-one"}
    main = scores[(scores.test == "detection") & (scores.negatives == "random")]
    assert main.balanced_accuracy.between(0, 1).all() and main.shuffled.between(0, 1).all()
    assert (main.n_positive == 3).all() and (main.n_negative == 3).all()
    assert len(examples) == 12 and examples.fit.notna().all()
