from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score

from mneme.interpret.contexts import is_test
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.neighbours import nearest_by_firing
from mneme.interpret.scorers import measures
from mneme.interpret.scorers.detection import score_method
from mneme.interpret.scorers.fuzz import Fuzz, set_fuzz
from mneme.interpret.scorers.llm_scorer import judge_labels
from mneme.interpret.scorers.measures import Side
from mneme.interpret.scorers.random_latent_baseline import RandomCodes
from mneme.interpret.scorers.score_labels import Judging, Scene, keep_examples, score_labels
from mneme.interpret.scorers.scoring_set import ScoringSet, make_scoring_set
from mneme.interpret.scorers.text_fit import content, shuffled, word_weights
from mneme.run.post_label_health import label_scores_health
from mneme.stats.bootstrap import exponential_weights

from .fakes import Reader

TRUE = ["virus", "court, judge, lawyer", "commas"]


def labels_of(texts: list[str], latents: list[int] | None = None) -> pd.DataFrame:
    latents = latents or list(range(len(texts)))
    return pd.DataFrame({"latent": latents, "label": texts, "method": "offline"})


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(dtype="float32")


@pytest.fixture(scope="module")
def near(world) -> pd.DataFrame:
    _, codes, _, contexts, _, _ = world
    return nearest_by_firing(codes, contexts.n_active, n=3)


@pytest.fixture(scope="module")
def scoring_set(world, near, encoder: SentenceEncoder) -> ScoringSet:
    cache, codes, config, contexts, words, _ = world
    return make_scoring_set(contexts, near, codes, (cache.document, cache.position), words, encoder, config)


@pytest.fixture(scope="module")
def fuzz(world, encoder: SentenceEncoder) -> Fuzz:
    _, _, config, contexts, words, _ = world
    return set_fuzz(contexts, words, encoder, config.seed)


def sides(rng: np.random.Generator, n: int = 40) -> tuple[Side, Side]:
    """Fits with ties and gaps, of 40 labels."""
    made = []
    for width, shift in ((7, 1), (11, 0)):
        mask = rng.random((n, width)) < 0.8
        mask[:, :2] = True
        fit = (rng.integers(0, 8, (n, width)) + shift).astype(np.float32)
        made.append(Side(fit, mask, rng.integers(0, 5, (n, width))))
    return made[0], made[1]


def test_thresholds_match_a_search_over_all_of_them() -> None:
    positive, negative = sides(np.random.default_rng(0))
    found = measures.best_thresholds(positive, negative)
    for i in range(len(found)):
        yes, no = positive.fit[i, positive.mask[i]], negative.fit[i, negative.mask[i]]
        gain = lambda t: (yes > t).mean() - (no > t).mean()  # noqa: E731, B023
        assert gain(found[i]) == pytest.approx(max(gain(t) for t in np.arange(-1, 10, 0.25)))


def test_auprc_and_f1_match_scikit_learn_with_both_sides_weighing_the_same() -> None:
    positive, negative = sides(np.random.default_rng(1))
    threshold = measures.best_thresholds(positive, negative)
    ones = np.ones((5, 1), dtype=np.float32)
    hit, wrong = (measures.yes_rate(side, threshold, ones)[:, 0] for side in (positive, negative))
    area, f1 = measures.auprc(positive, negative), measures.f1(hit, wrong)
    for i in range(len(area)):
        yes, no = positive.fit[i, positive.mask[i]], negative.fit[i, negative.mask[i]]
        truth = np.r_[np.ones(len(yes)), np.zeros(len(no))]
        weight = np.r_[np.full(len(yes), 1 / len(yes)), np.full(len(no), 1 / len(no))]
        fits = np.r_[yes, no]
        assert area[i] == pytest.approx(average_precision_score(truth, fits, sample_weight=weight), abs=1e-5)
        said = fits > threshold[i]
        assert f1[i] == pytest.approx(f1_score(truth, said, sample_weight=weight), abs=1e-5)


