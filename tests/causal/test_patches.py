"""Undoing, doing and ablating latents in tiny models, against patching by hand; and a change whose cause is known."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from handmade import HandMade
from patched_models import (
    WIDTH,
    cache_of,
    compared_by_hand,
    edited_along,
    logp_by_hook,
    made_up,
    pair_of,
    streams_by_hook,
)
from tiny_models import changed_in_layer, tiny_llama

from mneme.causal.measure import UNPATCHED, Streams, joined, measure
from mneme.causal.patches import Dictionary, latents_like, of_latent, of_many
from mneme.causal.shares import share
from mneme.harvest.continuation import Continuation
from mneme.harvest.forward import PairReader
from mneme.harvest.text import TextReader


class World:
    """A pair with its documents and a dictionary; documents start with the BOS, id 0."""

    def __init__(self, base, tuned, crosscoder, skipped=(), bos=0):
        self.models = base, tuned
        self.tokens = made_up()
        self.cache = cache_of(self.tokens, skipped)
        # The pair shares tensors: what hooks compare with is another copy.
        self.pair = pair_of(copy.deepcopy(base), copy.deepcopy(tuned))
        self.reader = PairReader(self.pair, 2)
        self.continuation = Continuation(self.reader)
        self.dictionary = Dictionary(crosscoder)
        self.text_reader = TextReader(self.cache, 64, bos)

    def windows(self):
        found = [self.text_reader.window(d, 0) for d in range(len(self.tokens))]
        return {window: np.ones(window.length, dtype=bool) for window in found}

    def measured(self, patches, size=40):
        parts = []
        for text in self.text_reader.batches(self.windows(), size):
            streams = Streams(*self.reader.read(text.ids, logits=False)[:2])
            parts.append(measure(self.continuation, text, streams, patches(text, streams)))
        return joined(parts)

    def by_hand(self, document, patched, change):
        """Sums with `change` (T, d) added to one model's stream; `patched` 0 or 1."""
        ids = [0, *self.tokens[document]]
        logp = [logp_by_hook(model, ids) for model in self.models]
        stream = streams_by_hook(self.models[patched], ids)
        return ids, logp, logp_by_hook(self.models[patched], ids, stream + change)


def random_dictionary(seed=0, latents=24):
    generator = torch.Generator().manual_seed(seed)
    encoder = torch.randn(2, WIDTH, latents, generator=generator)
    decoder = 0.3 * torch.randn(2, latents, WIDTH, generator=generator)
    return HandMade(encoder, decoder, torch.zeros(2, WIDTH), threshold=1.0)


@pytest.fixture(scope="module")
def world():
    base = tiny_llama()
    return World(base, changed_in_layer(base, 1), random_dictionary(), skipped=[(0, 3), (2, 0), (5, 9)])


def by_hand_sums(world, latents, patched, sign, ablate=False):
    """The brute force: every document by itself, patched where a plain loop says."""
    sums = []
    dictionary = world.dictionary.crosscoder
    for document, tokens in enumerate(world.tokens):
        ids = [0, *tokens]
        x = torch.stack([streams_by_hook(model, ids) for model in world.models], dim=1)
        f = dictionary.encode(x)
        kept = world.cache.position[world.cache.document == document].tolist()
        change = torch.zeros(len(ids), WIDTH)
        for position in kept:
            for j in latents:
                both = dictionary.decoder[:, j]
                vector = both[patched] if ablate else both[1] - both[0]
                change[position + 1] += sign * f[position + 1, j] * vector
        _, logp, after = world.by_hand(document, patched, change)
        measured = [p + 1 for p in kept if p + 2 < len(ids)]
        if ablate:
            pair = (logp[patched], after)
        else:
            pair = (after, logp[1]) if patched == 0 else (logp[0], after)
        sums.append(compared_by_hand(*pair, ids, measured))
    return np.array(sums)


