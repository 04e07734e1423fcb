"""Marks of a read-out dictionary: what counts as right depends on the model it was trained on."""

import numpy as np
import pandas as pd

from mneme.organisms.marking import mark
from mneme.organisms.planted import PlantedConfig, PlantedPair


def test_a_redirected_feature_is_suppressed_to_the_bases_dictionary_and_amplified_to_the_tuned_ones():
    pair = PlantedPair(PlantedConfig(n_features=100, seed=3))
    kind, size = pair.features["kind"].to_numpy(), pair.features["log_ratio"].to_numpy()
    for model, word in ((0, "suppressed"), (1, "amplified")):
        right = np.where(size > 0.2, "amplified", np.where(size < -0.2, "suppressed", "unchanged"))
        right[kind == "redirected"] = word
        missing = "tuned_only" if model == 0 else "base_only"
        right[kind == missing] = "dead"
        latents = pd.DataFrame({"verdict": right, "score": np.nan_to_num(size, posinf=9, neginf=-9)})
        # the dictionary has one direction, that of its own model
        decoder = np.repeat(pair.vectors.numpy()[model][None], 2, axis=0)
        marks = mark(pair, decoder, latents, 0.2, model)
        assert marks["precision"] == 1 and marks["false_positive_rate"] == 0
        # what the model doesn't have can't be found, and is missed
        assert marks["by_class"][missing]["recall"] == 0 and 0.7 < marks["recall"] < 1
        wrong = latents.assign(verdict=np.where(kind == "redirected", "unchanged", latents["verdict"]))
        assert mark(pair, decoder, wrong, 0.2, model)["recall"] < marks["recall"]
