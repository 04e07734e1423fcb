"""The test of a latent's turn, against sums written out and against planted directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import HandMade
from scipy import stats

from mneme._util.errors import CrosscoderError
from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.nulls import shuffled_null
from mneme.attribution.stream import attribute
from mneme.attribution.turns import Turns, measure_turns
from mneme.crosscoder import Crosscoder, CrosscoderConfig
from mneme.crosscoder.codes import CodeCache
from mneme.stats.fdr import false_discovery_q


def brute_force(crosscoder, x, document, latent, margin):
    """Cosine, its interval and p, every document left out in turn, all of it from dense arrays."""
    f = crosscoder.encode(x)
    residual = x - torch.einsum("bf,mfd->bmd", f, crosscoder.decoder) - crosscoder.bias
    own = residual + f[:, latent, None, None] * crosscoder.decoder[:, latent]
    s = [
        np.einsum("b,bmd->md", f[document == i, latent].numpy(), own[document == i].numpy())
        for i in np.unique(document[f[:, latent].numpy() > 0])
    ]
    c = [float((f[document == i, latent] ** 2).sum()) for i in np.unique(document[f[:, latent].numpy() > 0])]

    def products(which):
        total, power = np.zeros((2, 2)), 0.0
        for i in which:
            for k in which:
                if i != k:
                    total += s[i] @ s[k].T
                    power += c[i] * c[k]
        u = total / power
        return (u[0, 1] + u[1, 0]) / 2, np.sqrt(max(u[0, 0], 0) * max(u[1, 1], 0))

    D = len(s)
    top, bottom = products(range(D))
    left = np.array([products([k for k in range(D) if k != i]) for i in range(D)])
    v_top, shared, v_bottom = (
        (D - 1) / D * ((left[:, a] - left[:, a].mean()) * (left[:, b] - left[:, b].mean())).sum()
        for a, b in ((0, 0), (0, 1), (1, 1))
    )
    freedom = min(sum(c) ** 2 / sum(x * x for x in c), D) - 1
    spread = np.sqrt(v_top - 2 * margin * shared + margin**2 * v_bottom)
    p = stats.t.cdf((top - margin * bottom) / spread, freedom)
    t2 = stats.t.ppf(0.975, freedom) ** 2
    a, b, q = bottom**2 - t2 * v_bottom, top * bottom - t2 * shared, top**2 - t2 * v_top
    ends = (b + np.array([-1, 1]) * np.sqrt(max(b * b - a * q, 0))) / a if a > 0 else np.full(2, np.nan)
    return top / bottom, *np.clip(ends, -1, 1), p, D


@pytest.mark.parametrize("size", [400, 37])
def test_it_is_what_leaving_out_each_document_gives(make_crosscoder, size):
    crosscoder = make_crosscoder()
    x = torch.randn(400, 2, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x += 0.7 * torch.randn(400, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64).relu()[
        :, :, None, None
    ].mul(crosscoder.decoder.transpose(0, 1)).sum(1)
    document = np.repeat(np.arange(12), [30, 1, 90, 49, 60, 40, 30, 20, 30, 20, 20, 10])
    candidates = np.array([1, 4, 5, 9])
    found = measure_turns(
        crosscoder,
        make_geometry(crosscoder),
        MemoryCache(x, document),
        candidates,
        0.7,
        batch_size=size,
    )
    for at, latent in enumerate(candidates):
        expected = brute_force(crosscoder, x, document, latent, 0.7)
        got = [getattr(found, name)[at] for name in ("cosine", "low", "high", "p", "n")]
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-10)


def test_only_the_documents_asked_for_count(make_crosscoder):
    crosscoder = make_crosscoder()
    x = torch.randn(300, 2, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    document = np.arange(300) // 25
    use = np.arange(12) % 3 > 0
    geometry, candidates = make_geometry(crosscoder), np.arange(12)
    part = measure_turns(crosscoder, geometry, MemoryCache(x, document), candidates, 0.7, documents=use)
    mine = use[document]
    alone = measure_turns(crosscoder, geometry, MemoryCache(x[mine], document[mine]), candidates, 0.7)
    for one, other in zip(part, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def planted(cosine: float, seed: int, n_latents: int = 150, noise: float = 1.0) -> Turns:
    """Latents whose true directions have a cosine, each alone on its tokens, with noise that both models share in
    part and that documents have in common; the dictionary's own decoders are noisy copies."""
    rng = np.random.default_rng(seed)
    d, documents, tokens = 24, 10, 4
    base = rng.normal(size=(n_latents, d))
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    aside = rng.normal(size=(n_latents, d))
    aside -= (aside * base).sum(1, keepdims=True) * base
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    tuned = cosine * base + np.sqrt(1 - cosine**2) * aside
    true = np.stack([base, tuned])
    n = n_latents * documents * tokens
    latent = np.repeat(np.arange(n_latents), documents * tokens)
    document = np.repeat(np.arange(n_latents * documents), tokens)
    f = rng.gamma(2.0, 0.5, n) + 0.2
    shared = rng.normal(size=(n_latents * documents, 1, d))[document]
    own = rng.normal(size=(n, 2, d))
    x = f[:, None, None] * true[:, latent].transpose(1, 0, 2) + noise / np.sqrt(d) * (shared + own)
    decoder = torch.from_numpy(true + 0.3 / np.sqrt(d) * rng.normal(size=true.shape))

    class Known(HandMade):
        at = 0

        def encode_sparse(self, batch):
            here = np.arange(self.at, self.at + len(batch))
            self.at = (self.at + len(batch)) % n
            return _codes(here, latent, f)

    crosscoder = Known(torch.zeros(2, d, n_latents), decoder, torch.zeros(2, d, dtype=torch.float64))
    return measure_turns(
        crosscoder,
        make_geometry(crosscoder),
        MemoryCache(torch.from_numpy(x), document),
        np.arange(n_latents),
        0.7,
    )


