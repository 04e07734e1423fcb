"""Both kernels against float64 loops and central differences, and against each other at a larger size."""

from __future__ import annotations

import crosscoder_reference as reference
import numpy as np
import pytest
import torch

from mneme.crosscoder import kernels
from mneme.crosscoder.kernels import largest, largest_products
from mneme.crosscoder.step import Rule, Weights, training_step

B, D_WIDTH, F, K, AUX_K = 6, 4, 12, 2, 2
DEAD = [1, 4, 7, 10]
L1_WEIGHT = 0.7


def make_weights(n_latents: int, width: int, seed: int = 0) -> Weights:
    """Unlike in encoder and decoder, so that no gradient is right by symmetry."""
    generator = torch.Generator().manual_seed(seed)
    enc = torch.randn(n_latents, 2 * width, generator=generator) / width**0.5
    dec = torch.randn(n_latents, 2 * width, generator=generator) / width**0.5
    b_enc = 0.1 * torch.randn(n_latents, generator=generator)
    return Weights(enc, b_enc, dec, 0.1 * torch.randn(2 * width, generator=generator))


def rule(variant: str = "batchtopk", **changes) -> Rule:
    values = {"k": K, "auxk_alpha": 0.5, "aux_k": AUX_K, "l1_weight": L1_WEIGHT, "hint": 0.0, "bf16": False}
    return Rule(variant, **{**values, **changes})


def as_plain(weights: Weights) -> reference.Plain:
    return reference.Plain(*(part.double().numpy() for part in weights))


@pytest.fixture
def problem():
    weights = make_weights(F, D_WIDTH)
    x = torch.randn(B, 2 * D_WIDTH, generator=torch.Generator().manual_seed(5))
    dead = torch.zeros(F, dtype=torch.bool)
    dead[DEAD] = True
    return weights, x, dead


def active_pairs(variant: str, p: reference.Plain, x: np.ndarray) -> set[tuple[int, int]]:
    if variant == "batchtopk":
        return reference.batchtopk_pairs(p, x, K)
    return reference.topk_pairs(p, x, K) if variant == "topk" else reference.l1_pairs(p, x)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("variant", ["batchtopk", "topk", "l1"])
