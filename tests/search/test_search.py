"""Search finds what is there, ranks it, reads no query as code, and is made again when labels change."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mneme.search import build_index, find_meaning, find_text, is_current, meaning
from mneme.search.fulltext import query_words
from mneme.store.queries import search as queries
from mneme.store.queries.latents import LatentFilter, beside, count, table
from mneme.store.run import Run
from mneme.testing.synthetic import HOSTILE, make_synthetic_run


class Letters:
    """An encoder without weights: the counts of letters, scaled to length 1."""

    width = 26

    def embed(self, texts: list[str]) -> np.ndarray:
        counts = np.array([[t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_synthetic_run(tmp_path_factory.mktemp("search") / "run", latents=80, contexts=6, window=16)
    build_index(run, Letters())  # type: ignore[arg-type]
    return run


def texts(run: Run) -> dict[int, tuple[str, set[str], set[str]]]:
    """Latent -> label, words it fires on, words of its contexts: by brute force."""
    labels = dict(run.rows("SELECT latent, label FROM labels"))
    found: dict[int, tuple[str, set[str], set[str]]] = {j: (t, set(), set()) for j, t in labels.items()}
    for latent, tokens, activations in run.rows("SELECT latent, tokens, activations FROM contexts"):
        found[latent][2].update(t.strip() for t in tokens)
        found[latent][1].update(t.strip() for t, a in zip(tokens, activations, strict=True) if a > 0)
    return found


@pytest.mark.parametrize("word", ["virus", "treaty", "protein"])
def test_words_find_exactly_the_latents_that_have_them(run: Run, word: str) -> None:
    truth = {j for j, (label, _, around) in texts(run).items() if word in label or word in around}
    assert truth and set(find_text(run, word)) == truth


def test_a_label_counts_more_than_the_text_around(run: Run) -> None:
    held = texts(run)
    order = find_text(run, "virus")
    labelled = ["virus" in held[j][0] for j in order]
    assert any(labelled) and labelled == sorted(labelled, reverse=True)


def test_other_forms_of_a_word_are_found_and_all_words_before_any(run: Run) -> None:
    assert find_text(run, "proteins") == find_text(run, "PROTEIN") != []
    both = set(find_text(run, "virus")) & set(find_text(run, "vaccine"))
    assert set(find_text(run, "virus vaccine")) == both
    assert set(find_text(run, "virus nosuchword")) == set(find_text(run, "virus"))


@pytest.mark.parametrize(
    "query", [*HOSTILE[:6], HOSTILE[7], *HOSTILE[8:], '"', "NEAR(", "a AND", "label:", "*", ""]
)
def test_no_query_is_read_as_syntax(run: Run, query: str) -> None:
    assert all(0 <= j < 80 for j in find_text(run, query))
    assert set(queries.snippets(run, [0, 1, 5], query_words(query))) <= {0, 1, 5}


def test_hostile_labels_and_tokens_are_indexed_as_words(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=30, contexts=4, window=12, hostile=True)
    build_index(run)
    assert find_text(run, "script") and find_text(run, "hacked")
    assert all(len(s) < 400 for s in queries.snippets(run, find_text(run, "hacked"), ["hacked"]).values())


def test_a_snippet_holds_the_word_and_prefers_where_the_latent_fires(run: Run) -> None:
    fires = [j for j, (_, on, _) in texts(run).items() if "virus" in on]
    found = queries.snippets(run, fires, ["virus"])
    assert found and all(re.search("«virus»", s) for s in found.values())


def test_meaning_is_the_order_of_cosines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "_encoder", Letters)
    labels = queries.label_texts(run)
    cosine = Letters().embed(list(labels["label"])) @ Letters().embed(["virus strain"])[0]
    found = find_meaning(run, "virus strain", limit=10)
    ranked = dict(zip(labels["latent"], cosine, strict=True))
    got = [ranked[j] for j in found]
    assert np.allclose(got, np.sort(cosine)[::-1][:10], atol=2e-3) and min(got) >= meaning.NEAR


def test_meaning_leaves_out_how_a_label_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "_encoder", Letters)
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=4, window=12)
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE labels SET label = 'zz'")
        writer.connection.execute("UPDATE labels SET label = 'often on: virus' WHERE latent = 1")
    build_index(run, Letters())  # type: ignore[arg-type]
    assert find_meaning(run, "virus") == [1]
    assert 1 not in find_meaning(run, "often on")


def test_the_index_is_old_once_labels_change(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=4, window=12)
    assert not is_current(run)
    build_index(run)
    assert is_current(run)
    with run.stage_writer() as writer:
        writer.connection.execute("UPDATE labels SET label = 'zebra' WHERE latent = 1")
        writer.connection.execute("UPDATE stages SET fingerprint = 'new' WHERE stage = 'labels'")
    assert not is_current(run)
    build_index(run)
    assert is_current(run) and find_text(run, "zebra") == [1]


def test_a_search_filters_and_orders_the_table(run: Run) -> None:
    found = tuple(find_text(run, "virus"))[::-1]
    where = LatentFilter(among=found)
    assert table(run, where, sort="match")["latent"].tolist() == list(found)
    assert count(run, LatentFilter(among=found, without=found[:2])) == len(found) - 2
    assert count(run, LatentFilter(among=())) == 0
    assert count(run, LatentFilter(among=found, reviewed=found[:3])) == 3
    assert beside(run, where, found[1], sort="match")["next"] == found[2]
    assert (
        table(run, LatentFilter(), sort="match")["latent"].tolist()
        == table(run, LatentFilter())["latent"].tolist()
    )


def test_words_of_other_scripts_are_found_and_an_index_of_an_older_kind_is_made_again(tmp_path: Path) -> None:
    run = make_synthetic_run(tmp_path / "run", latents=20, contexts=4, window=12)
    labels = ["Ärzte & Kliniken", "вирус гриппа", "蛋白质", "C++ / covid-19", "naïve", "x" * 10_000]
    labelled = [latent for (latent,) in run.rows("SELECT DISTINCT latent FROM labels ORDER BY 1")]
    with run.stage_writer() as writer:
        for latent, label in zip(labelled, labels, strict=False):
            writer.connection.execute("UPDATE labels SET label = ? WHERE latent = ?", [label, latent])
    (run.path / "search").mkdir()
    (run.path / "search" / "text.sqlite").write_bytes(b"of an older mneme")
    (run.path / "search" / "index.json").write_text('{"stamp": "of an older mneme"}')
    assert not is_current(run) and find_text(run, "naive") == []
    build_index(run)
    assert is_current(run) and not (run.path / "search" / "text.sqlite").exists()
    for latent, query in zip(labelled, ["ärzte", "ВИРУС", "蛋白质", "covid-19", "NAIVE"], strict=False):
        assert find_text(run, query)[0] == latent, query
    assert find_text(run, "x" * 10_000) == []
