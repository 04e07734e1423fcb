"""The attribution pass as a whole, on a hand-made cache and crosscoder."""

import numpy as np
import pytest
import torch
from handmade import HandMade

from mneme._util.errors import ActivationError
from mneme.attribution import attribute, latent_scaling
from mneme.attribution.config import AttributionConfig
from mneme.attribution.verdicts import common_log_ratio, decide, one_probe_only
from mneme.crosscoder.codes import CodeCache
from mneme.store.run import Run


class FakeCache:
    """What attribute() reads of an ActivationCache."""

    def __init__(self, x, document, kl=None):
        n = len(x)
        self.x, self.n, self.width = x, n, x.shape[2]
        self.document = np.asarray(document, dtype=np.int32)
        starts = np.r_[0, np.flatnonzero(np.diff(self.document)) + 1]
        self.position = (
            np.arange(n) - starts[np.searchsorted(starts, np.arange(n), side="right") - 1]
        ).astype("i4")
        self.kl = np.full(n, np.nan, "f4") if kl is None else kl
        self.nll_base, self.nll_tuned = (
            np.zeros(n, "f4"),
            np.where(np.isnan(self.kl), np.nan, 1.0).astype("f4"),
        )
        self.n_documents = int(self.document.max()) + 1

    def batches(self, size):
        return self.x.split(size)


GAIN = np.array([1, 1, 1, 1, 2, 0.5, 0, np.inf, 1, 1, 1, 1.0])


