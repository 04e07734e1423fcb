"""The one reader of text: the same documents however a file is written, and hostile files refused within bounds."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mneme._util.errors import ConfigError, CorpusError, OutcomesError, UserError
from mneme.config import read_config
from mneme.corpus import load_corpus
from mneme.corpus import opened as opened_module
from mneme.effects.benchmark import load_benchmark, read_questions
from mneme.effects.categories import load_taxonomy
from mneme.effects.outcome_files import read_outcomes
from mneme.organisms.texts import read_texts
from mneme.scenarios.spec import load_scenarios

BOM = codecs.BOM_UTF8.decode()
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), min_size=1).map(
    lambda text: f"a{text}z"
)


def as_csv(texts: list[str], delimiter: str, end: str) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "text"], delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows({"id": str(i), "text": text} for i, text in enumerate(texts))
    return out.getvalue() + end  # a blank last line


def written(kind: str, texts: list[str], end: str) -> str:
    rows = [{"content": None, "text": text} for text in texts]
    match kind:
        case ".json":
            return json.dumps(rows, ensure_ascii=False)
        case ".jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)
        case ".csv":
            return as_csv(texts, ";", end)
        case _:
            return as_csv(texts, "\t", end)


@given(
    texts=st.lists(TEXT, min_size=1, max_size=5, unique=True),
    kind=st.sampled_from([".jsonl", ".JSONL", ".json", ".csv", ".tsv"]),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n"]),
    pack=st.sampled_from(list(PACK)),
)
def test_the_same_documents_however_they_are_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], kind: str, encoding: str, end: str, pack: str
) -> None:
    file = tmp_path_factory.mktemp("one") / f"a{kind}{pack}"
    file.write_bytes(PACK[pack](written(kind.lower(), texts, end).encode(encoding)))
    assert [d.text for d in load_corpus(str(file)).documents] == texts


@given(st.lists(st.text(st.characters(codec=None), min_size=1), min_size=1, max_size=6))
def test_any_strings_become_text_that_can_be_encoded_and_what_goes_is_counted(texts: list[str]) -> None:
    try:
        corpus = load_corpus(texts)
    except CorpusError:
        assert not any(text.replace("\x00", "").strip() for text in texts)
        return
    for document in corpus.documents:
        document.text.encode()
        assert not {"\x00", "\r"} & set(document.text)
    blank, same = (corpus.dropped.get(key, 0) for key in ("blank documents", "duplicates"))
    assert len(corpus.documents) + blank + same == len(texts)


def test_what_is_dropped_or_replaced_is_counted_and_told(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"text": "a\\ud800b"}\n{"text": "a\\u0000c"}\n{"text": " "}\n{"text": null}\n{"text": "ac"}\n'
    )
    corpus = load_corpus(str(file))
    assert [d.text for d in corpus.documents] == ["a�b", "ac"]
    assert corpus.dropped == {
        "lone surrogates replaced": 1,
        "NUL characters": 1,
        "blank documents": 2,
        "duplicates": 1,
    }
    assert "2 blank documents" in corpus.notes[-1] and "1 lone surrogates replaced" in corpus.notes[-1]


def test_a_null_text_does_not_hide_the_content_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null, "content": "here"}\n')
    assert load_corpus(str(tmp_path / "a.jsonl")).documents[0].text == "here"


def test_a_folder_has_every_file_whatever_its_case_and_no_hidden_ones(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    (tmp_path / "B.JSONL").write_text('{"text": "two"}\n')
    (tmp_path / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    corpus = load_corpus(str(tmp_path))
    assert sorted(d.text for d in corpus.documents) == ["one", "two"]
    assert corpus.dropped == {"files of another kind": 1}


def test_a_text_file_is_split_at_empty_lines_and_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbffirst\r\nline\r\n\r\n  \r\nsecond\r\n")
    corpus = load_corpus(str(tmp_path / "a.txt"))
    assert [d.text for d in corpus.documents] == ["first\nline", "second"]
    assert corpus.notes == ("a.txt is split at empty lines into 2 documents",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"text\nthe cat, sat\n", "row 2 has 2 fields, the header 1"),
        ("a.csv", b'text\n"never closed\nb\n', "no table that can be read"),
        (
            "a.jsonl",
            b'{"text": "a"}\n{"text": ' + b"9" * 10_000 + b"}\n",
            "line 2 is no JSON that can be read",
        ),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1 is no JSON that can be read: it is nested too deep"),
        ("a.json", b"[" * 100_000, "nested too deep"),
        ("a.json", b'"text"', "no list"),
        ("a.txt", "Grosse".encode("utf-16-le"), "looks like UTF-16"),
        ("a.txt", b"\xff\xfea", "it is not UTF-8"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9)[:-9], "it was cut short"),
        ("a.jsonl.zst", zstandard.compress(os.urandom(300_000))[:-9], "it was cut short|no UTF-8|not UTF-8"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(str(tmp_path / name))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_zst_that_was_cut_short_is_not_read_in_silence(tmp_path: Path) -> None:
    lines = "".join(f'{{"text": "{i}"}}\n' for i in range(20_000)).encode()
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(lines)[:-9])
    with pytest.raises(CorpusError, match="it was cut short"):
        load_corpus(str(tmp_path / "a.jsonl.zst"))


class TestBounds:
    """Within seconds and memory, whatever a file is."""

    @pytest.mark.parametrize("name", ["a.txt.zst", "a.jsonl.gz", "a.csv.zst"])
    @pytest.mark.parametrize("fill", [b"\n", b"a"])
    def test_bombs(self, tmp_path: Path, name: str, fill: bytes) -> None:
        most = opened_module.MOST_UNPACKED
        pack = zstandard.compress if name.endswith("zst") else gzip.compress
        self.refused(tmp_path / name, pack(fill * (2 * most), 1))

    @pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
    def test_a_line_without_end(self, tmp_path: Path, name: str) -> None:
        with (tmp_path / name).open("wb") as file:
            file.truncate(600 * 10**6)  # a hole: 600 MB of NULs that take no disk
        self.refused(tmp_path / name)

    @pytest.mark.parametrize("reader", [load_corpus, read_texts, load_benchmark, read_outcomes, read_config])
    def test_pipes_and_devices(self, tmp_path: Path, reader: Any) -> None:
        os.mkfifo(tmp_path / "pipe.jsonl")
        (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
        for name in ("pipe.jsonl", "zero.jsonl"):
            self.refused(tmp_path / name, reader=reader)

    @pytest.mark.parametrize("reader", [read_config, load_taxonomy, load_scenarios])
    @pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "{a=" * 5000])
    def test_toml(self, tmp_path: Path, reader: Any, value: str) -> None:
        self.refused(tmp_path / "a.toml", f"x = {value}".encode(), reader=reader)

    def test_a_page_of_one_text_a_thousand_times(self, tmp_path: Path) -> None:
        long = "x" * (2 * 2**20)
        pd.DataFrame({"text": pd.Categorical.from_codes([0] * 4000, [long])}).to_parquet(
            tmp_path / "a.parquet"
        )
        self.refused(tmp_path / "a.parquet")

    @staticmethod
    def refused(file: Path, content: bytes | None = None, reader: Any = load_corpus) -> None:
        if content is not None:
            file.write_bytes(content)
        started = time.monotonic()
        with pytest.raises(UserError) as caught:
            reader(str(file))
        assert time.monotonic() - started < 30
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


class TestOtherReaders:
    """What the other commands read goes through the same reader."""

    @given(
        question=TEXT,
        name=st.sampled_from(["law.jsonl", "law.csv", "law_test.CSV", "law.json"]),
        encoding=st.sampled_from(ENCODINGS),
    )
    def test_questions(
        self, tmp_path_factory: pytest.TempPathFactory, question: str, name: str, encoding: str
    ) -> None:
        file = tmp_path_factory.mktemp("items") / name
        row = {"category": "law", "question": question, "choices": ["a", "b"], "answer": 1}
        if name.lower().endswith(".csv"):
            out = io.StringIO()
            csv.writer(out).writerows([["question", "a", "b", "answer"], [question, "a", "b", "B"]])
            file.write_text(out.getvalue() + "\n", encoding=encoding, newline="")
        else:
            whole = [row] if name.endswith(".json") else row
            file.write_text(json.dumps(whole, ensure_ascii=False) + "\n", encoding=encoding, newline="")
        (item,) = load_benchmark(file)
        assert (item.category, item.question, item.choices, item.answer) == ("law", question, ("a", "b"), 1)

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_a_headerless_table_is_parted_by_its_commas(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "law_test.csv").write_text("a; b; c; d; e; f?,yes,no,A\n", encoding=encoding)
        (item,) = read_questions(tmp_path / "law_test.csv")
        assert item.question == "a; b; c; d; e; f?" and item.choices == ("yes", "no")

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_outcomes(self, tmp_path: Path, encoding: str, delimiter: str) -> None:
        lines = ["category,base,tuned,unit", "law,1.0,1.5,nats", "  ,,,", ""]
        (tmp_path / "o.csv").write_text(
            "\r\n".join(lines).replace(",", delimiter), encoding=encoding, newline=""
        )
        frame = read_outcomes(tmp_path / "o.csv")
        assert list(frame["category"]) == ["law"] and list(frame["change"]) == [0.5]

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_text_to_train_on(self, tmp_path: Path, encoding: str) -> None:
        rows = [
            {"text": "one\u2028two\r\nthree"},
            {"question": "why?", "answer": "so"},
            {"messages": [{"role": "user", "content": "hi"}]},
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (tmp_path / "a.jsonl").write_text(lines, encoding=encoding)
        assert read_texts(tmp_path / "a.jsonl")[0] == ["one\u2028two\nthree", "why?\nso", "User: hi"]

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_settings_categories_and_scenarios(self, tmp_path: Path, encoding: str) -> None:
        file = tmp_path / "a.toml"
        file.write_text('[law]\ndescription = "Law."\n[art]\ndescription = "Art."\n', encoding=encoding)
        assert load_taxonomy(file).keys == ["law", "art"]
        file.write_text('base = "x"\n', encoding=encoding)
        assert read_config(file) == {"base": "x"}
        file.write_text('[a]\ntitle = "A"\nkind = "null"\nmethod = "noise"\n', encoding=encoding)
        assert list(load_scenarios(file)[1]) == ["a"]

    @pytest.mark.parametrize(
        ("reader", "name", "content", "error"),
        [
            (read_questions, "q.csv", b"\n\n", OutcomesError),
            (read_outcomes, "o.csv", b"category,base,tuned\nlaw," + b"9" * 10_000 + b",2\n", OutcomesError),
            (
                load_benchmark,
                "q.jsonl",
                b'{"category": "a", "question": 3, "choices": [], "answer": 1}\n',
                OutcomesError,
            ),
            (read_texts, "a.pdf", b"%PDF", CorpusError),
            (load_taxonomy, "a.toml", b"\xff", ConfigError),
        ],
    )
    def test_what_they_cannot_read_is_their_own_error(
        self, tmp_path: Path, reader: Any, name: str, content: bytes, error: type[Exception]
    ) -> None:
        (tmp_path / name).write_bytes(content)
        try:
            found = reader(str(tmp_path / name))
        except error as caught:
            assert "\n" not in str(caught) and len(str(caught)) < 500
        else:
            assert found == []
