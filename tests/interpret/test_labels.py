from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mneme.interpret.config import InterpretConfig
from mneme.interpret.contexts import find_contexts, is_test
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.labels.enrichment import Enriched, Evidence, gather_evidence, log_odds
from mneme.interpret.labels.offline import offline_labels
from mneme.interpret.scoring import (
    Exam,
    balanced_accuracy,
    best_threshold,
    content,
    score_labels,
    set_exam,
    shuffled,
    word_weights,
)
from mneme.interpret.words import read_words

from .fakes import FakeCache, FakeCodes

SUBJECTS = [
    "the virus infects human cells and the immune system fights infection with antibodies",
    "the court heard the lawyer before a judge gave the verdict on the contract",
    "the planet orbits a bright star while telescopes watch the distant galaxy",
]


class WordTexts:
    """A vocabulary of whole words with a leading space."""

    def __init__(self) -> None:
        self.words = sorted({w for s in SUBJECTS for w in s.split()} | {",", "."})
        self.id = {w: i for i, w in enumerate(self.words)}

    def texts(self, ids) -> list[str]:
        return [w if len(w) == 1 and not w.isalpha() else f" {w}" for w in (self.words[int(i)] for i in ids)]


@pytest.fixture(scope="module")
def world():
    """90 documents on three subjects; latents: a word, a subject's every word, commas, everywhere."""
    rng = np.random.default_rng(0)
    texts = WordTexts()
    documents = []
    for d in range(90):
        words = SUBJECTS[d % 3].split()
        picked = [str(w) for w in rng.choice(words, 40)]
        picked[10] = picked[30] = ","
        documents.append([texts.id[w] for w in picked])
    cache = FakeCache(documents)
    dense = np.zeros((cache.n, 5), dtype=np.float32)
    subject = cache.document % 3
    dense[cache.token == texts.id["virus"], 0] = 2.0
    dense[(subject == 1) & (rng.random(cache.n) < 0.3), 1] = 1.0
    dense[cache.token == texts.id[","], 2] = 1.5
    dense[rng.random(cache.n) < 0.3, 3] = 1.0
    dense *= 1 + 0.1 * rng.random(dense.shape).astype(np.float32)
    config = InterpretConfig(window=20, top_contexts=12, decile_contexts=3, test_share=0.5)
    codes = FakeCodes(dense, shard=400)
    contexts = find_contexts(codes, cache, 5, config)
    return cache, codes, config, contexts, read_words(cache, contexts.document, texts, config.window), texts


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


def evidence(firing=(), following=(), window=()) -> Evidence:
    make = lambda rows: [Enriched(word, z, share) for word, z, share in rows]  # noqa: E731
    return Evidence(make(firing), make(following), make(window), 10)