def test_resampled_rates_match_a_sum_over_windows() -> None:
    rng = np.random.default_rng(2)
    positive, _ = sides(rng, 6)
    weights = exponential_weights(5, 4, seed=3)
    threshold = rng.integers(2, 6, 6).astype(float)
    found = measures.yes_rate(positive, threshold, weights)
    for i in range(6):
        chosen = np.flatnonzero(positive.mask[i])
        own = weights[positive.document[i, chosen]]
        passed = positive.fit[i, chosen] > threshold[i]
        np.testing.assert_allclose(found[i], (own * passed[:, None]).sum(0) / own.sum(0), rtol=1e-5)
    shared = Side(positive.fit, positive.mask, positive.document[0])
    spread = Side(positive.fit, positive.mask, np.broadcast_to(positive.document[0], positive.fit.shape))
    np.testing.assert_allclose(
        measures.yes_rate(shared, threshold, weights),
        measures.yes_rate(spread, threshold, weights),
        rtol=1e-5,
    )


def test_without_a_side_nothing_is_measured() -> None:
    none = Side(np.zeros((1, 2), np.float32), np.zeros((1, 2), bool), np.zeros((1, 2), int))
    some = Side(np.ones((1, 2), np.float32), np.ones((1, 2), bool), np.zeros((1, 2), int))
    assert np.isnan(measures.best_thresholds(none, some)) and np.isnan(measures.best_thresholds(some, none))
    assert np.isnan(measures.auprc(none, some)) and np.isnan(measures.auprc(some, none))


def test_a_shuffle_leaves_no_label_in_its_place() -> None:
    for n in (2, 3, 50):
        other = shuffled(n, seed=n)
        assert sorted(other) == list(range(n)) and (other != np.arange(n)).all()


def test_no_document_is_on_both_sides(world, scoring_set, fuzz) -> None:
    _, _, config, _, words, _ = world
    document = words.window_document()[scoring_set.windows]
    for test in (False, True):
        for slots in (scoring_set.positives[test][scoring_set.positives[test] >= 0], scoring_set.pools[test]):
            assert (is_test(document[slots], config) == test).all() and len(slots)
    assert is_test(document[scoring_set.hard[scoring_set.hard >= 0]], config).all()
    assert (is_test(fuzz.document, config) == fuzz.test).all()


def test_negatives_are_windows_where_the_latent_is_silent_and_hard_ones_where_a_neighbour_fires(
    world, near, scoring_set
) -> None:
    cache, codes, _, _, words, _ = world
    window = words.window_of(cache.document, cache.position)
    fires = {j: set(window[codes.dense[:, j] > 0].tolist()) for j in range(5)}
    for side, slots in scoring_set.pools.items():
        for latent in range(5):
            assert (
                scoring_set.silent[side][latent]
                == [w not in fires[latent] for w in scoring_set.windows[slots].tolist()]
            ).all()
    assert (scoring_set.hard >= 0).any()
    for latent in range(5):
        chosen = scoring_set.windows[scoring_set.hard[latent][scoring_set.hard[latent] >= 0]].tolist()
        others = set().union(*(fires[int(j)] for j in near.neighbour[near.latent == latent]))
        assert len(set(chosen)) == len(chosen)
        assert not set(chosen) & fires[latent] and set(chosen) <= others


def test_marked_words_are_the_latents_own_or_words_it_is_silent_on(world, fuzz) -> None:
    _, _, _, _, words, _ = world
    named = [
        {words.vocabulary[w] for w in fuzz.marked.indices[a:b]}
        for a, b in zip(fuzz.marked.indptr[:-1], fuzz.marked.indptr[1:], strict=True)
    ]
    assert len(named) == len(fuzz.latent) and all(named)
    for item in np.flatnonzero(fuzz.latent == 0)[::2].tolist():
        assert named[item] == {"virus"} and "virus" not in named[item + 1]
        assert len(named[item + 1]) == 1
    for test, items in fuzz.items.items():
        for latent in range(4):
            mine = items[latent][items[latent] >= 0]
            assert (fuzz.latent[mine] == latent).all() and (fuzz.test[mine] == test).all()


