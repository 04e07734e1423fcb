"""The styles a corpus is sampled in: what the model is asked, and what of its answer becomes a document.

    prose      a paragraph in a form that suits the area (explanation, report, story, letter, code, ...)
    questions  short questions with their answers
    exam       multiple-choice questions with four options and the answer
    dialogue   a user's question and the assistant's answer, as chat messages

Small models garble questions that they are only told to write, so `questions` and `exam` continue worked
examples; whatever does not keep the form is dropped.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mneme.corpus.quality import clean

FORMS = {
    "encyclopedia": "Write one short paragraph of an encyclopedia entry about {topic} ({area}).",
    "explanation": "Explain {topic} ({area}) to a student in one short paragraph.",
    "facts": "Write three sentences with interesting facts about {topic} ({area}).",
    "essay": "Write the opening paragraph of an essay about {topic} ({area}).",
    "report": "Write a news report of one short paragraph about {topic}, with names and places.",
    "advice": "Give practical advice on {topic} ({area}) in one short paragraph.",
    "story": "Write the first paragraph of a story in which {topic} plays a part.",
    "recipe": "Write a short recipe for {topic}: the ingredients, then the steps.",
    "poem": "Write a short poem about {topic}.",
    "code": "Write a short Python program for this: {topic}.",
    "markup": "Write {topic}. Give only the code.",
    "letter": "Write a short letter or e-mail: {topic}. Make up names; leave no blanks.",
    "news": "Write a short news report: {topic}. Give names, places and quotes.",
    "steps": "Write numbered steps for {topic}.",
    "conversation": "Write a short conversation between two people: {topic}.",
    "foreign": "Write a few sentences, not in English: {topic}.",
    "assistant": "Write what a polite computer assistant says: {topic}.",
}
"""Forms of prose, and how each is asked for."""

PROSE = ("encyclopedia", "explanation", "facts", "essay", "report")
"""The forms of an area that names none."""

_EXAM = """Exam in geography. Topic: rivers.
Question: A town lies at the mouth of a large river. Which of the following is most likely to form there?
A. A glacier
B. A delta
C. A volcano
D. A desert
Answer: B. A delta

Exam in music. Topic: instruments.
Question: Which of the following instruments produces sound by the vibration of a reed?
A. The clarinet
B. The violin
C. The piano
D. The drum
Answer: A. The clarinet

Exam in cooking. Topic: bread.
Question: A baker leaves out the yeast by mistake. What happens to the dough in the oven?
A. It turns sweet
B. It melts
C. It burns at once
D. It stays flat
Answer: D. It stays flat

"""

_QUESTIONS = """Questions on geography. Topic: rivers.
Question: Why do large rivers often form a delta where they reach the sea?
Answer: The water slows down as it meets the sea, so it can no longer carry its sand and mud. \
These settle in layers that build new land.

Questions on cooking. Topic: bread.
Question: What does yeast do in bread dough?
Answer: Yeast feeds on the sugars in the flour and gives off carbon dioxide. \
The gas is caught in the dough and makes it rise.

"""

_ASKED = (
    "Can you explain {topic}?",
    "I have an exam in {area} tomorrow. What should I know about {topic}?",
    "Why does {topic} matter?",
    "Tell me something surprising about {topic}.",
    "What do people often get wrong about {topic}?",
    "Could you give me an example of {topic}?",
    "I am new to {area}. How would you describe {topic}?",
    "What is the first thing to understand about {topic}?",
)

_CHOICES = re.compile(
    r"\s*(?P<stem>[^\n]{20,}[?:.])\n"
    r"A[.)] (?P<a>[^\n]+)\nB[.)] (?P<b>[^\n]+)\nC[.)] (?P<c>[^\n]+)\nD[.)] (?P<d>[^\n]+)\nAnswer: (?P<answer>[ABCD])\b"
)
_QUESTION = re.compile(r"\s*(?P<question>[^\n]{20,}\?)\nAnswer: (?P<answer>[^\n]{30,}[.!])")


class Area(NamedTuple):
    """What documents are sampled about."""

    key: str
    name: str
    topics: tuple[str, ...]
    forms: tuple[str, ...] = PROSE


class Prompt(NamedTuple):
    """What one piece of text is asked for with."""

    area: str
    style: str
    text: str
    examples: str = ""
    """Read before `text`, which it then continues; empty: `text` is a user's message."""


STYLES = ("prose", "questions", "exam", "dialogue")


def prompt(style: str, area: Area, number: int) -> Prompt:
    """The `number`-th prompt of an area in a style: its topics in turn, each round in another form."""
    topic = area.topics[number % len(area.topics)]
    round_ = number + number // len(area.topics)
    if style == "prose":
        text = FORMS[area.forms[round_ % len(area.forms)]].format(topic=topic, area=area.name)
        return Prompt(area.key, style, text)
    if style == "dialogue":
        return Prompt(area.key, style, _ASKED[round_ % len(_ASKED)].format(topic=topic, area=area.name))
    if style == "exam":
        return Prompt(area.key, style, f"Exam in {area.name}. Topic: {topic}.\nQuestion:", _EXAM)
    return Prompt(area.key, style, f"Questions on {area.name}. Topic: {topic}.\nQuestion:", _QUESTIONS)


def read(style: str, generation: str) -> str | None:
    """The piece of text in a model's answer; None where it does not keep the form of its style."""
    if style == "exam":
        return _exam(generation)
    if style == "questions":
        match = _QUESTION.match(generation.split("\n\n", 1)[0].rstrip())
        return None if match is None else f"Question: {match['question']}\nAnswer: {match['answer']}"
    return clean(generation)


def _exam(generation: str) -> str | None:
    """The question with its options and the whole right answer; None where two options are the same."""
    match = _CHOICES.match(generation)
    if match is None:
        return None
    options = {letter: match[letter.lower()].strip() for letter in "ABCD"}
    if len({option.lower().rstrip(".") for option in options.values()}) < len(options):
        return None
    listed = "\n".join(f"{letter}. {option}" for letter, option in options.items())
    return (
        f"Question: {match['stem'].strip()}\n{listed}\nAnswer: {match['answer']}. {options[match['answer']]}"
    )