@pytest.fixture(scope="module")
def planted():
    """12 orthogonal latents in 24 dimensions: 4 doubled, 5 halved, 6 base only, 7 tuned only, 11 dead."""
    rng = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(24, 24, generator=rng, dtype=torch.float64)).Q[:12]
    base = q * torch.tensor(np.where(np.isinf(GAIN), 0, 1.0))[:, None]
    tuned = q * torch.tensor(np.where(np.isinf(GAIN), 1, GAIN))[:, None]
    decoder = torch.stack([base, tuned])
    encoder = torch.stack([base.T, tuned.T]) / (base.square().sum(1) + tuned.square().sum(1))
    encoder[:, :, 11] = 0
    crosscoder = HandMade(encoder, decoder, torch.zeros(2, 24, dtype=torch.float64), threshold=0.6)
    n = 6000
    f = torch.rand(n, 12, generator=rng, dtype=torch.float64) + 0.7
    f *= torch.rand(n, 12, generator=rng, dtype=torch.float64) < 0.1
    f[:, 11] = 0
    x = torch.einsum("bf,mfd->bmd", f, decoder)
    x += 0.02 * torch.randn(n, 2, 24, generator=rng, dtype=torch.float64)
    kl = np.where(np.arange(n) % 2 == 0, np.arange(n) / n, np.nan).astype("f4")
    return crosscoder, FakeCache(x, np.arange(n) // 50, kl), f.numpy()


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("codes")
    config = AttributionConfig(batch_size=512, common_scale=False)
    return attribute(planted[0], planted[1], folder, config), folder


def test_planted_changes_get_their_verdicts(found):
    verdict = found[0].latents["verdict"]
    assert list(verdict) == [
        *["unchanged"] * 4, "amplified", "suppressed", "suppressed", "amplified", *["unchanged"] * 3, "dead",
    ]  # fmt: skip


def test_intervals_hold_the_planted_sizes(found):
    latents = found[0].latents.iloc[[0, 1, 4, 5]]
    truth = np.log(GAIN[[0, 1, 4, 5]])
    np.testing.assert_allclose(latents["log_ratio"], truth, atol=0.02)
    assert (latents["ci_low"] < latents["log_ratio"]).all() and (
        latents["log_ratio"] < latents["ci_high"]
    ).all()
    assert (latents["ci_high"] - latents["ci_low"] < 0.05).all()


def test_betas_are_those_of_latent_scaling(planted, found):
    frame = latent_scaling(planted[0], planted[1])
    np.testing.assert_allclose(found[0].latents["beta_tuned"], frame["beta_tuned"], rtol=1e-9)
    betas = found[0].betas
    one = betas[(betas.latent == 4) & (betas.probe == "base") & (betas.target == "activation")]
    assert one.set_index("model").beta["tuned"] == pytest.approx(frame["beta_activation_tuned_base"][4])


def test_firing_statistics_are_counts_of_the_codes(planted, found):
    codes = planted[0].encode(planted[1].x).numpy()
    latents = found[0].latents
    np.testing.assert_allclose(latents["firing_rate"], (codes > 0).mean(0))
    np.testing.assert_allclose(latents["max_activation"][:11], codes.max(0)[:11], rtol=1e-6)
    assert np.isnan(latents["max_activation"][11]) and latents["dead"][11]
    documents = [len(set(planted[1].document[codes[:, j] > 0])) for j in range(12)]
    assert list(latents["n_documents"]) == documents
    histogram = found[0].activation_histogram
    assert histogram.groupby("latent")["n"].sum().to_dict() == {
        j: int((codes[:, j] > 0).sum()) for j in range(11)
    }
    assert (histogram["low"] < histogram["high"]).all()


def test_behaviour_is_the_firing_weighted_mean_where_measured(planted, found):
    codes, kl = planted[0].encode(planted[1].x).numpy(), planted[1].kl
    known = np.isfinite(kl)
    expected = (codes[known] * kl[known, None]).sum(0)[:11] / codes[known].sum(0)[:11]
    np.testing.assert_allclose(found[0].latents["kl"][:11], expected, rtol=1e-5)
    np.testing.assert_allclose(found[0].latents["nll_change"][:11], 1.0)


def test_codes_on_disk_are_those_of_every_token(planted, found):
    cache = CodeCache(found[1])
    assert cache.n_tokens == planted[1].n
    total = sum(float(shard.codes.value.double().sum()) for shard in cache.shards())
    assert total == pytest.approx(float(planted[0].encode(planted[1].x).sum()), rel=1e-5)


def test_explained_variance_is_that_of_the_reconstruction(planted, found):
    crosscoder, x = planted[0], planted[1].x
    x_hat = crosscoder.decode_sparse(crosscoder.encode_sparse(x), len(x))
    expected = 1 - (x - x_hat).square().sum((0, 2)) / (x - x.mean(0)).square().sum((0, 2))
    np.testing.assert_allclose(found[0].fit.explained_variance, expected.numpy(), rtol=1e-9)


def test_frames_fit_the_tables(found, tmp_path):
    with Run(tmp_path / "run").stage_writer() as writer:
        writer.replace("latents", found[0].latents)
        writer.replace("betas", found[0].betas)
        writer.replace("activation_histogram", found[0].activation_histogram)
    run = Run(tmp_path / "run")
    assert run.rows("SELECT count(*) FROM latents WHERE verdict = 'dead' AND dead")[0][0] == 1
    assert run.rows("SELECT beta_base FROM latents WHERE latent = 11")[0][0] is None or np.isnan(
        run.rows("SELECT beta_base FROM latents WHERE latent = 11")[0][0]
    )


def test_severity_is_the_mean_displacement(planted, found):
    codes, x = planted[0].encode(planted[1].x).numpy(), planted[1].x[:, 0]
    latents = found[0].latents
    typical = float((x - x.mean(0)).square().sum(1).mean().sqrt())
    moved = codes[:, 4].mean() * abs(latents.beta_tuned[4] - latents.beta_base[4]) * 2.0 / typical
    assert latents.severity[4] == pytest.approx(moved, rel=1e-6)
    assert latents.severity[[4, 5, 6, 7]].min() > 20 * latents.severity[[0, 1, 2, 3]].max()


def test_a_common_scale_is_not_a_change(planted):
    crosscoder, cache, _ = planted
    scale = torch.tensor([1.0, 1.7], dtype=torch.float64)[:, None]
    scaled = HandMade(
        crosscoder.encoder / scale[:, None], crosscoder.decoder * scale[:, None], crosscoder.bias, 0.6
    )
    config = AttributionConfig(common_scale=False)
    assert (
        attribute(scaled, FakeCache(cache.x * scale, cache.document), None, config).latents.verdict
        == "amplified"
    ).sum() >= 9
    ratios = np.r_[np.full(15, np.log(1.7)), np.log(3.4), -5.0, np.log(0.85), np.linspace(0, 3, 12)]
    assert common_log_ratio(ratios) == pytest.approx(np.log(1.7))
    assert common_log_ratio(ratios[:10]) == 0.0


def test_a_latent_that_fires_at_the_start_is_position_bound(planted):
    crosscoder, cache, _ = planted
    x = cache.x.clone()
    x[cache.position > 2] -= (x[cache.position > 2] @ crosscoder.decoder[0, 0])[
        ..., None
    ] * crosscoder.decoder[0, 0]
    latents = attribute(crosscoder, FakeCache(x, cache.document), None).latents
    assert latents.position_bound[0] and latents.position_bound.sum() == 1


def test_one_document_gives_no_verdict_but_uncertain_or_dead(planted):
    crosscoder, cache, _ = planted
    latents = attribute(crosscoder, FakeCache(cache.x, np.zeros(cache.n)), None).latents
    assert set(latents.verdict) == {"uncertain", "dead"}
    assert latents.ci_low.isna().all() and latents.q_value.isna().all()


def test_zero_decoders_and_silent_latents_make_no_verdict(planted):
    crosscoder, cache, _ = planted
    decoder = crosscoder.decoder.clone()
    decoder[:, 0] = 0
    blank = HandMade(crosscoder.encoder, decoder, crosscoder.bias, threshold=-1.0)
    latents = attribute(blank, cache, None).latents
    assert (
        latents.verdict[0] == "uncertain"
        and np.isnan(latents.beta_base[0])
        and np.isnan(latents.delta_norm[0])
    )
    silent = HandMade(crosscoder.encoder * 0, decoder, crosscoder.bias, threshold=0.6)
    assert set(attribute(silent, cache, None).latents.verdict) == {"dead"}


def test_bootstrap_verdicts_agree_on_clear_cases(planted, found):
    config = AttributionConfig(interval="bootstrap", replicates=400, common_scale=False)
    latents = attribute(planted[0], planted[1], None, config).latents
    assert list(latents.verdict) == list(found[0].latents.verdict)


def test_nan_activations_are_refused(planted):
    x = planted[1].x.clone()
    x[5000, 0, 0] = float("nan")
    with pytest.raises(ActivationError, match="NaN"):
        attribute(planted[0], FakeCache(x, planted[1].document), None)


def test_verdicts_need_both_interval_and_q():
    low = np.array([0.3, 0.3, 0.1, -0.1, -0.5, np.nan, 0.3])
    high = np.array([0.5, 0.5, 0.5, 0.15, -0.25, np.nan, 0.5])
    q = np.array([0.01, 0.2, 0.01, 0.9, 0.01, np.nan, 0.01])
    dead = np.array([0, 0, 0, 0, 0, 0, 1], bool)
    expected = ["amplified", "uncertain", "uncertain", "unchanged", "suppressed", "uncertain", "dead"]
    assert list(decide(low, high, q, dead, 0.2, 0.0, 0.05)) == expected


def test_a_moderate_change_along_one_decoder_only_is_uncertain():
    verdict = np.array(["amplified", "amplified", "suppressed", "amplified", "amplified", "unchanged"])
    change = np.array([0.5, 0.5, -0.5, 1.5, 0.5, 0.0])
    other = np.array([0.45, 0.0, 0.1, 0.0, 0.0, 0.9])
    norm_ratio = np.array([0.6, 0.6, 0.6, 0.6, 0.1, 1.0])
    doubtful = one_probe_only(verdict, change, other, norm_ratio, AttributionConfig(), 0.0)
    assert list(doubtful) == [False, True, True, False, False, False]


def test_a_direction_added_by_one_model_is_no_moderate_amplification(planted):
    """Latent 0's tuned decoder gains half a direction of its own: 1.25x along it, nothing along the base's."""
    crosscoder, cache, f = planted
    extra = torch.linalg.svd(crosscoder.decoder[0][:, :], full_matrices=True).Vh[-1]
    decoder, x = crosscoder.decoder.clone(), cache.x.clone()
    decoder[1, 0] += 0.6 * extra
    x[:, 1] += torch.from_numpy(f[:, :1]) * 0.6 * extra
    latents = attribute(
        HandMade(crosscoder.encoder, decoder, crosscoder.bias, 0.6), FakeCache(x, cache.document), None
    ).latents
    assert latents.ci_low[0] > 0.2 and latents.verdict[0] == "uncertain" and latents.verdict[4] == "amplified"


@pytest.mark.parametrize("bad", [{"margin": 0.0}, {"level": 1.0}, {"interval": "guess"}, {"batch_size": 1}])
def test_impossible_settings_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        AttributionConfig(**bad)
