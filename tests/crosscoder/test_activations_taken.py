"""Activations as users have them: arrays, tensors with gradients, batches. All give what a plain tensor gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mneme._util.errors import ActivationError
from mneme.attribution import latent_scaling
from mneme.crosscoder import Crosscoder, CrosscoderConfig, train_crosscoder

X = np.random.default_rng(0).normal(size=(600, 2, 6)).astype(np.float32)
CONFIG = CrosscoderConfig(n_latents=12, k=2, batch_size=128, epochs=1, encoder_dtype="float32")


def _read_only() -> np.ndarray:
    x = X.copy()
    x.setflags(write=False)
    return x


FORMS: dict[str, Callable[[], Any]] = {
    "array": lambda: X,
    "array of doubles": lambda: X.astype(np.float64),
    "array of another byte order": lambda: X.astype(">f4"),
    "array not to be written": _read_only,
    "array backwards": lambda: X[::-1][::-1],
    "tensor with a gradient": lambda: torch.tensor(X, requires_grad=True),
    "tensor within a graph": lambda: torch.tensor(X, requires_grad=True) * 1,
    "batches of arrays": lambda: [X[:100], X[100:]],
    "batches with gradients": lambda: iter(
        [torch.tensor(X[:100], requires_grad=True), torch.tensor(X[100:])]
    ),
}


@pytest.fixture(scope="module")
def plain() -> Crosscoder:
    return train_crosscoder(torch.from_numpy(X), CONFIG)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_trains_and_scales_as_a_tensor_does(form: str, plain: Crosscoder) -> None:
    found = train_crosscoder(FORMS[form](), CONFIG)
    assert torch.equal(found.W_dec, plain.W_dec) and not found.W_dec.requires_grad
    expected = latent_scaling(plain, torch.from_numpy(X))
    np.testing.assert_allclose(
        latent_scaling(plain, FORMS[form]()).select_dtypes("number"),
        expected.select_dtypes("number"),
        rtol=1e-4,
    )
    scale = plain.scale.clone()
    assert torch.equal(plain.with_normaliser(FORMS[form]()).scale, scale)
    if not form.startswith("batches"):
        codes = plain.encode(FORMS[form]())
        assert torch.equal(codes, plain.encode(torch.from_numpy(X))) and not codes.requires_grad


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (X.astype(complex), "not ndarray of complex128"),
        (X.astype(object), "not ndarray of object"),
        (torch.ones(4, 2, 6, dtype=torch.bool), r"not Tensor of torch\.bool"),
        ("activations.pt", "not str"),
        ([1.0, 2.0], "not float"),
        (3, "not int"),
        (X[:, 0], r"must have shape \(tokens, 2, width\)"),
        ([X[:5], X[:5, :, :3]], "different widths"),
        ([], "no activations"),
    ],
)
def test_what_holds_no_activations_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ActivationError, match=told):
        train_crosscoder(given, CONFIG)