def test_a_step_equals_the_float64_loops(problem, variant, sparse):
    weights, x, dead = problem
    step = training_step(weights, x, rule(variant), dead, sparse=sparse)

    p, plain_x = as_plain(weights), x.double().numpy()
    pairs = active_pairs(variant, p, plain_x)
    residual = plain_x - reference.reconstruct(p, plain_x, pairs)
    auxiliary = reference.dead_pairs(p, plain_x, DEAD, AUX_K)

    def loss(q: reference.Plain) -> float:
        penalty = L1_WEIGHT * reference.l1_penalty(q, plain_x, pairs) if variant == "l1" else 0.0
        return reference.squared_loss(q, plain_x, pairs) + penalty

    def aux(q: reference.Plain) -> float:
        return reference.aux_loss(q, plain_x, auxiliary, residual)

    assert float(step.loss) == pytest.approx(loss(p), rel=1e-5)
    assert float(step.aux_loss) == pytest.approx(aux(p), rel=1e-5)
    assert step.l0 == pytest.approx(len(pairs) / B)
    assert set(step.fired.nonzero().squeeze(1).tolist()) == {j for _, j in pairs}
    expected_error = (residual**2).reshape(B, 2, D_WIDTH).sum(2).mean(0)
    np.testing.assert_allclose(step.squared_error.numpy(), expected_error, rtol=1e-5)
    if variant != "l1":
        s = reference.selection_values(p, plain_x)
        assert step.smallest == pytest.approx(min(s[pair] for pair in pairs), rel=1e-5)
    expected = reference.numeric_gradients(lambda q: loss(q) + 0.5 * aux(q), p)
    for name, found, wanted in zip(Weights._fields, step.grads, expected, strict=True):
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("variant", ["batchtopk", "topk", "l1"])
@pytest.mark.parametrize("share_dead", [0.0, 0.3])
def test_the_sparse_step_equals_the_dense_one(variant, share_dead):
    width, n_latents, batch = 32, 256, 96
    weights = make_weights(n_latents, width, seed=3)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(batch, 2 * width, generator=generator)
    dead = torch.rand(n_latents, generator=generator) < share_dead
    settings = rule(variant, k=8.0, aux_k=width // 2, auxk_alpha=1 / 32)
    dense = training_step(weights, x, settings, dead, sparse=False)
    sparse = training_step(weights, x, settings, dead, sparse=True)
    assert float(sparse.loss) == pytest.approx(float(dense.loss), rel=1e-5)
    assert float(sparse.aux_loss) == pytest.approx(float(dense.aux_loss), rel=1e-5)
    assert (float(dense.aux_loss) > 0) == (share_dead > 0)
    assert torch.equal(sparse.fired, dense.fired)
    assert (sparse.l0, sparse.smallest) == (dense.l0, dense.smallest)
    for name, a, b in zip(Weights._fields, sparse.grads, dense.grads, strict=True):
        assert float((a - b).norm() / b.norm()) < 1e-5, name


def test_aux_gradients_reach_dead_latents_only(problem):
    weights, x, dead = problem
    with_aux = training_step(weights, x, rule(), dead, sparse=True).grads
    without = training_step(weights, x, rule(auxk_alpha=0.0), dead, sparse=True).grads
    changed = (with_aux.enc - without.enc).abs().sum(1) > 0
    assert changed.any()
    assert not changed[~dead].any()
    assert torch.equal(with_aux.b_dec, without.b_dec)


@pytest.mark.parametrize("hint", [0.0, 0.5, 1.2, 50.0], ids=["none", "low", "near", "too high"])
def test_selection_is_exact_whatever_the_hint(hint):
    values = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    kept, smallest = largest(values, 120, hint)
    order = np.argsort(-values.double().numpy().ravel())[:120]
    assert sorted(order.tolist()) == kept.tolist()
    assert smallest == pytest.approx(float(values.ravel()[order[-1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("hint", [0.3, 1.0, 1.9, 50.0], ids=["low", "near", "at the edge", "too high"])
def test_the_compiled_search_selects_what_a_sort_does(dtype, threads, hint):
    generator = torch.Generator().manual_seed(7)
    pre = torch.randn(50, 130, generator=generator).to(dtype)  # no multiple of the search's blocks
    norms = (0.5 + torch.rand(130, generator=generator)).index_fill(0, torch.tensor([4]), 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        kept, smallest = largest_products(pre, norms, 400, hint)
    finally:
        torch.set_num_threads(before)
    values = (pre * norms.to(dtype)).float().numpy().ravel()
    order = np.argsort(-values, kind="stable")[:400]  # of equal ones the first
    assert kept.tolist() == sorted(order.tolist())
    assert smallest == values[order[-1]]


@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_decoding_equals_a_dense_product(threads):
    generator = torch.Generator().manual_seed(2)
    x, dec = torch.randn(9, 14, generator=generator), torch.randn(20, 14, generator=generator)
    b_dec = torch.randn(14, generator=generator)
    f = torch.randn(9, 20, generator=generator) * (torch.rand(9, 20, generator=generator) < 0.4)
    f[3] = 0  # a token on which nothing fires
    row, latent = f.nonzero(as_tuple=True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        codes = kernels.SparseCodes(row, latent, f[row, latent])
        residual, dots = kernels.residual_and_dots(codes, x, dec, b_dec)
    finally:
        torch.set_num_threads(before)
    expected = x - f @ dec - b_dec
    torch.testing.assert_close(residual, expected)
    torch.testing.assert_close(dots, (expected @ dec.T)[row, latent])


def test_what_is_too_large_for_one_search_is_searched_in_pieces(monkeypatch):
    values = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    whole = largest(values, 120, 0.0)
    monkeypatch.setattr(kernels, "_AT_ONCE", 1000)
    pieces = largest(values, 120, 0.0)
    assert torch.equal(whole[0], pieces[0]) and whole[1] == pieces[1]


def test_selection_keeps_only_positive_values():
    values = torch.tensor([[-1.0, 2.0, 0.0], [3.0, -4.0, -0.5]])
    kept, smallest = largest(values, 5, 0.0)
    assert kept.tolist() == [1, 3]
    assert smallest == 2.0
    assert largest(-values.abs(), 5, 0.0)[1] == 0.0


def test_a_bf16_encoder_selects_nearly_the_same_pairs():
    weights = make_weights(512, 64, seed=8)
    x = torch.randn(128, 128, generator=torch.Generator().manual_seed(9))
    none = torch.zeros(512, dtype=torch.bool)
    exact = training_step(weights, x, rule(k=16.0), none, sparse=True)
    rounded = training_step(weights, x, rule(k=16.0, bf16=True), none, sparse=True)
    assert float(rounded.loss) == pytest.approx(float(exact.loss), rel=5e-3)
    for name, a, b in zip(Weights._fields, rounded.grads, exact.grads, strict=True):
        assert float((a - b).norm() / b.norm()) < 0.2, name