def _codes(here, latent, f):
    from handmade import Codes

    return Codes(torch.arange(len(here)), torch.from_numpy(latent[here]), torch.from_numpy(f[here]))


def test_noise_does_not_bend_the_cosine():
    for cosine in (1.0, 0.7, 0.2):
        found = planted(cosine, seed=1)
        assert np.nanmedian(found.cosine) == pytest.approx(cosine, abs=0.04)


def test_at_the_margin_no_more_are_called_than_the_level():
    found = planted(0.7, seed=2, n_latents=400)
    assert (found.p < 0.05).mean() < 0.08
    covered = (found.low <= 0.7) & (found.high >= 0.7)
    assert covered.mean() > 0.91


def test_a_direction_that_stayed_is_not_called_and_a_turned_one_is():
    assert (planted(0.95, seed=3).p < 0.05).mean() < 0.01
    assert (planted(0.1, seed=4).p < 0.05).mean() > 0.9


def test_swapped_documents_have_the_same_direction_in_both_models(make_crosscoder):
    rng = np.random.default_rng(0)
    crosscoder = make_crosscoder(F=1, threshold=0.0)
    crosscoder.decoder = torch.from_numpy(rng.normal(size=(2, 1, 8)))
    crosscoder.encoder = crosscoder.decoder.transpose(1, 2).contiguous()
    document = np.repeat(np.arange(40), 5)
    f = torch.from_numpy(rng.gamma(2, 1, 200))
    x = f[:, None, None] * crosscoder.decoder[:, 0] + crosscoder.bias
    geometry, cache = make_geometry(crosscoder), MemoryCache(x, document)
    kept = measure_turns(crosscoder, geometry, cache, np.array([0]), 0.7)
    assert kept.cosine[0] == pytest.approx(geometry.cosine[0]) and kept.p[0] < 1e-6
    swapped = measure_turns(crosscoder, geometry, cache, np.array([0]), 0.7, swapped=np.arange(0, 40, 2))
    assert swapped.cosine[0] > 0.9 and swapped.p[0] > 0.5


