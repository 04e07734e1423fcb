"""Conversations and named fields: whichever layout a data set has, the text is found, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_tokenizer

from mneme._util.errors import ConfigError, CorpusError
from mneme.config import make_config
from mneme.corpus import load_corpus
from mneme.corpus.fields import turns_of

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
PLAIN = "User: Why?\n\nAssistant: So."
LAYOUTS: list[dict[str, Any]] = [
    {"messages": TURNS},
    {"text": None, "messages": [*TURNS, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
    {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "image"}]},
            TURNS[1],
        ]
    },
    {"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
    {"prompt": "Why?", "completion": "So."},
    {"prompt": [TURNS[0]], "completion": [TURNS[1]]},
    {"question": "Why?", "answer": "So."},
    {"instruction": "Why?", "input": "", "output": "So."},
    {"instruction": "Why?", "context": None, "response": "So.", "category": "x"},
]


@pytest.mark.parametrize("row", LAYOUTS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_the_usual_layouts_of_conversations_are_read(
    tmp_path: Path, row: dict[str, Any], suffix: str
) -> None:
    file = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        messages = row.get("messages", [])
        if any(type(m["content"]) is not str for m in messages):
            row = {**row, "messages": TURNS}  # a column has one type
        pd.DataFrame([row]).to_parquet(file)
    else:
        file.write_text(json.dumps([row] if suffix == ".json" else row))
    assert [d.text for d in load_corpus(str(file)).documents] == [PLAIN]
    assert [d.text for d in load_corpus([row]).documents] == [PLAIN]


def test_alpacas_input_is_asked_with_the_instruction() -> None:
    (document,) = load_corpus([{"instruction": "Add.", "input": "1, 2", "output": "3"}]).documents
    assert document.text == "User: Add.\n\n1, 2\n\nAssistant: 3"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("a.b.c", "deep"),
        ("a.b", "deep"),
        ("x.y", "dotted"),
        ("parts", "one\ntwo"),
        ("chat.turns", PLAIN),
        ("chat", PLAIN),
    ],
)
def test_a_named_field_is_read_inside_of_objects(tmp_path: Path, field: str, text: str) -> None:
    row = {
        "text": "not this",
        "a": {"b": {"c": "deep", "text": "deep"}},
        "x.y": "dotted",
        "parts": ["one", {"text": "two"}],
        "chat": {"turns": TURNS, "messages": TURNS},
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    pd.DataFrame([{**row, "parts": ["one", "two"]}]).to_parquet(tmp_path / "a.parquet")
    for file in ("a.jsonl", "a.parquet"):
        assert load_corpus(str(tmp_path / file), field=field).documents[0].text == text


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        ({"words": "x"}, None, "has no text: it has words; name the field with --text-field"),
        ({"text": 3}, None, "has no text: it has text"),
        ({"a": {"bee": "x"}}, "a.be", "has no field 'a.be': did you mean 'bee'"),
        ({"a": "x"}, "a.b", "what is before .b is no object"),
        ({"a": 3}, "a", "a of .* holds no text"),
        ({"messages": ["x", 3]}, "messages", "messages of .* holds no text"),
    ],
)
def test_a_row_without_text_names_its_fields(row: dict[str, Any], field: str | None, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus([row], field=field)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["messages", "role", "content", "text", "from", "value", "prompt", "output"]),
                inner,
            )
        ),
    )
)
def test_no_json_ends_in_anything_but_text_or_one_line(value: Any) -> None:
    rows = [value] if isinstance(value, str | dict) else [{"messages": value}]
    for field in (None, "messages"):
        try:
            load_corpus(rows, field=field)
        except CorpusError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
    turns_of({"messages": value})


def tokenizer(template: str | None) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE


def test_the_models_own_template_lays_a_conversation_out() -> None:
    asked: list[str] = []

    def of(name: str, template: str | None) -> Any:
        return lambda: asked.append(name) or tokenizer(template)

    corpus = load_corpus([{"messages": TURNS}, "plain"], tokenizers=(of("base", None), of("tuned", TEMPLATE)))
    assert [d.text for d in corpus.documents] == ["[user]Why?[assistant]So.", "plain"]
    assert asked == ["base", "tuned"]
    assert corpus.notes == ("1 conversations laid out by the model's chat template",)
    load_corpus(["plain"], tokenizers=(of("never", TEMPLATE),))
    assert "never" not in asked


def test_a_template_without_a_system_gets_it_from_the_user_and_one_that_refuses_all_is_told() -> None:
    system = [{"role": "system", "content": "Be brief."}, *TURNS]
    (document,) = load_corpus([{"messages": system}], tokenizers=(lambda: tokenizer(NO_SYSTEM),)).documents
    assert document.text == "[user]Be brief.\n\nWhy?[assistant]So."
    refuses = load_corpus(
        [{"messages": TURNS}], tokenizers=(lambda: tokenizer("{{ raise_exception('no') }}"),)
    )
    assert refuses.documents[0].text == PLAIN and "refuses" in refuses.notes[0]


class TestHeldByPython:
    """What a program may give as `corpus`."""

    DATASET = type("Dataset", (list,), {"column_names": ["text"], "num_rows": 1})

    @pytest.mark.parametrize(
        "source",
        [
            ["one", "two"],
            ("one", "two"),
            iter(["one", {"text": "two"}]),
            [{"content": "one"}, {"text": "two"}],
            pd.DataFrame({"text": ["one", "two"], "topic": [None, float("nan")]}),
            pd.DataFrame({"text": [np.array(["one"]), np.array(["two"])]}),
            pd.Series(["one", "two"]),
            DATASET([{"text": "one"}, {"text": "two"}]),
        ],
        ids=lambda source: type(source).__name__,
    )
    def test_rows(self, source: Any) -> None:
        assert load_corpus(source).documents == [("one", None), ("two", None)]

    def test_a_path(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("one")
        assert load_corpus(tmp_path / "a.txt").documents[0].text == "one"

    @pytest.mark.parametrize(
        "source",
        [3, None, b"bytes", {"train": ["x"], "test": ["y"]}, [["x"] * 100_000], SimpleNamespace(a=1)],
    )
    def test_anything_else_is_refused_in_one_short_line(self, source: Any) -> None:
        with pytest.raises(CorpusError) as caught:
            load_corpus(source)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_settings_name_the_field_in_every_way() -> None:
    both = {"base": "b", "tuned": "t"}
    for values, overrides in (
        ({"text_field": "messages", "corpus": "x"}, []),
        ({"corpus": {"source": "x", "field": "messages"}}, []),
        ({"corpus": "x"}, ["corpus.field=messages"]),
    ):
        made = make_config({**both, **values}, overrides)
        assert (made.corpus, made.text_field) == ("x", "messages")
    with pytest.raises(ConfigError, match=r"corpus\.feld"):
        make_config({**both, "corpus": {"feld": "x"}})


def test_paths_that_exist_are_absolute_in_what_a_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("base", "tuned"):
        Path(name).mkdir()
    Path("a.txt").write_text("x")
    made = make_config({"base": "base", "tuned": "./tuned", "corpus": "a.txt", "load_crosscoder": "org/hub"})
    assert (made.base, made.corpus, made.load_crosscoder) == (
        f"{tmp_path}/base",
        f"{tmp_path}/a.txt",
        "org/hub",
    )
    assert make_config({"base": "bundled:base", "tuned": "x" * 5000}).tuned == "x" * 5000