def test_true_labels_beat_others_in_every_test(scoring_set, fuzz, encoder) -> None:
    found = score_method(scoring_set, fuzz, labels_of(TRUE), encoder)
    scores = found.scores.set_index(["latent", "test", "negatives"])
    assert scores.balanced_accuracy[1, "detection", "random"] > 0.9
    assert scores.balanced_accuracy[0, "fuzzing", "random"] == 1
    for latent, test in ((0, "detection"), (1, "detection"), (0, "fuzzing"), (2, "fuzzing")):
        row = scores.loc[latent, test, "random"]
        assert row.balanced_accuracy > row.shuffled and row.ci_low <= row.balanced_accuracy <= row.ci_high
    summary = found.summary.set_index(["test", "negatives", "labels"]).balanced_accuracy
    assert summary["detection", "random", "own"] > summary["detection", "random", "shuffled"] + 0.15


def test_scores_match_a_plain_restatement(world, scoring_set, fuzz, encoder) -> None:
    """One label after another, window after window."""
    _, _, _, _, words, _ = world
    texts = [words.window_text(int(w)).lower() for w in scoring_set.windows]
    pair = ["the virus", "court."]
    alike = encoder.embed(pair) @ scoring_set.vectors.T
    found = score_method(scoring_set, fuzz, labels_of(pair), encoder).scores
    other = score_method(scoring_set, fuzz, labels_of(pair[::-1]), encoder).scores
    own = found[found.test == "detection"].set_index(["negatives", "latent"])
    swapped = other[other.test == "detection"].set_index(["negatives", "latent"]).balanced_accuracy
    for latent, label in enumerate([["the", "virus"], ["court", "."]]):
        known = [w for w in label if w in scoring_set.word_id]
        rarity = np.array([scoring_set.rarity[scoring_set.word_id[w]] for w in known])
        has = np.array([[w in text.replace(",", " , ").split() for w in known] for text in texts])
        near = alike[latent] + has @ (rarity / rarity.sum())
        yes = {t: near[[s for s in scoring_set.positives[t][latent] if s >= 0]] for t in (False, True)}
        no = {t: near[scoring_set.pools[t][scoring_set.silent[t][latent]]] for t in (False, True)}
        cuts = np.unique(np.r_[yes[False], no[False]])
        cuts = np.r_[cuts[0] - 1, (cuts[1:] + cuts[:-1]) / 2]
        cut = max(cuts, key=lambda t: ((yes[False] > t).mean() - (no[False] > t).mean(), -t))
        hard = near[[s for s in scoring_set.hard[latent] if s >= 0]]
        for kind, wrong in (("random", no[True]), ("hard", hard)):
            row = own.loc[kind, latent]
            expected = ((yes[True] > cut).mean() + (wrong <= cut).mean()) / 2
            assert row.balanced_accuracy == pytest.approx(expected, abs=1e-5)
            assert row.shuffled == pytest.approx(swapped[kind, latent], abs=1e-5)


def test_without_enough_contexts_there_is_no_score(scoring_set, fuzz, encoder) -> None:
    found = score_method(scoring_set, fuzz, labels_of(["dead", "court"], [4, 1]), encoder).scores
    found = found[found.test == "detection"].groupby("latent").balanced_accuracy.count()
    assert found[4] == 0 and found[1] == 2


def test_other_labels_are_of_the_same_method(world, near, scoring_set, encoder) -> None:
    cache, codes, config, contexts, words, _ = world
    both = pd.concat([labels_of(TRUE), labels_of(["zebra"] * 2, [0, 1]).assign(method="llm:m")])
    found = score_labels(both, Scene(contexts, near, codes, cache, words), encoder, config)
    own = found.labels.set_index(["method", "latent"])
    assert own.score["llm:m", 0] == pytest.approx(own.score_shuffled["llm:m", 0])
    assert own.score["offline", 1] > own.score_shuffled["offline", 1]
    judged = own[own.score.notna()]
    assert (judged.gain_low <= judged.score - judged.score_shuffled + 1e-6).all()
    assert set(found.label_summary.labels) == {"own", "shuffled", "random latent"}


