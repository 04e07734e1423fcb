"""The test of a latent's turn, against sums written out and against planted directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from handmade import HandMade
from scipy import stats

from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.turns import Turns, measure_turns


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
