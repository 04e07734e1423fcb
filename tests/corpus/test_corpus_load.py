"""Every kind of text a user may bring, and every way it can be wrong."""

from __future__ import annotations

import gzip
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import zstandard

from mneme._util.errors import CorpusError
from mneme.corpus import Document, load_corpus
from mneme.corpus import load as load_module

ROWS = [{"text": "The cat sat.", "topic": "cats"}, {"text": "Ünïcode — 数学", "topic": "maths"}]
DOCUMENTS = [Document(row["text"], row["topic"]) for row in ROWS]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def write(kind: str, path: Path) -> None:
    {
        "a.jsonl": lambda: path.write_bytes(LINES),
        "a.jsonl.gz": lambda: path.write_bytes(gzip.compress(LINES)),
        "a.jsonl.zst": lambda: path.write_bytes(
            # two frames, as `cat a.zst b.zst` gives
            zstandard.compress(LINES[:20]) + zstandard.compress(LINES[20:])
        ),
        "a.parquet": lambda: pd.DataFrame(ROWS).to_parquet(path),
        "a.csv": lambda: pd.DataFrame(ROWS).to_csv(path, index=False),
    }[kind]()


@pytest.mark.parametrize("kind", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.csv"])
def test_every_kind_of_file_gives_the_same_documents(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path / kind)
    corpus = load_corpus(str(tmp_path / kind))
    assert corpus.documents == DOCUMENTS
    assert corpus.source == str(tmp_path / kind)
    assert corpus.fingerprint == load_corpus(str(tmp_path / kind)).fingerprint


def test_the_content_field_is_read_where_there_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"content": "x y"}\r\n\r\n')
    assert load_corpus(str(tmp_path / "a.jsonl")).documents == [Document("x y", None)]


def test_a_folder_is_read_by_name_and_below(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    assert [d.text for d in load_corpus(str(tmp_path)).documents] == ["first", "second"]


def test_a_list_of_strings_is_a_corpus_and_duplicates_and_blanks_go() -> None:
    corpus = load_corpus(["one", "two", " one\n", "", "  "])
    assert [d.text for d in corpus.documents] == ["one", "two"]
    assert corpus.n_duplicates == 1


def test_the_fingerprint_follows_text_topic_and_order() -> None:
    prints = {load_corpus(texts).fingerprint for texts in (["a", "b"], ["b", "a"], ["ab"], ["a"])}
    assert len(prints) == 4


def test_a_large_source_is_read_only_as_far_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "LEAST_CHARACTERS", 0)
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{i:010d}"}}\n' for i in range(100)) + "no json")
    assert len(load_corpus(str(tmp_path / "a.jsonl"), max_tokens=10).documents) == 8
    with pytest.raises(CorpusError, match="line 101"):
        load_corpus(str(tmp_path / "a.jsonl"))


def parquet_without_text(path: Path) -> None:
    pd.DataFrame({"words": ["a"]}).to_parquet(path)


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("a.txt", lambda p: p.write_text(" \n"), "no text"),
    ("a.jsonl", lambda p: p.write_text(""), "no text"),
    ("a.jsonl", lambda p: p.write_text('{"text": "a"}\nnope\n'), "line 2 is no JSON"),
    ("a.jsonl", lambda p: p.write_text("[1]\n"), "line 1 is no object"),
    ("a.jsonl", lambda p: p.write_text('{"words": "a"}\n'), "line 1 has no text"),
    ("a.jsonl", lambda p: p.write_text('{"text": 3}\n'), "line 1 has no text"),
    ("a.jsonl", lambda p: p.write_bytes(b'{"text": "\xff\xfe"}\n'), "can't be read"),
    ("a.jsonl.gz", lambda p: p.write_bytes(gzip.compress(LINES)[:-9]), "can't be read"),
    ("a.jsonl.gz", lambda p: p.write_bytes(b"plain"), "can't be read"),
    ("a.jsonl.zst", lambda p: p.write_bytes(b"plain"), "can't be read"),
    ("a.parquet", lambda p: p.write_bytes(b"plain"), "can't be read"),
    ("a.parquet", parquet_without_text, "no column `text`"),
    ("a.csv", lambda p: p.write_text("words\nx\n"), "row 2 has no text"),
    ("a.pdf", lambda p: p.write_bytes(b"%PDF"), "no known kind"),
    ("a", lambda p: p.mkdir(), "no text"),
]


@pytest.mark.parametrize(("name", "make", "message"), BAD)
def test_what_cannot_be_read_is_named_in_one_line(
    name: str, make: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    make(tmp_path / name)
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_path_is_named() -> None:
    with pytest.raises(CorpusError, match="no corpus at nowhere/at/all"):
        load_corpus("nowhere/at/all")


def test_no_texts_at_all_is_refused() -> None:
    with pytest.raises(CorpusError, match="no text"):
        load_corpus([])


def test_the_bundled_corpus_is_found_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEME_DATA", str(tmp_path))
    with pytest.raises(CorpusError, match="unset MNEME_DATA"):
        load_corpus("bundled")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "bundled.jsonl.zst").write_bytes(zstandard.compress(LINES))
    assert load_corpus("bundled").documents == DOCUMENTS


def test_areas_of_the_bundled_corpus_are_read_whole_and_unknown_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEME_DATA", str(tmp_path))
    (tmp_path / "corpus").mkdir()
    rows = [{"text": f"text {i}", "topic": ("law", "anatomy", "music")[i % 3]} for i in range(9)]
    packed = zstandard.compress("\n".join(map(json.dumps, rows)).encode())
    (tmp_path / "corpus" / "bundled.jsonl.zst").write_bytes(packed)
    found = load_corpus("bundled:music, law")
    assert found.documents == [
        Document(f"text {i}", ("law", "anatomy", "music")[i % 3]) for i in (0, 2, 3, 5, 6, 8)
    ]
    assert found.source == "bundled:music, law" and found.fingerprint != load_corpus("bundled").fingerprint
    with pytest.raises(CorpusError, match="has no area 'anatomi': did you mean 'anatomy'"):
        load_corpus("bundled:law,anatomi")


def test_a_hub_corpus_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=r"pip install 'mneme-diff\[hub\]'"):
        load_corpus("hf:org/name")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A stand-in for the datasets library; the calls it got."""
    calls: list[tuple] = []

    def load_dataset(name: str, *, split: str, streaming: bool) -> list[dict]:
        calls.append((name, split, streaming))
        if name == "org/absent":
            raise FileNotFoundError("Dataset 'org/absent' doesn't exist on the Hub\nor cannot be accessed")
        return [{"content": "from the hub", "body": "the other column", "id": 4}]

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_a_hub_corpus_is_streamed(hub: list[tuple]) -> None:
    assert load_corpus("hf:org/name").documents == [Document("from the hub", None)]
    assert load_corpus("hf:org/name:test:body").documents == [Document("the other column", None)]
    assert hub == [("org/name", "train", True), ("org/name", "test", True)]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:org/absent", "doesn't exist"),
        ("hf:org/name:train:id", "id of .* row 1 holds no text: it has content, body, id"),
    ],
)
def test_a_hub_corpus_that_cannot_be_had_is_told_in_one_line(source: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as caught:
        load_corpus(source)
    assert "\n" not in str(caught.value)
