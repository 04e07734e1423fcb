"""Joint solutions of correlated latents."""

import numpy as np
import pytest
import torch
from handmade import Codes, HandMade

from mneme.attribution.coactivation import coactivation, make_pairs, pairs_within, related_pairs
from mneme.attribution.geometry import make_geometry
from mneme.attribution.joint import correlated_groups, flips, joint_betas
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.scaling import ScalingSums


@pytest.fixture
def twins():
    """Latents 0 and 1 fire together half of the time, 60 degrees apart; 2 and 3 are alone."""
    g = torch.Generator().manual_seed(0)
    eye = torch.eye(10, dtype=torch.float64)
    directions = torch.stack([eye[0], 0.5 * eye[0] + 0.75**0.5 * eye[1], eye[2], eye[3]])
    encoder = torch.linalg.pinv(directions)[None].repeat(2, 1, 1) / 2
    crosscoder = HandMade(encoder, directions.repeat(2, 1, 1), torch.zeros(2, 10, dtype=torch.float64), 0.3)
    n = 2000
    fires = torch.rand(n, 4, generator=g) < 0.2
    fires[:, 1] |= fires[:, 0] & (torch.rand(n, generator=g) < 0.9)
    f = fires * (torch.rand(n, 4, generator=g, dtype=torch.float64) + 0.5)
    x = torch.einsum("bf,mfd->bmd", f, crosscoder.decoder)
    x += 0.01 * torch.randn(x.shape, generator=g, dtype=torch.float64)
    return crosscoder, x


class Shards:
    """Codes as CodeCache gives them, cut into shards of `size` tokens."""

    def __init__(self, codes, n, size=None):
        self.codes, self.n, self.size = codes, n, size or n

    def shards(self):
        for start in range(0, self.n, self.size):
            mine = (self.codes.row >= start) & (self.codes.row < start + self.size)
            row, latent, value = (part[mine] for part in self.codes)
            yield start, Codes(row - start, latent, value), min(self.size, self.n - start)


def all_pairs(F):
    return make_pairs(*np.triu_indices(F, 1), F)


def solve(crosscoder, x, ridge=1e-9, threshold=0.1):
    geometry, sums = make_geometry(crosscoder), ScalingSums(4)
    pairs, codes, _ = encode_pair_sums(crosscoder, geometry, x, None)
    sums.update(pairs)
    shards, directions, f = Shards(codes, len(x), 700), geometry.directions, crosscoder.encode(x)
    related = coactivation(shards, related_pairs(directions, threshold), 10**9)
    group = correlated_groups(related, directions.numpy(), f.mean(0).numpy(), threshold, 64)
    within = coactivation(shards, pairs_within(group), 10**9)
    return f, group, joint_betas(geometry, sums, within, len(x), group, ridge)


@pytest.mark.parametrize("threads", [1, 3])
def test_coactivation_is_the_product_of_the_codes(twins, threads):
    crosscoder, x = twins
    f, codes = crosscoder.encode(x), crosscoder.encode_sparse(x)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        together = coactivation(Shards(codes, len(x), 300), all_pairs(4), 10**9)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(together.matrix().toarray(), (f.T @ f).numpy(), rtol=1e-9)
    assert together.n_tokens == len(x)


def test_only_chosen_pairs_are_counted_and_only_the_first_tokens(twins):
    crosscoder, x = twins
    f = crosscoder.encode(x)[:600]
    chosen = make_pairs(np.array([2, 0]), np.array([3, 1]), 4)
    together = coactivation(Shards(crosscoder.encode_sparse(x), len(x), 300), chosen, 500)
    assert together.n_tokens == 600
    assert list(zip(chosen.first(), chosen.other, strict=True)) == [(0, 1), (2, 3)]
    np.testing.assert_allclose(together.products, [(f[:, 0] @ f[:, 1]), (f[:, 2] @ f[:, 3])], rtol=1e-9)
    np.testing.assert_allclose(together.squares, f.square().sum(0), rtol=1e-9)