def test_one_latent_is_patched_as_by_hand(world):
    latent = 5
    found = world.measured(
        lambda text, streams: of_latent(world.dictionary, text, streams, latent, np.array([1, 2]), 0)
    )
    expected = {
        UNPATCHED: by_hand_sums(world, [], 1, 1.0),
        ("undo", "latent"): by_hand_sums(world, [latent], 1, -1.0),
        ("do", "latent"): by_hand_sums(world, [latent], 0, 1.0),
        ("ablate base", "latent"): by_hand_sums(world, [latent], 0, -1.0, ablate=True),
        ("ablate tuned", "latent"): by_hand_sums(world, [latent], 1, -1.0, ablate=True),
    }
    for key, values in expected.items():
        np.testing.assert_allclose(found.values[key], values, rtol=2e-3, atol=2e-4, err_msg=str(key))
    assert found.document.tolist() == list(range(6))
    kept = np.bincount(world.cache.document)
    assert found.n_tokens.tolist() == (kept - 1).tolist(), "all that the harvest kept but the last token"


def test_many_latents_are_patched_as_by_hand(world):
    latents = np.array([2, 5, 11, 20])
    like = np.array([[0], [1], [3], [4]])
    found = world.measured(
        lambda text, streams: of_many(world.dictionary, text, streams, latents, like, 0), size=500
    )
    for key, values in {
        ("undo", "latents"): by_hand_sums(world, latents, 1, -1.0),
        ("undo", "random latents"): by_hand_sums(world, [0, 1, 3, 4], 1, -1.0),
        ("undo", "dictionary"): by_hand_sums(world, range(24), 1, -1.0),
        ("do", "latents"): by_hand_sums(world, latents, 0, 1.0),
    }.items():
        np.testing.assert_allclose(found.values[key], values, rtol=2e-3, atol=5e-4, err_msg=str(key))
    assert np.abs(found.values["undo", "whole"]).max() < 1e-3, (
        "the base's stream gives the base's predictions"
    )
    assert np.abs(found.values["do", "whole"]).max() < 1e-3


def test_batches_do_not_change_what_is_measured(world):
    def patches(text, streams):
        return of_many(world.dictionary, text, streams, np.array([2, 5]), np.array([[0, 1], [3, 4]]), 7)

    small, large = world.measured(patches, 20), world.measured(patches, 1000)
    for key, values in small.values.items():
        np.testing.assert_allclose(values, large.values[key], rtol=1e-3, atol=1e-3, err_msg=str(key))


def cause():
    """A tuned model that writes +-u, and a dictionary whose latents 0 and 1 are just that; 2, 3 are of both models."""
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(WIDTH, generator=generator)
    other = torch.randn(2, WIDTH, generator=generator)
    encoder, decoder = torch.zeros(2, WIDTH, 4), torch.zeros(2, 4, WIDTH)
    for latent, sign in ((0, 1.0), (1, -1.0)):
        encoder[0, :, latent], encoder[1, :, latent] = -sign * u / (u @ u), sign * u / (u @ u)
        decoder[1, latent] = sign * u
    encoder[:, :, 2:] = other.T / 20
    decoder[:, 2:] = other
    crosscoder = HandMade(encoder, decoder, torch.zeros(2, WIDTH))
    # Without a BOS: the dictionary does not describe it, so that its change would stay.
    return World(*edited_along(u), crosscoder, bos=None)


def shares_of(sums, key):
    before = sums.values[UNPATCHED]
    return [share(before[:, c], sums.values[key][:, c], sums.n_tokens, 0.001).value for c in (0, 1)]


def test_undoing_the_cause_restores_everything_and_nothing_else_does():
    world = cause()
    sums = world.measured(
        lambda t, s: of_many(world.dictionary, t, s, np.array([0, 1]), np.array([[2], [3]]), 0)
    )
    before = sums.values[UNPATCHED][:, 0].sum() / sums.n_tokens.sum()
    assert before > 0.05, "the edit does something"
    for key in (("undo", "latents"), ("do", "latents"), ("undo", "dictionary"), ("undo", "whole")):
        assert shares_of(sums, key)[0] == pytest.approx(1, abs=1e-3), key
    assert shares_of(sums, ("undo", "random latents"))[0] == pytest.approx(0, abs=1e-6), (
        "both models have them"
    )
    assert shares_of(sums, ("undo", "random direction"))[0] < 0.5


