"""A small planted pair, trained and marked from end to end."""

import numpy as np
import pandas as pd
import pytest
import torch

from mneme.attribution import attribute
from mneme.crosscoder import CrosscoderConfig, train_crosscoder
from mneme.organisms.marking import mark, match_features
from mneme.organisms.planted import PlantedConfig, PlantedPair, planted_cache

SMALL = PlantedConfig(width=24, n_features=32, rarest=0.01, commonest=0.08, noise=0.3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A BatchTopK crosscoder of the small set, and what attribution says of fresh text."""
    pair = PlantedPair(SMALL)
    config = CrosscoderConfig(
        n_latents=40, k=1, batch_size=512, tokens=400_000, learning_rate=3e-3, dead_feature_threshold=50_000
    )
    crosscoder = train_crosscoder(planted_cache(pair, 800, 1), config).eval()
    return (
        pair,
        crosscoder,
        attribute(crosscoder, planted_cache(pair, 500, 2), tmp_path_factory.mktemp("codes")),
    )


def test_verdicts_are_right_on_a_planted_pair(trained):
    pair, crosscoder, found = trained
    frame = found.latents.assign(score=found.latents["log_ratio"] - found.reference)
    marks = mark(pair, crosscoder.raw_decoder().detach().numpy(), frame, found.margin)
    assert marks["precision"] >= 0.9 and marks["recall"] >= 0.8 and marks["false_positive_rate"] <= 0.1
    assert marks["by_class"]["base_only"]["recall"] >= 0.5


def test_the_models_common_scale_is_found(trained):
    assert trained[2].reference == pytest.approx(np.log(SMALL.tuned_scale), abs=0.05)


def test_every_kind_is_planted_with_its_truth():
    pair = PlantedPair()
    norm_base, norm_tuned = pair.vectors.double().norm(dim=2).numpy()
    features = pair.features
    assert set(features["kind"]) == {
        "unchanged", "amplified", "suppressed", "base_only", "tuned_only", "redirected",
    }  # fmt: skip
    both = features["log_ratio"].abs() < np.inf
    ratio = np.log(norm_tuned[both] / norm_base[both] / pair.config.tuned_scale)
    np.testing.assert_allclose(ratio, features["log_ratio"][both], atol=1e-6)
    assert (norm_tuned[features["kind"] == "base_only"] == 0).all()
    assert features["frequency"].max() / features["frequency"].min() > 50
    assert pair.config.n_features > pair.config.width


def test_features_fire_as_often_as_planned_and_groups_together():
    pair = PlantedPair(PlantedConfig(width=8, n_features=40))
    fires = np.concatenate([(b.strength > 0).numpy() for b in pair.stream(3000, 1, at_once=500)])
    share, planned = fires.mean(0), pair.features["frequency"].to_numpy()
    assert np.median(np.abs(np.log(share / planned))) < 0.15
    group = pair.features["group"].to_numpy()
    a, b = np.flatnonzero(group == 0)[:2]
    alone = np.flatnonzero(group < 0)[:2]
    assert np.corrcoef(fires[:, a], fires[:, b])[0, 1] > 0.4
    assert abs(np.corrcoef(fires[:, alone[0]], fires[:, alone[1]])[0, 1]) < 0.1


def test_a_null_pair_differs_in_noise_only():
    pair = PlantedPair(PlantedConfig(width=8, n_features=20, noise=0.0, tuned_scale=1.0).without_changes())
    x = pair.sample(4, 1).activations - pair.means
    assert set(pair.features["kind"]) == {"unchanged"} and torch.allclose(x[:, 0], x[:, 1], atol=1e-6)


def test_marks_count_what_they_say():
    pair = PlantedPair(PlantedConfig(n_features=100, seed=3))
    kind, decoder = pair.features["kind"].to_numpy(), pair.vectors.numpy().copy()
    size = pair.features["log_ratio"].to_numpy()
    word = np.where(size > 0.2, "amplified", np.where(size < -0.2, "suppressed", "unchanged"))
    latents = pd.DataFrame({"verdict": word, "score": np.nan_to_num(size, posinf=9, neginf=-9)})
    perfect = mark(pair, decoder, latents, 0.2)
    assert perfect["precision"] == perfect["recall"] == 1 and perfect["false_positive_rate"] == 0
    assert (match_features(pair, decoder)[0] == np.arange(100)).all()
    # one unchanged feature called amplified, one tuned-only feature found by no latent
    wrong = latents.copy()
    wrong.loc[np.flatnonzero(kind == "unchanged")[0], "verdict"] = "amplified"
    missing = np.flatnonzero(kind == "tuned_only")[0]
    wrong.loc[missing, "verdict"] = "dead"
    marks = mark(pair, decoder, wrong, 0.2)
    called = np.isin(wrong["verdict"], ("amplified", "suppressed")).sum()
    assert marks["precision"] == pytest.approx(1 - 1 / called)
    assert marks["false_positive_rate"] == pytest.approx(1 / (kind == "unchanged").sum())
    assert marks["recall_matched"] == 1 and marks["recall"] < 1
