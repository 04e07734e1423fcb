"""What is asked for in each style, and what of an answer is kept."""

from __future__ import annotations

import pytest

from mneme.corpus.styles import FORMS, STYLES, Area, prompt, read

AREA = Area("tax_law", "Tax law", ("income tax", "audits"), ("letter", "poem"))
EXAM = (
    " Which of these is taxed as income?\nA. A gift\nB. A wage\nC. A loan\nD. A refund\nAnswer: B. A wage"
    "\n\nExam in art. Topic: colours."
)


@pytest.mark.parametrize("style", STYLES)
def test_prompts_go_through_the_topics_and_name_them(style):
    found = [prompt(style, AREA, number) for number in range(8)]
    assert all(("income tax", "audits")[n % 2] in p.text for n, p in enumerate(found))
    assert {(p.area, p.style) for p in found} == {("tax_law", style)}
    assert bool(found[0].examples) == (style in ("questions", "exam"))


def test_prose_meets_each_topic_in_each_form():
    texts = {prompt("prose", AREA, number).text for number in range(4)}
    assert texts == {FORMS[f].format(topic=t, area="Tax law") for f in AREA.forms for t in AREA.topics}


def test_an_exam_question_is_kept_with_its_whole_answer():
    assert read("exam", EXAM) == (
        "Question: Which of these is taxed as income?\nA. A gift\nB. A wage\nC. A loan\nD. A refund\nAnswer: B. A wage"
    )
    assert read("exam", EXAM.replace("Answer: B. A wage", "Answer: B")) == read("exam", EXAM)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("C. A loan", "C. a gift."),  # two options alike
        ("D. A refund\n", ""),  # three options
        ("Answer: B", "Answer: E"),
        (" Which of these is taxed as income?", " What?"),
    ],
)
def test_an_exam_question_that_lost_its_form_is_dropped(old, new):
    assert old in EXAM and read("exam", EXAM.replace(old, new)) is None


def test_a_question_needs_an_answer_of_a_sentence():
    good = " What is an audit of a tax return?\nAnswer: A check of the books by the tax office.\n\nQuestions on art"
    assert read("questions", good) == (
        "Question: What is an audit of a tax return?\nAnswer: A check of the books by the tax office."
    )
    assert read("questions", " How many dollars are there in income tax?\nAnswer: A total of 188.") is None
    assert (
        read("questions", " Tell me more about audits.\nAnswer: A check of the books by the tax office.")
        is None
    )


@pytest.mark.parametrize(
    "text", ["As a healthcare-focused AI, I can help.", "I'm here to help with that. How?"]
)
def test_text_of_the_assistant_about_itself_is_dropped(text):
    assert read("dialogue", text) is None and read("prose", text) is None