def test_half_of_the_cause_restores_part_of_it():
    world = cause()
    part = world.measured(lambda t, s: of_latent(world.dictionary, t, s, 0, np.array([2, 3]), 0))
    undone, controlled = shares_of(part, ("undo", "latent"))[0], shares_of(part, ("undo", "other latents"))[0]
    assert 0.1 < undone < 0.95 and undone > controlled
    assert undone == pytest.approx(shares_of(part, ("undo", "whole"))[0], abs=1e-3), (
        "where it fires it is all there is"
    )
    none = part.values["ablate base", "latent"]
    assert np.abs(none).max() < 1e-6, "the base has no such direction"
    assert part.values["ablate tuned", "latent"][:, 0].sum() > 0.01


def test_controls_are_as_large_and_at_the_same_tokens(world):
    text = next(world.text_reader.batches(world.windows(), 1000))
    streams = Streams(*world.reader.read(text.ids, logits=False)[:2])
    found = {
        (p.patch, p.source): p.stream
        for p in of_latent(world.dictionary, text, streams, 5, np.array([1, 2, 7]), 0)
    }
    real = (found["undo", "latent"] - streams.tuned).norm(dim=-1)
    control = (found["undo", "other latents"] - streams.tuned).norm(dim=-1)
    torch.testing.assert_close(real, control, rtol=1e-3, atol=1e-4)
    assert (real > 0).any() and not (real[~text.described] > 0).any()
    many = {
        (p.patch, p.source): p.stream
        for p in of_many(world.dictionary, text, streams, np.array([5, 6]), np.zeros((0, 0), int), 0)
    }
    sizes = [(many["undo", s] - streams.tuned).norm(dim=-1) for s in ("latents", "random direction")]
    torch.testing.assert_close(*sizes, rtol=1e-3, atol=1e-4)
    assert ("undo", "random latents") not in many, "no latent is left to draw from"


def test_controls_are_live_unchanged_and_alike():
    n = 60
    latents = pd.DataFrame(
        {
            "norm_base": 1.0,
            "norm_tuned": 1.0,
            "mean_activation": np.geomspace(0.1, 10, n),
            "firing_rate": np.geomspace(1e-4, 0.1, n),
            "verdict": ["unchanged"] * n,
        }
    )
    latents.loc[[28, 31], "verdict"] = ["amplified", "dead"]
    like = latents_like(latents, np.array([28, 50]), np.array([28, 29, 50]))
    assert like.shape == (2, 10) and not np.isin(like, [28, 29, 31, 50]).any()
    assert set(like[0]) <= set(range(20, 38)) and set(like[1]) <= set(range(40, 60))
    assert latents_like(latents.iloc[:2], np.array([0, 1]), np.array([0, 1])).shape == (2, 0)


def test_windows_are_those_of_the_harvest():
    reader = TextReader(cache_of([list(range(2, 32)), [5, 6, 7]]), 11, 0)
    assert reader.window(0, 0) == (0, 0, 10) and reader.window(0, 25) == (0, 20, 10)
    assert reader.window(0, 25, 27) == (0, 20, 7) and reader.window(1, 1) == (1, 0, 3)
    window = reader.window(0, 12)
    text = next(reader.batches({window: np.arange(10) >= 4}, 100))
    assert text.ids[0].tolist() == [0, *range(12, 22)] and text.measured[0].nonzero()[0].item() == 5
    assert text.following.tolist() == list(range(17, 23)), "over the window's end, too"
    last = next(reader.batches({reader.window(1, 0): np.ones(3, dtype=bool)}, 100))
    assert last.following.tolist() == [6, 7], "nothing follows the last token"
