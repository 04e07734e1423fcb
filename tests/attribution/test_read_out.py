"""Read-out dictionaries: trained on one model, read on each; what one code for both models hides."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mneme.attribution import attribute
from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.nulls import null_row, rounding_null
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.scaling import latent_scaling
from mneme.crosscoder import Crosscoder, CrosscoderConfig, train_crosscoder
from mneme.crosscoder.codes import SparseCodes, values_at
from mneme.organisms.marking import match_features
from mneme.organisms.planted import PlantedConfig, PlantedPair, planted_cache

# every redirected feature is one that the tuned model stops using, for another direction on the same tokens
PLANTED = PlantedConfig(width=24, n_features=32, rarest=0.01, commonest=0.08, noise=0.3, redirected_share=0.2)
TRAINING = CrosscoderConfig(
    n_latents=40,
    k=1,
    batch_size=512,
    tokens=250_000,
    learning_rate=3e-3,
    dead_feature_threshold=50_000,
    held_out_share=0,  # judged on other text
)


def made(variant: str, width: int = 6, latents: int = 10, seed: int = 0) -> Crosscoder:
    """A read-out dictionary of random directions."""
    generator = torch.Generator().manual_seed(seed)
    found = Crosscoder(
        CrosscoderConfig(n_latents=latents, k=2, variant=variant, encoder_dtype="float32"), width
    )
    directions = torch.randn(latents, width, generator=generator)
    found.W_enc.copy_((directions.T / 2).expand(2, width, latents))
    found.W_dec.copy_(directions.expand(2, latents, width))
    found.b_enc.copy_(torch.randn(latents, generator=generator) / 4)
    found.b_dec.copy_(torch.randn(width, generator=generator).expand(2, width))
    found.mean.copy_(torch.randn(2, width, generator=generator))
    found.scale.copy_(torch.tensor([1.5, 0.7]))
    found.threshold.fill_(2.0)
    return found


def slow_betas(crosscoder: Crosscoder, x: np.ndarray, model: int) -> np.ndarray:
    """(2, F): beta of each model on the error target, token by token in float64."""
    W, D = (part[0].double().numpy() for part in (crosscoder.W_enc, crosscoder.W_dec))
    norms, F, (N, _, d) = np.linalg.norm(D, axis=1), len(D), x.shape
    f, y_hat, y = np.zeros((2, N, F)), np.zeros((2, N, d)), np.zeros((2, N, d))
    raw = [D * float(scale) for scale in crosscoder.scale]
    for m in (0, 1):
        for t in range(N):
            z = (x[t, m] - crosscoder.mean[m].double().numpy()) / float(crosscoder.scale[m])
            pre = 2 * z @ W + crosscoder.b_enc.double().numpy()
            f[m, t] = np.where(pre * 2 * norms > float(crosscoder.threshold), pre, 0)
            bias = crosscoder.b_dec[m].double().numpy() * float(crosscoder.scale[m])
            y[m, t] = x[t, m] - crosscoder.mean[m].double().numpy() - bias
            y_hat[m, t] = f[m, t] @ raw[m]
    beta = np.full((2, F), np.nan)
    for m in (0, 1):
        for j in range(F):
            total = power = 0.0
            for t in range(N):
                if f[model, t, j] > 0:
                    rest = y[m, t] - y_hat[m, t] + f[m, t, j] * raw[m][j]
                    total += f[model, t, j] * (raw[model][j] @ rest)
                    power += f[model, t, j] ** 2 * (raw[model][j] @ raw[model][j])
            if power > 0:
                beta[m, j] = total / power
    return beta


@pytest.mark.parametrize("variant", ["base", "tuned"])
def test_betas_equal_the_float64_loops(variant):
    crosscoder = made(variant)
    x = torch.randn(60, 2, 6, generator=torch.Generator().manual_seed(1)) * 2
    found = latent_scaling(crosscoder, x)
    expected = slow_betas(crosscoder, x.double().numpy(), ("base", "tuned").index(variant))
    assert set(found["probe"]) == {variant} and np.isfinite(expected).any()
    np.testing.assert_allclose(
        found[["beta_base", "beta_tuned"]].to_numpy().T, expected, rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_the_ratio_of_betas_is_the_share_that_is_left(share):
    crosscoder = made("base", latents=6)
    directions = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5))).Q
    crosscoder.W_enc.copy_((directions.T / 2).expand(2, 6, 6))
    crosscoder.W_dec.copy_(directions.expand(2, 6, 6))
    crosscoder.scale.fill_(1.0)
    crosscoder.mean[1] = crosscoder.mean[0]
    crosscoder.b_enc.copy_(-(crosscoder.b_dec[0] @ crosscoder.W_enc.sum(0)))
    centre = crosscoder.raw_bias()[0]
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(2)) * 3
    found = latent_scaling(crosscoder, torch.stack([x, share * x], dim=1) + centre)
    assert (found["beta_base"] > 0.5).all()
    np.testing.assert_allclose(found["beta_tuned"], share * found["beta_base"], atol=1e-5)


def test_values_are_looked_up_pair_by_pair():
    pairs = SparseCodes(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), torch.ones(3))
    codes = SparseCodes(torch.tensor([0, 1, 2]), torch.tensor([3, 1, 0]), torch.tensor([5.0, 6.0, 7.0]))
    assert values_at(pairs, codes, 4).tolist() == [0, 5, 7]
    nothing = SparseCodes(*(torch.zeros(0, dtype=torch.int64) for _ in range(2)), torch.zeros(0))
    assert values_at(pairs, nothing, 4).tolist() == [0, 0, 0] and len(values_at(nothing, codes, 4)) == 0


def test_sums_over_batches_are_those_of_the_whole():
    crosscoder = made("tuned")
    x = torch.randn(50, 2, 6, generator=torch.Generator().manual_seed(3)) * 2
    geometry = make_geometry(crosscoder)
    whole = encode_pair_sums(crosscoder, geometry, x, None)[0]
    parts = [encode_pair_sums(crosscoder, geometry, part, None)[0] for part in x.split(13)]
    total = np.zeros((geometry.n_latents, 8))
    for part in parts:
        np.add.at(total, part.latent, part.dots.reshape(-1, 8))
    np.testing.assert_allclose(total[whole.latent], whole.dots.reshape(-1, 8), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def pair():
    return PlantedPair(PLANTED)


@pytest.fixture(scope="module")
def text(pair):
    return planted_cache(pair, 500, 1), planted_cache(pair, 500, 2)


@pytest.fixture(scope="module")
def trained(text):
    """Variant -> its dictionary, and what attribution says of fresh text."""
    found = {}
    for variant in ("batchtopk", "base", "tuned"):
        crosscoder = train_crosscoder(text[0], replace(TRAINING, variant=variant)).eval()
        found[variant] = crosscoder, attribute(crosscoder, text[1], None)
    return found


def of_features(pair, trained, variant, model):
    """Verdict of the latent nearest to each feature of a model; None where none is near."""
    crosscoder, found = trained[variant]
    feature, cosine = match_features(pair, crosscoder.raw_decoder().detach().numpy(), model)
    verdict, words = found.latents["verdict"].to_numpy(), [None] * len(pair.features)
    for latent in np.argsort(np.nan_to_num(cosine)):
        if cosine[latent] > 0.9 and verdict[latent] != "dead":
            words[feature[latent]] = verdict[latent]
    return np.array(words, dtype=object)


def test_a_feature_the_tuned_model_stops_using_is_seen_by_the_read_out_only(pair, trained):
    stopped = (pair.features["kind"] == "redirected").to_numpy()
    shared, alone = of_features(pair, trained, "batchtopk", None), of_features(pair, trained, "base", 0)
    found = stopped & (alone != None)  # noqa: E711 - elementwise
    assert found.sum() >= 4
    assert not (shared[stopped] == "suppressed").any()
    assert (alone[found] == "suppressed").mean() >= 0.8
    # and its mirror: what the tuned model does there is new
    mirrored = of_features(pair, trained, "tuned", 1)
    new = stopped & (mirrored != None)  # noqa: E711
    assert new.sum() >= 4 and (mirrored[new] == "amplified").mean() >= 0.8


def test_a_read_out_knows_sizes_and_leaves_unchanged_features_alone(pair, trained):
    words, kind = of_features(pair, trained, "base", 0), pair.features["kind"].to_numpy()
    big = pair.features["size"].to_numpy() >= 1.5
    for name, word in (("suppressed", "suppressed"), ("base_only", "suppressed")):
        mine = (kind == name) & (big | (name == "base_only")) & (words != None)  # noqa: E711
        assert mine.any() and (words[mine] == word).all()
    unchanged = (kind == "unchanged") & (words != None)  # noqa: E711
    assert unchanged.sum() >= 8
    assert np.isin(words[unchanged], ("amplified", "suppressed")).mean() <= 0.1


@pytest.mark.parametrize("variant", ["base", "tuned"])
def test_null_pairs_are_seldom_called(trained, text, variant):
    crosscoder = trained[variant][0]
    model = ("base", "tuned").index(variant)
    x = text[1].activations[:, [model, model]]
    same = MemoryCache(x, text[1].document)
    own = crosscoder.with_normaliser(same)
    identical = attribute(own, same, None)
    assert not identical.latents["verdict"].isin(("amplified", "suppressed")).any()
    np.testing.assert_allclose(identical.latents["log_ratio"].dropna(), 0, atol=1e-6)
    rounded = rounding_null(same)
    row = null_row("rounded", attribute(own, rounded, None), AttributionConfig())
    assert row["rate"][0] <= 0.05


def test_a_pair_that_differs_in_noise_only_is_seldom_called():
    pair = PlantedPair(PLANTED.without_changes())
    crosscoder = train_crosscoder(planted_cache(pair, 500, 1), replace(TRAINING, variant="base")).eval()
    verdict = attribute(crosscoder, planted_cache(pair, 500, 2), None).latents["verdict"]
    assert (verdict == "unchanged").sum() >= 15
    assert verdict.isin(("amplified", "suppressed")).sum() <= 0.05 * (verdict != "dead").sum()


def test_files_keep_a_read_out_dictionary(tmp_path, trained, text):
    crosscoder = trained["base"][0]
    x = text[1].activations[:64]
    crosscoder = crosscoder.with_normaliser(text[0])
    crosscoder.save_pretrained(tmp_path)
    again = Crosscoder.from_pretrained(tmp_path)
    assert again.read_model == 0 and torch.equal(again.W_enc[0], again.W_enc[1])
    for mine, theirs in zip(again.encode_models(x), crosscoder.encode_models(x), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    # each model's reconstruction is of its own reading
    alone = crosscoder(x[:, [1, 1]].contiguous())
    own = crosscoder.encode_models(x)[1]
    expected = crosscoder.decode_sparse(own, len(x))[:, 1]
    torch.testing.assert_close(crosscoder(x)[:, 1], expected)
    assert not torch.allclose(alone[:, 0], expected)  # read with the base's normaliser, it is another