def test_too_few_documents_and_no_candidates_are_no_evidence(make_crosscoder):
    crosscoder = make_crosscoder()
    x = torch.randn(40, 2, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    cache, geometry = MemoryCache(x, np.arange(40) // 20), make_geometry(crosscoder)
    found = measure_turns(crosscoder, geometry, cache, np.arange(12), 0.7)
    assert np.isnan(found.p).all() and np.isnan(found.high).all() and found.n.max() == 2
    assert len(measure_turns(crosscoder, geometry, cache, np.zeros(0, np.int64), 0.7).p) == 0


def two_latents(make_crosscoder, documents=24, tokens=8):
    """Latent 0 turned by 90 degrees in the models too; latent 1 in its decoders only: the models hold it alike."""
    rng = np.random.default_rng(1)
    crosscoder = make_crosscoder(F=2, threshold=0.0)
    eye = torch.eye(8, dtype=torch.float64)
    crosscoder.decoder = torch.stack([torch.stack([eye[0], eye[1]]), torch.stack([eye[2], eye[3]])])
    crosscoder.bias = torch.zeros(2, 8, dtype=torch.float64)
    crosscoder.encoder = crosscoder.decoder.transpose(1, 2).contiguous()
    n = documents * tokens
    document, first = np.repeat(np.arange(documents), tokens), np.arange(n) % 2 == 0
    f = torch.from_numpy(rng.gamma(2, 1, (n, 1)) + 0.5)
    alike = (eye[1] + eye[3]) / np.sqrt(2)
    base = torch.where(torch.from_numpy(first)[:, None], eye[0], alike) * f
    tuned = torch.where(torch.from_numpy(first)[:, None], eye[2], alike) * f
    x = torch.stack([base, tuned], 1) + 0.05 * torch.from_numpy(rng.normal(size=(n, 2, 8)))
    return crosscoder, MemoryCache(x, document)


def test_decoders_that_point_apart_are_no_evidence_and_directions_that_do_are(make_crosscoder):
    crosscoder, cache = two_latents(make_crosscoder)
    latents = attribute(crosscoder, cache, None).latents
    assert latents["turned"].tolist() == [True, True]
    assert latents["verdict"][0] == "redirected" and latents["verdict"][1] != "redirected"
    assert latents["turn_high"][0] < 0.7 < latents["turn_low"][1]
    assert not isinstance(latents["reason"][0], str)


def test_tests_of_strength_and_of_direction_share_their_q(make_crosscoder):
    crosscoder, cache = two_latents(make_crosscoder)
    latents = attribute(crosscoder, cache, None).latents
    together = false_discovery_q(np.concatenate([latents["p_value"], latents["turn_p"]]))
    np.testing.assert_allclose([*latents["q_value"], *latents["turn_q"]], together)


def test_a_null_pair_has_no_redirected_latent(make_crosscoder):
    crosscoder, cache = two_latents(make_crosscoder)
    assert shuffled_null(crosscoder, cache)["n_false"][0] == 0


def test_kept_codes_stand_for_the_encoder(make_crosscoder, tmp_path, monkeypatch):
    monkeypatch.setattr("mneme.crosscoder.codes.SHARD_ENTRIES", 100)
    crosscoder, cache = two_latents(make_crosscoder)
    found = attribute(crosscoder, cache, tmp_path, AttributionConfig(batch_size=50)).latents
    geometry = make_geometry(crosscoder)
    anew = measure_turns(crosscoder, geometry, cache, np.array([0, 1]), 0.7, batch_size=33)
    kept = measure_turns(
        crosscoder, geometry, cache, np.array([0, 1]), 0.7, batch_size=33, codes=CodeCache(tmp_path)
    )
    for one, other in zip(anew, kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(found["turn_cosine"], anew.cosine, rtol=1e-5)
    short = MemoryCache(torch.cat([cache.activations] * 2), np.repeat(np.arange(48), 8))
    with pytest.raises(CrosscoderError, match="fewer tokens"):
        measure_turns(crosscoder, geometry, short, np.array([0]), 0.7, codes=CodeCache(tmp_path))


def test_batches_in_which_no_candidate_fires_add_nothing(make_crosscoder):
    crosscoder, cache = two_latents(make_crosscoder)
    silent = cache.activations.clone()
    silent[50:150] = 0
    quiet = MemoryCache(silent, cache.document)
    geometry = make_geometry(crosscoder)
    whole, parts = (
        measure_turns(crosscoder, geometry, quiet, np.array([0, 1]), 0.7, batch_size=size)
        for size in (192, 10)
    )
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7)


def test_sums_that_are_made_again_are_those_that_are_kept(make_crosscoder, monkeypatch):
    crosscoder, cache = two_latents(make_crosscoder)
    geometry = make_geometry(crosscoder)
    kept = measure_turns(crosscoder, geometry, cache, np.array([0, 1]), 0.7, batch_size=50)
    monkeypatch.setattr("mneme.attribution.turns._KEPT_BYTES", 0)
    again = measure_turns(crosscoder, geometry, cache, np.array([0, 1]), 0.7, batch_size=50)
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("keep", [True, False])
def test_stored_in_half_precision_it_is_the_same_but_for_rounding(keep, tmp_path):
    generator = torch.Generator().manual_seed(0)
    crosscoder = Crosscoder(CrosscoderConfig(n_latents=4, k=2, encoder_dtype="float32"), 8)
    crosscoder.W_dec.copy_(torch.randn(2, 4, 8, generator=generator))
    crosscoder.W_enc.copy_(crosscoder.W_dec.transpose(1, 2))
    crosscoder.threshold.fill_(1.0)
    x = torch.randn(300, 2, 8, generator=generator)
    crosscoder.with_normaliser(x)
    turns = []
    for stored in (x.bfloat16(), x.bfloat16().float()):
        cache, codes = MemoryCache(stored, np.arange(300) // 20), None
        if keep:
            attribute(crosscoder, cache, tmp_path)
            codes = CodeCache(tmp_path)
        turns.append(
            measure_turns(
                crosscoder, make_geometry(crosscoder), cache, np.arange(4), 0.7, codes=codes, batch_size=64
            )
        )
    for one, other in zip(*turns, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