@pytest.mark.parametrize(
    ("found", "says", "label"),
    [
        (evidence(firing=[("7", 5, 0.4), ("12", 4, 0.3)]), [], "numbers"),
        (evidence(firing=[("", 5, 0.9)], window=[("trade", 5, 0.6)]), [], "line breaks in text on trade"),
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


def test_thresholds_match_a_search_over_all_of_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        yes, no = rng.integers(0, 8, 6) + 1.0, rng.integers(0, 8, 9) * 1.0
        best = max(balanced_accuracy(yes, no, t) for t in np.arange(-1, 10, 0.25))
        assert balanced_accuracy(yes, no, best_threshold(yes, no)) == pytest.approx(best)


def test_a_shuffle_leaves_no_label_in_its_place() -> None:
    for n in (2, 3, 50):
        other = shuffled(n, seed=n)
        assert sorted(other) == list(range(n)) and (other != np.arange(n)).all()


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(dtype="float32")


@pytest.fixture(scope="module")
def exam(world, encoder: SentenceEncoder) -> Exam:
    cache, codes, config, contexts, words, _ = world
    return set_exam(contexts, codes, (cache.document, cache.position), words, encoder, config)


def test_true_labels_beat_shuffled_ones_on_held_out_documents(world, encoder, exam) -> None:
    _, _, config, _, words, _ = world
    assert (
        is_test(words.window_document()[exam.windows[exam.positives.slot]], config) == exam.positives.test
    ).all()
    labels = ["virus", "court, judge, lawyer", "commas"]
    scores = score_labels(exam, np.array([0, 1, 2]), labels, encoder.embed(labels)).set_index("latent")
    assert scores.score[1] > 0.9
    assert scores.score[0] > scores.score_shuffled[0] and scores.score[1] > scores.score_shuffled[1]


def test_negatives_are_windows_where_the_latent_is_silent(world, exam) -> None:
    cache, codes, _, _, words, _ = world
    window = words.window_of(cache.document, cache.position)
    for side, slots in exam.pools.items():
        for latent in range(5):
            fires = np.isin(exam.windows[slots], window[codes.dense[:, latent] > 0])
            assert (exam.silent[side][latent] == ~fires).all()


def test_without_enough_contexts_there_is_no_score(encoder, exam) -> None:
    labels = ["dead", "court"]
    scores = score_labels(exam, np.array([4, 1]), labels, encoder.embed(labels))
    assert scores.score.isna().tolist() == [True, False]


def test_scores_match_a_plain_restatement(world, encoder, exam) -> None:
    """One label after another, window after window."""
    _, _, _, _, words, _ = world
    texts = [words.window_text(int(w)).lower() for w in exam.windows]
    alike = encoder.embed(["the virus", "court."]) @ exam.vectors.T
    for row, (latent, label) in enumerate([(0, ["the", "virus"]), (1, ["court", "."])]):
        known = [w for w in label if w in exam.word_id]
        rarity = np.array([exam.rarity[exam.word_id[w]] for w in known])
        has = np.array([[w in text.replace(",", " , ").split() for w in known] for text in texts])
        near = alike[row] + has @ (rarity / rarity.sum())
        mine = exam.positives[exam.positives.latent == latent]
        sides = []
        for test in (False, True):
            yes = near[mine.slot[mine.test == test]]
            no = near[
                [s for s, quiet in zip(exam.pools[test], exam.silent[test][latent], strict=True) if quiet]
            ]
            sides.append((yes, no))
        expected = balanced_accuracy(*sides[1], best_threshold(*sides[0]))
        pair = ["the virus", "court."]
        scores = score_labels(exam, np.array([0, 1]), pair, encoder.embed(pair))
        assert scores.score[row] == pytest.approx(expected)
        other = score_labels(exam, np.array([0, 1]), pair[::-1], encoder.embed(pair[::-1]))
        assert scores.score_shuffled[row] == pytest.approx(other.score[row])


def test_the_guess_is_the_mean_over_other_latents_labels(encoder, exam) -> None:
    labels = ["virus", "court judge", "commas", "planet"]
    latents = np.array([0, 1, 2, 3])
    vectors = encoder.embed(labels)
    found = score_labels(exam, latents, labels, vectors)
    own = np.empty((4, 4))  # of latent i, judged by label j
    for turn in range(4):
        moved = (latents + turn) % 4
        own[latents, moved] = score_labels(exam, latents, [labels[j] for j in moved], vectors[moved]).score
    for i in range(4):
        others = [own[i, shuffled(4, turn)[i]] for turn in range(3)]
        assert found.score_shuffled[i] == pytest.approx(np.mean(others), nan_ok=True)


def test_words_the_corpus_lacks_count_for_nothing(exam) -> None:
    weights = word_weights(exam, ["virus zebra", "zebra"]).toarray()
    assert weights.sum(axis=1).tolist() == [1, 0] and weights[0, exam.word_id["virus"]] == 1


def test_words_of_meaning_are_left_out_of_the_judging() -> None:
    assert content("virus, cell in text on trade") == "virus, cell trade"
    assert content("text on law") == "law" and content("before: the") == "the"
    assert content("first tokens of a text") == "first tokens of a text"
