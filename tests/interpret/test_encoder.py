from __future__ import annotations

import numpy as np
import pytest
import torch

from mneme.errors import ModelError
from mneme.interpret.encoder import SentenceEncoder, installed_encoder


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(dtype="float32")


def test_vectors_have_length_one_and_like_meanings_are_near(encoder: SentenceEncoder) -> None:
    vectors = encoder.embed(["A virus infects cells.", "Pathogens cause infection.", "The court's verdict."])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_batching_by_length_changes_nothing(encoder: SentenceEncoder) -> None:
    texts = ["short", "a much longer text about rivers, lakes and seas " * 9, "", "middle sized text here"]
    together = encoder.embed(texts)
    alone = np.concatenate([encoder.embed([text]) for text in texts])
    assert np.allclose(together, alone, atol=1e-5)


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
    with pytest.raises(ModelError, match="make setup"):
        SentenceEncoder(tmp_path).embed(["x"])
