from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mneme.interpret.corpus_words import read_words
from mneme.interpret.explainers.enrichment import Enriched, Evidence, gather_evidence, log_odds
from mneme.interpret.explainers.offline import offline_labels

from .conftest import SUBJECTS
from .fakes import FakeCache


def test_words_join_to_the_text_and_count_windows(world) -> None:
    cache, _, _, _, words, texts = world
    assert len(words.word) == 90 * 40 and words.n_windows == 90 * 2
    assert words.window_text(3) == "".join(texts.texts(cache.texts[1][20:40]))
    assert words.vocabulary[words.word[words.flat(np.array([2]), np.array([30]))[0]]] == ","


def test_pieces_of_a_word_are_one_word() -> None:
    class Pieces:
        def texts(self, ids):
            return [[" vir", "us", " is", ".", "\n", "x", "9"][int(i)] for i in ids]

    words = read_words(FakeCache([[0, 1, 2, 3, 4, 5, 6]]), np.array([0]), Pieces(), 4)
    spelled = [words.vocabulary[w] for w in words.word]
    assert spelled == ["virus", "virus", "is", ".", "", "x", "9"]
    assert words.number.tolist() == [0, 0, 1, 2, 3, 4, 5]


def test_the_evidence_is_counted_on_training_documents_only(world) -> None:
    _, _, _, contexts, words, _ = world
    evidence = gather_evidence(contexts, words, 5)
    assert set(evidence) == {0, 1, 2, 3}  # the last is dead
    hidden = contexts._replace(
        activations=np.where(contexts.test[:, None], 99.0, contexts.activations).astype(np.float32),
        tokens=np.where(contexts.test[:, None], 0, contexts.tokens),
    )
    assert gather_evidence(hidden, words, 5) == evidence
    assert evidence[0].firing[0].word == "virus" and evidence[0].firing[0].share == 1


def test_phrases_are_the_words_it_fires_on_with_the_one_before_as_a_loop_counts_them(world) -> None:
    _, _, _, contexts, words, _ = world
    found = gather_evidence(contexts, words, 5)[0].phrases
    weight: dict[tuple[str, int], float] = {}
    for c in np.flatnonzero((contexts.latent == 0) & ~contexts.test):
        if contexts.quantile[c] not in (0, 6, 7, 8, 9, 10):
            continue
        peak = contexts.activations[c].max()
        for i, f in enumerate(contexts.activations[c]):
            at = contexts.start[c] + i
            if f >= 0.4 * peak and contexts.tokens[c, i] >= 0 and at > 0:
                flat = int(words.flat(contexts.document[c : c + 1], np.array([at]))[0])
                name = " ".join(words.vocabulary[w] for w in words.word[flat - 1 : flat + 1])
                once = weight.setdefault((name, flat), 0.0)  # overlapping windows show a token once
                weight[name, flat] = max(once, float(f / peak))
    total: dict[str, float] = {}
    for (name, _), value in weight.items():
        total[name] = total.get(name, 0.0) + value
    whole = sum(total.values())
    assert found and all(e.word.endswith(" virus") for e in found)
    for e in found:
        assert e.share == pytest.approx(total[e.word] / whole, rel=1e-5)


def test_log_odds_match_the_papers_formula_by_hand() -> None:
    count, total, corpus, whole = 8.0, 20.0, 50.0, 1000.0
    prior, a0 = 500 * 50 / 1000, 500.0
    delta = np.log((8 + prior) / (20 + a0 - 8 - prior)) - np.log((50 + prior) / (1000 + a0 - 50 - prior))
    expected = delta / np.sqrt(1 / (8 + prior) + 1 / (50 + prior))
    found = log_odds(np.array([count]), np.array([total]), np.array([corpus]), whole)
    assert found[0] == pytest.approx(expected)


def test_labels_say_word_subject_and_form(world) -> None:
    _, _, _, contexts, words, _ = world
    labels = offline_labels(gather_evidence(contexts, words, 5), {}).set_index("latent")
    detail = labels.detail.map(json.loads)
    assert labels.label[0].startswith("virus") and detail[0]["kind"] == "words"
    assert detail[1]["kind"] != "form"
    assert set(labels.label[1].replace(",", " ").split()) & set(SUBJECTS[1].split()) - {"the", "a", "on"}
    assert labels.label[2].startswith("commas")
    assert (labels.label.str.split().str.len() <= 12).all() and (labels.label != "").all()


def evidence(firing=(), following=(), window=(), phrases=()) -> Evidence:
    make = lambda rows: [Enriched(word, z, share) for word, z, share in rows]  # noqa: E731
    return Evidence(make(firing), make(phrases), make(following), make(window), 10)


@pytest.mark.parametrize(
    ("found", "says", "label"),
    [
        (evidence(firing=[("7", 5, 0.4), ("12", 4, 0.3)]), [], "numbers"),
        (evidence(firing=[("", 5, 0.9)], window=[("trade", 5, 0.6)]), [], "line breaks in text on trade"),
        (
            evidence(
                firing=[("states", 9, 0.7), ("king", 2, 0.1)],
                phrases=[("united states", 9, 0.6), ("the king", 2, 0.1)],
                window=[("trade", 5, 0.6)],
            ),
            [],
            "united states in text on trade",
        ),
        (evidence(firing=[("of", 3, 0.1)], following=[("protein", 9, 0.3)]), [" prot"], "says: protein"),
        (evidence(following=[("the", 9, 0.7)]), [], "before: the"),
        (evidence(window=[("cell", 9, 0.5), ("cells", 8, 0.5), ("gene", 7, 0.4)]), [], "text on cell, gene"),
        (evidence(), ["Paris"], "promotes: Paris"),
        (evidence(), [], "nothing stands out"),
    ],
)
def test_the_kind_of_label_follows_the_evidence(found, says, label) -> None:
    assert offline_labels({0: found}, {0: says}).label[0] == label


def test_position_bound_latents_say_so() -> None:
    flags = pd.DataFrame({"latent": [0], "position_bound": [True], "dense": [False]})
    assert offline_labels({0: evidence()}, {}, flags).label[0] == "first tokens of a text"


def test_hostile_words_stay_one_printable_line() -> None:
    word = "a\x00\n\u202e" + "b"
    label = offline_labels({0: evidence(firing=[(word, 5, 0.9)])}, {}).label[0]
    assert label.isprintable() and label == "a b"
