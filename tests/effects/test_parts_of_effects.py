import numpy as np
import pytest
from effects_world import LATENTS, WIDTH, WordEncoder, decode, predict, write_codes

from mneme.crosscoder.codes import CodeCache
from mneme.effects.assign import NO_GROUP, home_groups
from mneme.effects.categories import Category, Taxonomy
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import directions, hold_windows, share_explained
from mneme.effects.predict import changed_steps, saturated
from mneme.effects.side_effects import assign_text


def config(taxonomy_file, **settings):
    return EffectsConfig(taxonomy=str(taxonomy_file), window=12, replicates=20, **settings)


def predicted(world, taxonomy_file, **more):
    return predict(world, config(taxonomy_file), **more)


def test_what_latents_say_is_held_against_what_happened_as_in_a_loop_over_tokens(world, taxonomy_file):
    world.x[:, 1] += np.random.default_rng(0).normal(
        size=(len(world.x), WIDTH)
    )  # something is left everywhere
    assigned = assign_text(world.cache, decode, WordEncoder(), config(taxonomy_file))
    steps = changed_steps(world.latents).sum(0)
    moved = directions(world.latents, steps, world.decoder)
    assert moved.latent.tolist() == [0, 2]
    np.testing.assert_allclose(np.linalg.norm(moved.vector, axis=1), steps[moved.latent])
    held = hold_windows(world.cache, CodeCache(world.codes), assigned.windows, moved)
    found = share_explained(assigned.weights, held)
    whole, left, confirmed = np.zeros(2), np.zeros(2), np.zeros(len(assigned.windows.document))
    for row, window in enumerate(assigned.windows.row_window):
        difference = world.x[row, 1].astype(float) - world.x[row, 0]
        said = world.dense[row, [0, 2]] @ moved.vector
        rest, far = difference - said, np.sqrt(said @ said)
        if far > 0:
            confirmed[window] += min(far, max(0, difference @ said / far))
        whole += assigned.weights[window] * (difference @ difference)
        left += assigned.weights[window] * (rest @ rest)
    np.testing.assert_allclose(found, 1 - left / whole, rtol=1e-9)
    np.testing.assert_allclose(held.confirmed, confirmed, rtol=1e-9)


def test_latents_that_are_all_the_change_explain_all_of_it(world, taxonomy_file):
    change = world.dense @ np.where(np.arange(LATENTS)[:, None] == 0, (world.decoder[1] / 2).numpy(), 0)
    world.x[:, 1] = world.x[:, 0] + change
    found = predicted(world, taxonomy_file).effects.set_index("category")["explained"]
    assert found["cells"] == pytest.approx(1, abs=1e-6)


def test_a_redirected_latent_moves_by_the_difference_of_its_decoders(world):
    frame = world.latents
    frame.loc[3, ["verdict", "turned", "decoder_cosine"]] = ["redirected", True, -1.0]
    world.decoder[1, 3] *= -1
    moved = directions(frame, changed_steps(frame).sum(0), world.decoder)
    np.testing.assert_allclose(
        moved.vector[moved.latent == 3][0], -2 * world.decoder[0, 3].numpy(), rtol=1e-6
    )


def test_groups_make_up_each_effect(world, taxonomy_file):
    found = predicted(world, taxonomy_file)
    total = found.effect_groups.groupby("category")["contribution"].sum()
    effect = found.effects.set_index("category")["effect"]
    np.testing.assert_allclose(total["cells"], effect["cells"])
    own = found.effect_groups.query("category == 'cells'").set_index("grp")["contribution"]
    assert own.idxmax() == "biology"


def test_a_latent_is_at_home_in_the_group_it_weighs_most_in():
    taxonomy = Taxonomy(
        "t", tuple(Category(k, k, g, "d", k) for k, g in (("a", "x"), ("b", "y"), ("c", "x")))
    )
    weights = np.array([[0.2, 0.3, 0.2], [0, 0.5, 0.1], [0.04, 0.05, 0.02], [0, 0, 0]])
    assert home_groups(weights, taxonomy).tolist() == ["x", "y", NO_GROUP, NO_GROUP]


def test_reach_counts_touched_text_however_much_it_is_moved(world, taxonomy_file):
    calm = predicted(world, taxonomy_file).effects.set_index("category")
    assert calm.loc["cells", "affected_share"] > 0.99 and calm.loc["money", "affected_share"] < 0.01
    assert (
        calm.loc["cells", "affected_share_low"]
        <= calm.loc["cells", "affected_share"]
        <= calm.loc["cells", "affected_share_high"]
    )
    # Latent 0 fires on one document of the money area as much as on all of the cells together, but nothing moved there.
    world.dense[world.cache.document == 1, 0] = 500
    write_codes(world.codes, world.dense)
    said = predicted(world, taxonomy_file).effects.set_index("category")
    assert (
        said.loc["money", "effect"] > said.loc["cells", "effect"]
        and said.loc["money", "affected_share"] < 0.01
    )
    world.x[world.cache.document == 1, 1, 0] += 500  # now it did
    wild = predicted(world, taxonomy_file).effects.set_index("category")
    assert wild.loc["money", "effect"] > wild.loc["cells", "effect"]
    assert wild.loc["money", "affected_share"] == pytest.approx(1 / 12, abs=0.02)


def test_reach_of_a_window_saturates():
    moved, rows = np.array([0.0, 0.2, 2000.0, 0.0]), np.array([10.0, 10.0, 10.0, 0.0])
    found = saturated(moved, rows, 0.02)
    np.testing.assert_allclose(found, [0, 10 * (1 - np.exp(-1)), 10, 0])
