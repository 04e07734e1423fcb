from types import SimpleNamespace

import numpy as np
import pytest
from effects_world import WordEncoder, decode
from scipy.special import expit, softmax

from mneme.effects.assign import (
    Weights,
    category_vectors,
    latent_weights,
    soft_weights,
    text_weights,
    with_known_topics,
)
from mneme.effects.categories import load_taxonomy
from mneme.effects.config import EffectsConfig
from mneme.effects.side_effects import assign_text
from mneme.effects.windows import cut_windows

CONFIG = EffectsConfig(min_weight=0.0)


def test_windows_cover_every_row_and_a_short_tail_joins_the_one_before(world):
    windows = cut_windows(world.cache, decode, 10)  # 24 tokens: 0-9, 10-23
    assert len(windows.texts) == 2 * world.cache.n_documents
    expected = 2 * world.cache.document + (world.cache.position >= 10)
    assert np.array_equal(windows.row_window, expected)
    assert np.array_equal(windows.n_rows, np.tile([9, 14], world.cache.n_documents))
    joined = " ".join(windows.texts[:2])
    assert joined == decode(world.cache.document_tokens(0))


def test_a_long_tail_is_a_window_of_its_own(world):
    windows = cut_windows(world.cache, decode, 9)  # 9, 9, 6
    assert [len(text.split()) for text in windows.texts[:3]] == [9, 9, 6]


def test_shares_are_a_softmax_times_likeness():
    similarity = np.random.default_rng(0).uniform(-0.1, 0.8, (20, 5))
    T, least = CONFIG.temperature, CONFIG.min_similarity
    likeness = expit((similarity.max(1, keepdims=True) - least) / T)
    weights = soft_weights(similarity, CONFIG)
    np.testing.assert_allclose(weights.share, softmax(similarity / T, axis=1) * likeness, atol=1e-6)
    assert (weights.share.sum(1) <= 1 + 1e-6).all()


def test_a_second_copy_of_a_category_takes_nothing_from_membership():
    similarity = np.random.default_rng(1).uniform(0, 0.8, (20, 4))
    copied = np.concatenate([similarity, similarity[:, :1]], axis=1)
    one, two = soft_weights(similarity, CONFIG), soft_weights(copied, CONFIG)
    np.testing.assert_allclose(two.membership[:, :4], one.membership, atol=1e-6)
    assert (two.share[:, 0] <= one.share[:, 0] + 1e-7).all() and two.share[:, 0].sum() < one.share[:, 0].sum()


def test_small_weights_are_dropped():
    weights = soft_weights(np.array([[0.8, 0.6, 0.1]]), EffectsConfig(min_weight=0.05))
    assert weights.membership[0, 1:].tolist() == [0, 0]


def test_text_of_no_category_belongs_nowhere(taxonomy_file):
    encoder, taxonomy = WordEncoder(), load_taxonomy(taxonomy_file)
    vectors = category_vectors(encoder, taxonomy)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    texts = ["gene virus gene", "bank price", "", "qqq www yyy"]
    share = text_weights(encoder, vectors, texts, CONFIG).share
    assert share[0, 0] > 0.95 and share[1, 1] > 0.95
    assert share[2].sum() == 0 and share[3].sum() < 0.5


def test_no_texts_have_no_weights(taxonomy_file):
    vectors = category_vectors(WordEncoder(), load_taxonomy(taxonomy_file))
    assert text_weights(WordEncoder(), vectors, [], CONFIG).share.shape == (0, 2)


def test_a_latent_that_fires_like_the_corpus_has_no_category_and_a_label_adds_its_part():
    prior = np.array([0.6, 0.3])
    total = np.array([10.0, 10.0, 0.0, 10.0])
    firing = np.array([[6, 10, 0, 6], [3, 0, 0, 3]], dtype=float)
    labels = np.array([[0, 0], [0, 0], [0, 0], [0, 1.0]])
    has = np.array([False, False, False, True])
    config = EffectsConfig(min_weight=0, label_weight=0.25)
    weights = latent_weights(firing, total, prior, labels, has, config)
    np.testing.assert_allclose(weights, [[0, 0], [0.4, 0], [0, 0], [0, 0.25]], atol=1e-12)
    assert (weights.sum(1) <= 1).all()


@pytest.mark.slow
def test_plain_sentences_find_their_subject():
    from mneme.interpret.encoder import SentenceEncoder

    sentences = {
        "The virus binds to a receptor, enters the cell and makes copies of itself.": "virology",
        "The plaintiff sued for breach of contract and the court awarded damages.": "professional_law",
        "When prices rise, consumers buy less and firms want to sell more.": "high_school_microeconomics",
        "def add(a, b):\n    return a + b\n\nfor i in range(3):\n    print(add(i, 1))": "code",
        "Whisk the eggs with sugar, fold in the flour and bake the cake.": "cooking",
        "A comet circles the sun in a long orbit and grows a tail of gas.": "astronomy",
    }
    encoder, taxonomy = SentenceEncoder(), load_taxonomy("default")
    vectors = category_vectors(encoder, taxonomy)
    weights = text_weights(encoder, vectors, list(sentences), EffectsConfig()).membership
    assert [taxonomy.keys[i] for i in weights.argmax(1)] == list(sentences.values())


def test_what_the_corpus_says_of_a_text_comes_before_the_encoder():
    rng = np.random.default_rng(3)
    keys, topics = ["a", "b", "c", "d"], ["b", None, None, "d", "b", ""]
    weights = Weights(*(rng.uniform(0, 1, (6, 4)).astype(np.float32) for _ in range(2)))
    found = with_known_topics(weights, topics, keys)
    for i, topic in enumerate(topics):
        for j, key in enumerate(keys):
            membership, share = weights.membership[i, j], weights.share[i, j]
            if topic in keys:
                share = float(key == topic)
                if key in ("b", "d"):  # those that the corpus names
                    membership = float(key == topic)
            assert (found.membership[i, j], found.share[i, j]) == (membership, share)


def test_topics_that_are_no_categories_change_nothing():
    weights = Weights(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    assert with_known_topics(weights, ["poems", None], ["a", "b"]) is weights
    assert (
        with_known_topics(weights, ["poems", "a"], ["a", "b"]) is weights
    )  # a topic of another list, called alike
    assert with_known_topics(weights, [None, None], ["a", "b"]) is weights


def test_a_run_takes_the_categories_that_its_corpus_names(world, taxonomy_file):
    keys = load_taxonomy(taxonomy_file).keys
    cache = SimpleNamespace(
        **{name: getattr(world.cache, name) for name in ("document", "position", "n_documents")}
    )
    cache.document_tokens = world.cache.document_tokens
    cache.topics = [keys[d % 2] for d in range(cache.n_documents)]
    assigned = assign_text(cache, decode, WordEncoder(), EffectsConfig(taxonomy=str(taxonomy_file)))
    expected = np.eye(len(keys))[assigned.windows.document % 2]
    assert np.array_equal(assigned.weights[:, :2], expected[:, :2])
    assert np.array_equal(assigned.shares, expected)