def test_related_pairs_are_all_whose_directions_are_near(monkeypatch):
    monkeypatch.setattr("mneme.attribution.coactivation._CHUNK", 90)  # a few rows at a time
    x = torch.nn.functional.normalize(torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    pairs = related_pairs(x, 0.4)
    expected = [(j, k) for j in range(30) for k in range(j + 1, 30) if abs(float(x[j] @ x[k])) >= 0.4]
    assert list(zip(pairs.first(), pairs.other, strict=True)) == expected


def test_links_do_not_depend_on_how_many_pairs_are_looked_at_once(twins, monkeypatch):
    whole = solve(*twins, threshold=0.01)[1]
    monkeypatch.setattr("mneme.attribution.joint._PAIRS", 1)
    assert list(solve(*twins, threshold=0.01)[1]) == list(whole)


def test_pairs_within_groups():
    group = np.array([1, -1, 0, 1, 0, -1, 1])
    pairs = pairs_within(group)
    assert list(zip(pairs.first(), pairs.other, strict=True)) == [(0, 3), (0, 6), (2, 4), (3, 6)]
    assert len(pairs_within(np.full(3, -1)).other) == 0


def test_only_latents_that_fire_together_in_related_directions_are_grouped(twins):
    assert list(solve(*twins)[1]) == [0, 0, -1, -1]
    assert list(solve(*twins, threshold=0.9)[1]) == [-1] * 4


def test_joint_betas_are_the_least_squares_solution(twins):
    crosscoder, x = twins
    f, _, joint = solve(crosscoder, x)
    x_hat = torch.einsum("bf,mfd->bmd", f, crosscoder.decoder)
    for m, column in enumerate(("beta_joint_base", "beta_joint_tuned")):
        y = x[:, m] - x_hat[:, m] + f[:, :2] @ crosscoder.decoder[m, :2]
        design = np.stack(
            [torch.outer(f[:, j], crosscoder.decoder[1, j]).reshape(-1).numpy() for j in (0, 1)], 1
        )
        expected = np.linalg.lstsq(design, y.reshape(-1).numpy())[0]
        np.testing.assert_allclose(joint[column], expected, rtol=1e-6)


def test_variance_inflation_is_that_of_two_correlated_regressors(twins):
    crosscoder, x = twins
    f, _, joint = solve(crosscoder, x)
    a, b = (torch.outer(f[:, j], crosscoder.decoder[1, j]).reshape(-1) for j in (0, 1))
    r2 = float((a @ b) ** 2 / ((a @ a) * (b @ b)))
    np.testing.assert_allclose(joint["vif"], 1 / (1 - r2), rtol=1e-9)


def test_a_group_too_large_is_cut():
    n, F = 500, 40
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(8, generator=g, dtype=torch.float64)
    decoder = (shared + 0.3 * torch.randn(F, 8, generator=g, dtype=torch.float64)).repeat(2, 1, 1)
    geometry = make_geometry(HandMade(decoder.transpose(1, 2), decoder, torch.zeros(2, 8), 0))
    f = torch.rand(n, 1, generator=g) * (torch.rand(n, F, generator=g) < 0.7)
    row, latent = f.nonzero(as_tuple=True)
    together = coactivation(Shards(Codes(row, latent, f[row, latent]), n), all_pairs(F), n)
    directions, mean = geometry.directions.numpy(), f.mean(0).numpy()
    whole = correlated_groups(together, directions, mean, 0.01, 64)
    cut = correlated_groups(together, directions, mean, 0.01, 8)
    assert np.bincount(whole[whole >= 0]).max() > 30
    assert np.bincount(cut[cut >= 0], minlength=1).max() <= 8


def test_counting_related_pairs_only_groups_as_counting_all_does():
    n, F, threshold = 4000, 60, 0.1
    g = torch.Generator().manual_seed(1)
    shared = torch.randn(12, 8, generator=g, dtype=torch.float64).repeat_interleave(5, 0)
    decoder = (shared + torch.randn(F, 8, generator=g, dtype=torch.float64)).repeat(2, 1, 1)
    directions = make_geometry(HandMade(decoder.transpose(1, 2), decoder, torch.zeros(2, 8), 0)).directions
    bursts = (torch.rand(n, 12, generator=g) < 0.1).repeat_interleave(5, 1)
    f = torch.rand(n, F, generator=g) * bursts * (torch.rand(n, F, generator=g) < 0.6)
    row, latent = f.nonzero(as_tuple=True)
    shards, mean = Shards(Codes(row, latent, f[row, latent]), n), f.mean(0).numpy()
    related = related_pairs(directions, threshold)
    assert 0 < len(related.other) < F * (F - 1) // 2
    few, every = (
        correlated_groups(coactivation(shards, pairs, n), directions.numpy(), mean, threshold, 64)
        for pairs in (related, all_pairs(F))
    )
    assert list(few) == list(every)
    assert len(set(every)) > 3


def test_verdicts_that_the_joint_solution_contradicts_flip():
    verdict = np.array(["amplified", "amplified", "suppressed", "unchanged", "unchanged", "uncertain"])
    marginal = np.array([0.5, 0.5, -0.5, 0.0, 0.0, 0.5])
    joint = np.array([0.45, 0.02, 0.1, 0.05, 0.9, np.nan])
    assert list(flips(verdict, marginal, joint, 0.2, 0.0)) == [False, True, True, False, True, False]


def test_no_codes_means_no_groups(twins):
    directions = make_geometry(twins[0]).directions
    together = coactivation(None, related_pairs(directions, 0.1), 10)
    group = correlated_groups(together, directions.numpy(), np.zeros(4), 0.1, 64)
    assert list(group) == [-1] * 4
