"""Intervals and p-values against brute force and simulation."""

import numpy as np
import pytest
import torch
from scipy import stats

from mneme.attribution.bootstrap import BootstrapSums
from mneme.attribution.evidence import (
    LOG_LIMIT,
    DocumentJoiner,
    DocumentMoments,
    DocumentShares,
    fieller_interval,
    margin_p_values,
)
from mneme.attribution.geometry import make_geometry
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.scaling import latent_scaling


def rows_of(base, tuned):
    """DocumentShares of a (F, documents) table of shares."""
    F, D = base.shape
    document, latent = (i.reshape(-1) for i in np.meshgrid(np.arange(D), np.arange(F), indexing="ij"))
    shares = np.stack([base.T.reshape(-1), tuned.T.reshape(-1)], 1)
    return DocumentShares(document, latent, np.abs(shares[:, 0]), shares, np.zeros((len(latent), 8)))


def moments_of(base, tuned):
    moments = DocumentMoments(len(base))
    moments.update(rows_of(base, tuned))
    return moments


def ratio_data(F=1500, D=12, ratio=1.5, noise=0.3, seed=0, spread=0.7):
    """Shares whose population ratio is `ratio`; documents of very unequal weight."""
    rng = np.random.default_rng(seed)
    weight = np.exp(rng.normal(0, spread, (F, D)))
    base = weight + np.sqrt(weight) * rng.normal(0, noise, (F, D))
    return base, ratio * weight + np.sqrt(weight) * rng.normal(0, noise, (F, D))


@pytest.mark.parametrize("documents", [4, 12, 60])
def test_intervals_cover_the_truth(documents):
    low, high = fieller_interval(moments_of(*ratio_data(D=documents)), 0.95)
    covered = np.mean((low <= np.log(1.5)) & (np.log(1.5) <= high))
    assert 0.93 <= covered <= 0.985  # cautious with few documents, never too narrow


def test_interval_ends_are_where_the_t_test_starts_to_reject():
    base, tuned = ratio_data(F=20, D=9, seed=3, spread=0.2)
    low, high = fieller_interval(moments_of(base, tuned), 0.9)
    for j in range(20):
        for end in (low[j], high[j]):
            # sum of e = tuned - r base differs from 0 with p = 0.1 exactly there
            e = tuned[j] - np.exp(end) * base[j]
            assert stats.ttest_1samp(e, 0).pvalue == pytest.approx(0.1, rel=1e-6)


def test_p_values_mostly_agree_with_the_interval():
    moments = moments_of(*ratio_data(F=400, D=20, ratio=1.35))
    low, high = fieller_interval(moments, 0.95)
    p = margin_p_values(moments, 0.2)
    assert ((p < 0.05) == ((low > 0.2) | (high < -0.2))).mean() > 0.9
    assert 0 < (p < 0.05).mean() < 1


@pytest.mark.parametrize("spread", [0.7, 1.5])
@pytest.mark.parametrize("documents", [4, 15, 60])
def test_p_values_are_valid_at_the_edge_of_the_margin(documents, spread):
    moments = moments_of(*ratio_data(F=4000, D=documents, ratio=np.exp(0.2), seed=5, spread=spread))
    p = margin_p_values(moments, 0.2)
    # 0.025 of them: only one edge is near
    assert (p < 0.05).mean() < 0.035
    assert (p < 0.002).mean() < 0.004


def test_documents_of_unequal_length_do_not_hide_a_constant_ratio():
    moments = moments_of(*ratio_data(F=50, D=60, ratio=2.5, noise=0.1, spread=1.2))
    assert (margin_p_values(moments, 0.2) < 1e-6).all()