def test_every_example_shows_the_text_it_was_judged_on(world, near, encoder) -> None:
    cache, codes, config, contexts, words, _ = world
    found = score_labels(labels_of(TRUE), Scene(contexts, near, codes, cache, words), encoder, config)
    shown = found.label_examples.merge(found.label_windows, on="window", validate="many_to_one")
    assert len(shown) == len(found.label_examples) > 0
    assert is_test(shown.document.to_numpy(), config).all()
    virus = shown[(shown.latent == 0) & (shown.test == "detection")]
    assert (virus.text.str.contains("virus") == virus.positive).all() and set(virus.positive) == {True, False}
    marked = shown[(shown.latent == 0) & (shown.test == "fuzzing")]
    assert ((marked.marked == "virus") == marked.positive).all()
    assert marked.judged.eq(marked.positive).all()


def test_a_model_judges_beside_the_encoder_and_leaves_the_headline_alone(
    world, near, encoder, tmp_path
) -> None:
    cache, codes, config, contexts, words, _ = world
    given = labels_of(TRUE), Scene(contexts, near, codes, cache, words), encoder, config
    alone = score_labels(*given)
    judge = partial(judge_labels, chat=Reader(broken="commas"), folder=tmp_path)
    found = score_labels(*given, judging=Judging(judge, np.array([0, 2])))
    pd.testing.assert_frame_equal(found.labels, alone.labels)
    mine = found.label_scores[found.label_scores.scorer == "llm:reader"]
    assert set(mine.latent) == {0, 2} and set(mine.method) == {"offline"}
    assert found.failures.latent.tolist() and set(found.failures.method) == {"scored by llm:reader"}
    assert "llm:reader" in set(found.label_examples.scorer) and alone.failures.empty


def test_examples_are_bounded_and_those_asked_for_come_first() -> None:
    frame = pd.DataFrame({"latent": np.repeat(np.arange(10), 5)})
    assert set(keep_examples(frame, np.array([7, 3]), most=15).latent) == {7, 3, 0}
    assert len(keep_examples(frame, None, most=50)) == 50


def test_random_latents_fire_as_often_as_asked_and_on_tokens_that_are_read() -> None:
    codes = RandomCodes(np.arange(10, 60), np.array([3, 40]), 100)
    ((first, (row, latent, value), n),) = codes.shards()
    assert (first, n) == (0, 100) and np.bincount(latent).tolist() == [3, 40]
    assert row.min() >= 10 and row.max() < 60 and (np.diff(row) >= 0).all() and (value > 0).all()
    assert len(np.unique(row[latent == 1])) == 40


def test_health_counts_labels_whose_gain_may_be_nothing() -> None:
    labels = pd.DataFrame(
        {"score": [0.8, 0.6, np.nan], "score_shuffled": [0.5, 0.5, np.nan], "gain_low": [0.1, -0.1, np.nan]}
    )
    summary = pd.DataFrame(
        {
            "method": "offline",
            "test": "detection",
            "negatives": "random",
            "labels": ["own", "random latent"],
            "balanced_accuracy": [0.48, 0.5],
        }
    )
    rows = label_scores_health(labels, summary).set_index("metric")
    assert rows.value["label_unreliable"] == 0.5 and rows.status["label_score"] == "warn"


def test_words_the_corpus_lacks_count_for_nothing(scoring_set) -> None:
    weights = word_weights(scoring_set.word_id, scoring_set.rarity, ["virus zebra", "zebra"]).toarray()
    assert weights.sum(axis=1).tolist() == [1, 0] and weights[0, scoring_set.word_id["virus"]] == 1


def test_words_of_meaning_are_left_out_of_the_judging() -> None:
    assert content("virus, cell in text on trade") == "virus, cell trade"
    assert content("text on law") == "law" and content("before: the") == "the"
    assert content("first tokens of a text") == "first tokens of a text"
