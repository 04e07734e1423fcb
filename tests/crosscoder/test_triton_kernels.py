"""Triton's kernels against those of the CPU: by its interpreter, or with TRITON_INTERPRET=0 on a GPU."""

from __future__ import annotations

import os

import pytest
import torch
from test_kernels_reference import make_weights, rule

from mneme.crosscoder import kernels
from mneme.crosscoder.step import Weights, training_step

if "MNEME_REQUIRE_TRITON" not in os.environ:
    pytest.importorskip("triton", reason="triton is not installed: pip install 'mneme-diff[triton]'")
from mneme.crosscoder import triton_kernels

DEVICE = "cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda"


def problem(n_bags: int, rows: int, width: int, dtype: torch.dtype, seed: int = 0):
    """About 3 entries a bag, the first and the last without any."""
    g = torch.Generator().manual_seed(seed)
    bag = torch.randint(1, max(2, n_bags - 1), (3 * n_bags,), generator=g).sort().values
    index = torch.randint(rows, (3 * n_bags,), generator=g)
    weight = torch.randn(3 * n_bags, generator=g)
    return index, bag, weight, torch.randn(rows, width, generator=g).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [1, 24, 512, 700])
def test_bags_add_up_as_on_the_cpu(width, dtype):
    index, bag, weight, table = problem(11, 7, width, dtype)
    found = triton_kernels.weighted_bags(*(t.to(DEVICE) for t in (index, bag, weight, table)), 11).cpu()
    expected = kernels.weighted_bags(index, bag, weight, table.float(), 11)
    assert found.dtype == torch.float32  # sums are, whatever is gathered
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)
    assert not found[0].any() and not found[-1].any()


@pytest.mark.parametrize("width", [1, 24, 700, 1100])  # up to 18 slices of columns, added up 8 at a time
def test_dots_of_pairs_are_those_of_the_cpu(width):
    latent, row, _, right = problem(11, 7, width, torch.float32)
    left = torch.randn(11, width, generator=torch.Generator().manual_seed(1))
    found = triton_kernels.pair_dots(*(t.to(DEVICE) for t in (left, right, row, latent))).cpu()
    torch.testing.assert_close(found, kernels.pair_dots(left, right, row, latent), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [3, 130, 5000])
@pytest.mark.parametrize("bound", [0.0, 1.0, 50.0], ids=["half", "some", "none"])
def test_scanning_finds_what_exceeds_its_columns_cut(width, bound, dtype):
    g = torch.Generator().manual_seed(2)
    pre = torch.randn(5, width, generator=g).to(dtype)
    cut = (bound + torch.rand(width, generator=g)).to(dtype)
    positions = triton_kernels.scan(pre.to(DEVICE), cut.to(DEVICE))
    assert torch.equal(positions.cpu(), (pre > cut).flatten().nonzero().squeeze(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("hint", [0.0, 0.3, 1.0, 1.9, 50.0])
def test_selection_is_that_of_a_sort_whatever_the_hint(hint, dtype, monkeypatch):
    monkeypatch.setattr(kernels, "triton_kernels", lambda device: triton_kernels)
    g = torch.Generator().manual_seed(7)
    pre = torch.randn(50, 130, generator=g).to(dtype)
    norms = 0.5 + torch.rand(130, generator=g)
    kept, smallest = kernels.largest_products(pre.to(DEVICE), norms.to(DEVICE), 400, hint)
    values = (pre * norms.to(dtype)).float().flatten()
    order = torch.argsort(values, descending=True, stable=True)[:400]  # of equal ones the first
    assert torch.equal(kept.cpu(), order.sort().values)
    assert smallest == values[order[-1]]


def test_nothing_active_gives_zeros():
    none = torch.zeros(0, dtype=torch.int64, device=DEVICE)
    table = torch.randn(5, 6, device=DEVICE)
    assert not triton_kernels.weighted_bags(none, none, none.float(), table, 4).any()
    assert triton_kernels.pair_dots(table, table, none, none).shape == (0,)
    assert triton_kernels.weighted_bags(none, none, none.float(), table, 0).shape == (0, 6)


@pytest.mark.parametrize("variant", ["batchtopk", "topk", "l1"])
@pytest.mark.parametrize("bf16", [False, True])
def test_a_whole_step_is_the_dense_one(variant, bf16, monkeypatch):
    calls = []
    monkeypatch.setattr(kernels, "triton_kernels", lambda device: calls.append(device) or triton_kernels)
    weights = Weights(*(part.to(DEVICE) for part in make_weights(48, 16, seed=3)))
    x = torch.randn(20, 32, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    dead = (torch.arange(48) % 5 == 0).to(DEVICE)
    settings = rule(variant, k=4.0, bf16=bf16)
    if bf16 and DEVICE == "cpu":  # its two products round differently, and would select different pairs
        monkeypatch.setattr(
            "mneme.crosscoder.step.affine", lambda x, weight, bias: torch.addmm(bias, x, weight.T)
        )
    dense, step = (training_step(weights, x, settings, dead, sparse=sparse) for sparse in (False, True))
    assert calls
    near = 2e-2 if bf16 else 1e-5  # the dense step's gradients are in bfloat16 then
    assert float(step.loss) == pytest.approx(float(dense.loss), rel=near)
    assert float(step.aux_loss) == pytest.approx(float(dense.aux_loss), rel=near)
    assert step.l0 == dense.l0
    for name, a, b in zip(Weights._fields, step.grads, dense.grads, strict=True):
        assert float((a - b).norm() / b.norm()) < near, name


@pytest.mark.skipif(DEVICE == "cpu", reason="no GPU")
def test_a_step_on_a_gpu_is_that_of_a_processor():
    weights = make_weights(512, 64, seed=8)
    x = torch.randn(128, 128, generator=torch.Generator().manual_seed(9))
    dead = torch.arange(512) % 7 == 0
    here, there = (
        training_step(
            Weights(*(part.to(d) for part in weights)), x.to(d), rule(k=16.0), dead.to(d), sparse=True
        )
        for d in ("cpu", DEVICE)
    )
    assert float(here.loss) == pytest.approx(float(there.loss), rel=1e-5)
    for name, a, b in zip(Weights._fields, here.grads, there.grads, strict=True):
        assert float((a - b.cpu()).norm() / a.norm()) < 1e-5, name


def test_the_same_step_twice_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr(kernels, "triton_kernels", lambda device: triton_kernels)
    weights = Weights(*(part.to(DEVICE) for part in make_weights(48, 16, seed=3)))
    x = torch.randn(40, 32, generator=torch.Generator().manual_seed(4)).to(DEVICE)
    none = torch.zeros(48, dtype=torch.bool, device=DEVICE)
    first, second = (training_step(weights, x, rule(k=4.0, bf16=True), none, sparse=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.grads, second.grads, strict=True))
