"""Latent scaling against per-latent least squares, and against itself."""

import numpy as np
import pytest
import torch
from handmade import HandMade

from mneme._util.errors import ActivationError
from mneme.attribution.geometry import make_geometry
from mneme.attribution.pairs import bag_sums, encode_pair_sums
from mneme.attribution.scaling import TARGETS, ScalingSums, latent_scaling, scaling_frame


def raw(n=300, d=8, seed=1):
    return torch.randn(n, 2, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def targets_by_hand(crosscoder, x, j):
    """(N, 2, d) per target, written out from the definitions."""
    f = crosscoder.encode(x)
    x_hat = torch.einsum("bf,mfd->bmd", f, crosscoder.decoder) + crosscoder.bias
    removed = x_hat - f[:, j, None, None] * crosscoder.decoder[:, j]
    return {
        "error": x - removed,
        "reconstruction": x_hat - crosscoder.bias,
        "activation": x - crosscoder.bias,
    }


def test_every_beta_is_the_least_squares_solution(make_crosscoder):
    crosscoder, x = make_crosscoder(), raw()
    frame = latent_scaling(crosscoder, x, batch_size=64)
    f = crosscoder.encode(x)
    for j in range(12):
        by_hand = targets_by_hand(crosscoder, x, j)
        for target in TARGETS:
            for m, model in enumerate(("base", "tuned")):
                for q, probe in enumerate(("base", "tuned")):
                    design = torch.outer(f[:, j], crosscoder.decoder[q, j]).reshape(-1, 1)
                    expected = np.linalg.lstsq(design.numpy(), by_hand[target][:, m].reshape(-1).numpy())[0][
                        0
                    ]
                    assert frame[f"beta_{target}_{model}_{probe}"][j] == pytest.approx(expected, rel=1e-9)


def test_error_beta_follows_from_the_other_two(make_crosscoder):
    crosscoder = make_crosscoder()
    frame, geometry = latent_scaling(crosscoder, raw()), make_geometry(crosscoder)
    own = geometry.dots[0, 1] / geometry.dots[1, 1]
    derived = frame.beta_activation_base_tuned - frame.beta_reconstruction_base_tuned + own
    np.testing.assert_allclose(frame.beta_error_base_tuned, derived, rtol=1e-9)


def test_the_main_probe_is_the_larger_decoder(make_crosscoder):
    crosscoder = make_crosscoder()
    frame = latent_scaling(crosscoder, raw())
    larger = np.where(frame.norm_tuned >= frame.norm_base, "tuned", "base")
    assert (frame.probe == larger).all() and len(set(larger)) == 2
    for j, probe in enumerate(larger):
        assert frame.beta_base[j] == frame[f"beta_error_base_{probe}"][j]


def test_exclusive_latents_get_zero_and_one():
    """A perfect dictionary: x is exactly f times the decoders, one latent per kind, never two at once."""
    eye = torch.eye(6, dtype=torch.float64)
    decoder = torch.stack([eye[:3], eye[:3]])
    decoder[0, 1] = 0  # tuned only
    decoder[1, 2] = 0  # base only
    encoder = torch.zeros(2, 6, 3, dtype=torch.float64)
    encoder[1, 0, 0] = encoder[1, 1, 1] = encoder[0, 2, 2] = 1
    which = torch.arange(90) % 3
    x = (1 + torch.rand(90, 1, 1, dtype=torch.float64)) * decoder[:, which].transpose(0, 1)
    frame = latent_scaling(HandMade(encoder, decoder, torch.zeros(2, 6, dtype=torch.float64)), x)
    np.testing.assert_allclose(frame.beta_base, [1, 0, 1], atol=1e-12)
    np.testing.assert_allclose(frame.beta_tuned, [1, 1, 0], atol=1e-12)
    np.testing.assert_allclose(frame.delta_norm, [0.5, 1, 0])
    assert np.isnan(frame.nu_error[2]) and frame.nu_error[1] == pytest.approx(0, abs=1e-12)


def test_raw_units_do_not_depend_on_batches_or_merging(make_crosscoder):
    crosscoder, x = make_crosscoder(), raw()
    geometry = make_geometry(crosscoder)
    parts = [ScalingSums(12), ScalingSums(12)]
    for part, piece in zip(parts, x.split(140), strict=False):
        part.update(encode_pair_sums(crosscoder, geometry, piece, None)[0])
    parts[1].update(encode_pair_sums(crosscoder, geometry, x[280:], None)[0])
    parts[0].merge(parts[1])
    merged, whole = scaling_frame(geometry, parts[0]), latent_scaling(crosscoder, x)
    np.testing.assert_allclose(merged.beta_tuned, whole.beta_tuned, rtol=1e-12)
    assert (merged.n_active == whole.n_active).all()


def test_bfloat16_activations_agree_with_double(make_crosscoder):
    x = raw().bfloat16()
    half = latent_scaling(make_crosscoder(dtype=torch.float32), x)
    full = latent_scaling(make_crosscoder(), x.double())
    np.testing.assert_allclose(half.beta_tuned, full.beta_tuned, rtol=2e-3, atol=2e-3)


def test_a_latent_that_never_fires_has_no_betas(make_crosscoder):
    crosscoder = make_crosscoder()
    crosscoder.encoder[:, :, 3] = 0
    crosscoder.decoder[0, 5] = 0
    frame = latent_scaling(crosscoder, raw())
    assert frame.n_active[3] == 0 and np.isnan(frame.beta_base[3]) and np.isnan(frame.nu_error[3])
    assert np.isnan(frame.beta_error_base_base[5]) and np.isnan(frame.decoder_cosine[5])
    assert np.isfinite(frame.beta_tuned[5])


def test_documents_are_counted_once_across_batches(make_crosscoder):
    crosscoder, x = make_crosscoder(), raw()
    documents = np.arange(300) // 37
    frame = latent_scaling(crosscoder, x, documents, batch_size=50)
    fires = (crosscoder.encode(x) > 0).numpy()
    expected = [len(set(documents[fires[:, j]])) for j in range(12)]
    assert list(frame.n_documents) == expected


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_refused(make_crosscoder, bad):
    x = raw()
    x[7, 1, 2] = bad
    with pytest.raises(ActivationError, match="NaN or infinity"):
        latent_scaling(make_crosscoder(), x)


def test_another_width_is_refused(make_crosscoder):
    with pytest.raises(ActivationError, match=r"\(300, 2, 5\)"):
        latent_scaling(make_crosscoder(), raw(d=5))


@pytest.mark.parametrize("threads", [1, 3])
def test_both_ways_to_the_sums_agree(make_crosscoder, threads, monkeypatch):
    crosscoder, x = make_crosscoder(), raw()
    geometry, documents = make_geometry(crosscoder), np.arange(300) // 37
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    fused, codes, fused_tokens = encode_pair_sums(crosscoder, geometry, x, documents)
    bags, tokens = bag_sums(geometry, x, codes, documents)
    order = np.lexsort((fused.latent, fused.document))
    for mine, theirs in zip(fused, bags, strict=True):
        np.testing.assert_allclose(mine[order], theirs, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(fused_tokens, tokens, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10)
    residual = x - crosscoder.decode_sparse(codes, 300)
    np.testing.assert_allclose(tokens.residual, residual.square().sum((0, 2)), rtol=1e-10)


def test_sums_that_overflow_are_not_called_bad_activations(make_crosscoder):
    x = raw()
    x[3] = 1e200
    assert np.isinf(
        encode_pair_sums(make_crosscoder(), make_geometry(make_crosscoder()), x, None)[2].square
    ).all()
