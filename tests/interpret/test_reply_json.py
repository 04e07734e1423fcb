"""The last object of a reply that passes the checks is found, in time linear in the reply, and nothing else ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mneme._util.errors import LabelError
from mneme.interpret.clients.base import Reply, ReplyError
from mneme.interpret.clients.completion import InsideError, read_completion
from mneme.interpret.clients.reply_json import last_passing
from mneme.interpret.explainers.prompt import Explanation, read_explanation
from mneme.interpret.scorers.llm_scorer import read_verdicts

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=8), VALUES, max_size=4)
PROSE = st.text(st.characters(exclude_characters='{}[]<>"\\'), max_size=20)
PIECES = st.lists(
    st.sampled_from(
        ["{", "}", "[", "]", '"', "\\", "\n", ":", ",", "1", "a", "</think>", "<think>", '{"a": 1}', "\ud800", "9" * 4]
    ),
    max_size=30,
).map("".join)  # fmt: skip


def same(found: Any) -> Any:
    return found


@given(st.lists(st.tuples(PROSE, OBJECTS), min_size=1, max_size=3), PROSE, st.booleans(), st.booleans())
def test_the_last_object_is_found_between_any_words(
    parts: list[tuple[str, dict[str, Any]]], after: str, indented: bool, ascii_only: bool
) -> None:
    written = [json.dumps(o, indent=2 if indented else None, ensure_ascii=ascii_only) for _, o in parts]
    text = "".join(words + shown for (words, _), shown in zip(parts, written, strict=True)) + after
    assert repr(last_passing(text, same)) == repr(json.loads(written[-1]))
    thought = f"<think>{text}</think>"
    with pytest.raises(LabelError, match=r"not JSON|empty reply"):
        last_passing(thought, same)
    assert last_passing(f'{thought} {{"a": "b"}}', same) == {"a": "b"}


@given(OBJECTS)
def test_of_several_the_last_that_passes_is_taken(found: dict[str, Any]) -> None:
    def check(value: dict[str, Any]) -> int:
        if value.get("is") != "it":
            raise LabelError("another")
        return int(value["n"])

    good = '{"is": "it", "n": 1} {"is": "it", "n": 2}'
    if found.get("is") != "it":
        assert last_passing(f"{good} {json.dumps(found)}", check) == 2
        with pytest.raises(LabelError, match="another"):
            last_passing(json.dumps(found), check)


@given(PIECES)
def test_whatever_a_reply_holds_its_object_stands_in_it_or_it_is_refused(text: str) -> None:
    for kind, opening, closing in (("object", "{", "}"), ("array", "[", "]")):
        try:
            found = last_passing(text, same, kind)  # type: ignore[arg-type]
        except LabelError:
            continue
        spans = [
            text[i:j]
            for i in range(len(text)) if text[i] == opening
            for j in range(i + 1, len(text) + 1) if text[j - 1] == closing
        ]  # fmt: skip
        assert any(_same_json(span, found) for span in spans)


def _same_json(span: str, found: Any) -> bool:
    try:
        return bool(json.loads(span) == found)
    except ValueError:
        return False


@given(PIECES | VALUES.map(json.dumps) | OBJECTS.map(json.dumps))
def test_readers_return_or_refuse(text: str) -> None:
    for read in (read_explanation, read_verdicts):
        try:
            read(text)  # type: ignore[operator]
        except LabelError:
            continue


GOOD = {"label": "rivers", "sentence": "Rivers.", "role": "detects", "confidence": 0.5}


@given(VALUES, VALUES, st.sampled_from(["label", "sentence", "role", "confidence", "more"]))
def test_any_value_of_any_field_is_a_label_or_refused(value: Any, other: Any, name: str) -> None:
    try:
        found = read_explanation(json.dumps({**GOOD, name: value, "last": other}))
    except LabelError:
        return
    assert isinstance(found, Explanation) and found.label.isprintable()
    assert found.confidence is None or 0 <= found.confidence <= 1


@given(st.binary(max_size=40) | VALUES.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_a_reply_or_an_error(body: bytes) -> None:
    with pytest.raises((ReplyError, InsideError)):
        read_completion(body, "asked", 300)


@given(VALUES, VALUES, VALUES, VALUES)
def test_any_parts_of_a_completion_are_read_or_refused(
    content: Any, usage: Any, count: Any, finish: Any
) -> None:
    for told in (usage, {"prompt_tokens": count, "completion_tokens": count}):
        choice = {"message": {"content": content}, "finish_reason": finish}
        try:
            found = read_completion(json.dumps({"choices": [choice], "usage": told}).encode(), "asked", 300)
        except ReplyError:
            continue
        assert isinstance(found, Reply) and found.prompt_tokens >= 0 and found.reply_tokens >= 0
        found.text.encode()  # can be kept


def test_an_object_that_speaks_of_thoughts_is_one() -> None:
    assert last_passing('{"label": "ends of </think> marks"}', same) == {"label": "ends of </think> marks"}


@pytest.mark.parametrize(
    "piece", ["{", '{"', '{"a":', "[[", '{"a": "', "\\", '"', "{x}", '{"a": 1}', "</think>{"]
)
def test_time_is_linear_in_the_reply(piece: str) -> None:
    def seconds(n: int) -> float:
        text = piece * (n // len(piece))
        began = time.process_time()
        for _ in range(3):
            try:
                last_passing(text, _never)
            except LabelError:
                continue
        return time.process_time() - began

    seconds(10_000)
    assert seconds(800_000) < 40 * max(seconds(80_000), 1e-3)  # quadratic: 100 times


def _never(found: Any) -> Any:
    raise LabelError("no")