def test_swapping_the_models_mirrors_everything():
    base, tuned = ratio_data(F=50, D=7)
    there, back = moments_of(base, tuned), moments_of(tuned, base)
    low, high = fieller_interval(there)
    mirrored_low, mirrored_high = fieller_interval(back)
    np.testing.assert_allclose(low, -mirrored_high, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(high, -mirrored_low, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(margin_p_values(there, 0.2), margin_p_values(back, 0.2), rtol=1e-8)


def test_a_latent_only_one_model_holds_has_an_interval_open_on_that_side():
    rng = np.random.default_rng(0)
    weight = np.exp(rng.normal(0, 0.5, (200, 20)))
    moments = moments_of(0.01 * rng.normal(size=weight.shape), weight)
    low, high = fieller_interval(moments)
    assert (low > 3).all() and (high == LOG_LIMIT).mean() > 0.9
    assert (margin_p_values(moments, 0.2) < 1e-4).all()


def test_noise_in_both_models_is_no_evidence():
    rng = np.random.default_rng(0)
    moments = moments_of(rng.normal(size=(500, 10)), rng.normal(size=(500, 10)))
    assert (margin_p_values(moments, 0.2) < 0.05).mean() < 0.06
    low, high = fieller_interval(moments)
    assert np.mean((low == -LOG_LIMIT) & (high == LOG_LIMIT)) > 0.5


def test_one_document_is_no_evidence():
    moments = moments_of(np.ones((3, 1)), np.full((3, 1), 2.0))
    low, high = fieller_interval(moments)
    assert np.isnan(low).all() and np.isnan(high).all() and np.isnan(margin_p_values(moments, 0.2)).all()


def test_constant_shares_give_a_point():
    low, high = fieller_interval(moments_of(np.ones((1, 5)), np.full((1, 5), 2.0)))
    assert low[0] == pytest.approx(np.log(2)) and high[0] == pytest.approx(np.log(2))


def test_nothing_in_either_model_is_undefined():
    moments = moments_of(np.zeros((2, 5)), np.zeros((2, 5)))
    assert np.isnan(moments.log_ratio()).all() and np.isnan(fieller_interval(moments)[0]).all()
    assert (margin_p_values(moments, 0.2) == 1).all()


def test_documents_split_over_batches_are_joined(make_crosscoder):
    crosscoder = make_crosscoder()
    x = torch.randn(400, 2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    documents = np.repeat(np.arange(9), [30, 1, 120, 49, 60, 40, 50, 20, 30])
    geometry = make_geometry(crosscoder)
    moments = {}
    for size in (400, 33):
        joiner, moments[size] = DocumentJoiner(geometry), DocumentMoments(12)
        for start in range(0, 400, size):
            here = slice(start, start + size)
            moments[size].update(
                joiner.push(encode_pair_sums(crosscoder, geometry, x[here], documents[here])[0])
            )
        moments[size].update(joiner.finish())
    np.testing.assert_allclose(moments[33].squares, moments[400].squares, rtol=1e-10)
    assert (moments[33].n == moments[400].n).all() and moments[33].n.max() == 9
    frame = latent_scaling(crosscoder, x)
    plain = ~geometry.turned
    ratio = np.log(np.abs(frame.beta_tuned / frame.beta_base))
    np.testing.assert_allclose(moments[33].log_ratio()[plain], ratio[plain], rtol=1e-8)


def test_a_turned_latent_is_measured_along_each_models_own_decoder(make_crosscoder):
    crosscoder = make_crosscoder(F=2)
    eye = torch.eye(8, dtype=torch.float64)
    crosscoder.decoder = torch.stack([eye[:2], torch.stack([eye[4], eye[1]])])
    crosscoder.encoder = crosscoder.decoder.transpose(1, 2).contiguous()
    crosscoder.bias = torch.zeros(2, 8, dtype=torch.float64)
    geometry = make_geometry(crosscoder)
    assert list(geometry.turned) == [True, False]
    f = torch.rand(60, 2, dtype=torch.float64) + 0.5
    x = torch.einsum("bf,mfd->bmd", f, crosscoder.decoder)
    joiner, moments = DocumentJoiner(geometry), DocumentMoments(2)
    pairs = encode_pair_sums(crosscoder, geometry, x, np.arange(60) // 10)[0]
    moments.update(joiner.push(pairs))
    np.testing.assert_allclose(moments.log_ratio(), 0, atol=1e-9)


def test_merging_moments_equals_one_pass():
    base, tuned = ratio_data(F=6, D=10)
    whole = moments_of(base, tuned)
    part = moments_of(base[:, :4], tuned[:, :4])
    part.merge(moments_of(base[:, 4:], tuned[:, 4:]))
    np.testing.assert_allclose(part.squares, whole.squares)
    assert (part.n == whole.n).all()


def test_bootstrap_variance_is_that_of_the_documents():
    base, tuned = ratio_data(F=3, D=40)
    bootstrap = BootstrapSums(3, 4000)
    bootstrap.update(rows_of(base, tuned))
    np.testing.assert_allclose(bootstrap.sums[0].var(1), (base**2).sum(1), rtol=0.12)
    np.testing.assert_allclose(bootstrap.sums[0].mean(1), base.sum(1), rtol=0.05)


def test_bootstrap_does_not_depend_on_how_documents_arrive():
    base, tuned = ratio_data(F=4, D=10)
    rows = rows_of(base, tuned)
    whole, parts = BootstrapSums(4, 50), [BootstrapSums(4, 50), BootstrapSums(4, 50)]
    whole.update(rows)
    for part, mine in zip(parts, (rows.document < 3, rows.document >= 3), strict=True):
        part.update(DocumentShares(*(column[mine] for column in rows)))
    parts[0].merge(parts[1])
    np.testing.assert_allclose(parts[0].sums, whole.sums, rtol=1e-5)


def test_bootstrap_and_fieller_agree_where_documents_are_many():
    base, tuned = ratio_data(F=30, D=200)
    bootstrap = BootstrapSums(30, 600)
    bootstrap.update(rows_of(base, tuned))
    fieller, percentile = fieller_interval(moments_of(base, tuned)), bootstrap.interval()
    width = fieller[1] - fieller[0]
    assert np.mean((percentile[1] - percentile[0]) / width) == pytest.approx(1, abs=0.06)
    assert (bootstrap.margin_p_values(0.1) < 0.05).all() and (bootstrap.margin_p_values(0.9) > 0.5).all()


def test_bootstrap_of_a_latent_that_never_fires_is_undefined():
    bootstrap = BootstrapSums(2, 20)
    bootstrap.update(rows_of(np.ones((1, 4)), np.ones((1, 4))))
    assert np.isnan(bootstrap.interval()[0][1]) and np.isnan(bootstrap.margin_p_values(0.2)[1])
