"""Joint solutions of correlated latents."""

import numpy as np
import pytest
import torch
from handmade import HandMade

from mneme.attribution.geometry import make_geometry
from mneme.attribution.joint import coactivation, correlated_groups, flips, joint_betas
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


def solve(crosscoder, x, ridge=1e-9, threshold=0.1):
    geometry, sums = make_geometry(crosscoder), ScalingSums(4)
    pairs, codes, _ = encode_pair_sums(crosscoder, geometry, x, None)
    sums.update(pairs)
    together, seen = coactivation([(0, codes, len(x))], 4, 10**9)
    f = crosscoder.encode(x)
    group = correlated_groups(geometry, together, f.mean(0).numpy(), seen, threshold, 64)
    return f, together, group, joint_betas(geometry, sums, together, seen, len(x), group, ridge)


def test_coactivation_is_the_product_of_the_codes(twins):
    f, together, _, _ = solve(*twins)
    np.testing.assert_allclose(together.toarray(), (f.T @ f).numpy(), rtol=1e-9)


def test_only_latents_that_fire_together_in_related_directions_are_grouped(twins):
    assert list(solve(*twins)[2]) == [0, 0, -1, -1]
    assert list(solve(*twins, threshold=0.9)[2]) == [-1] * 4


def test_joint_betas_are_the_least_squares_solution(twins):
    crosscoder, x = twins
    f, _, _, joint = solve(crosscoder, x)
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
    f, _, _, joint = solve(crosscoder, x)
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
    from handmade import Codes

    together, seen = coactivation([(0, Codes(row, latent, f[row, latent]), n)], F, n)
    whole = correlated_groups(geometry, together, f.mean(0).numpy(), seen, 0.01, 64)
    cut = correlated_groups(geometry, together, f.mean(0).numpy(), seen, 0.01, 8)
    assert np.bincount(whole[whole >= 0]).max() > 30
    assert np.bincount(cut[cut >= 0], minlength=1).max() <= 8


def test_verdicts_that_the_joint_solution_contradicts_flip():
    verdict = np.array(["amplified", "amplified", "suppressed", "unchanged", "unchanged", "uncertain"])
    marginal = np.array([0.5, 0.5, -0.5, 0.0, 0.0, 0.5])
    joint = np.array([0.45, 0.02, 0.1, 0.05, 0.9, np.nan])
    assert list(flips(verdict, marginal, joint, 0.2, 0.0)) == [False, True, True, False, True, False]


def test_no_codes_means_no_groups(twins):
    crosscoder, _ = twins
    together, seen = coactivation([], 4, 10)
    group = correlated_groups(make_geometry(crosscoder), together, np.zeros(4), seen, 0.1, 64)
    assert list(group) == [-1] * 4
