"""Intervals of all betas against brute force over documents, and against the truth they should cover."""

import numpy as np
import pytest
import torch
from scipy import stats

from mneme.attribution.beta_intervals import BetaMoments
from mneme.attribution.evidence import DocumentJoiner, DocumentMoments, DocumentShares
from mneme.attribution.geometry import make_geometry
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.scaling import ScalingSums

DOCUMENTS = np.repeat(np.arange(9), [30, 1, 120, 49, 60, 40, 50, 20, 30])


def test_every_interval_is_that_of_the_documents_own_ratios(make_crosscoder):
    crosscoder = make_crosscoder()
    x = torch.randn(400, 2, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    geometry = make_geometry(crosscoder)
    joiner, sums = DocumentJoiner(geometry), ScalingSums(12)
    moments, documents = BetaMoments(12), DocumentMoments(12)
    for start in range(0, 400, 33):
        here = slice(start, start + 33)
        pairs = encode_pair_sums(crosscoder, geometry, x[here], DOCUMENTS[here])[0]
        sums.update(pairs)
        for rows in (joiner.push(pairs), *([joiner.finish()] if start + 33 >= 400 else [])):
            moments.update(rows)
            documents.update(rows)
    found = moments.intervals(sums, documents.n, geometry)

    document, codes = DOCUMENTS, np.zeros((400, 12))
    active = crosscoder.encode_sparse(x)
    codes[active.row.numpy(), active.latent.numpy()] = active.value.numpy()
    decoder, bias = crosscoder.raw_decoder().numpy(), crosscoder.raw_bias().numpy()
    often = np.flatnonzero(documents.n > 3)
    assert len(often) >= 3
    for j in often[:3]:
        f = codes[:, j]
        for m in (0, 1):
            activation = x[:, m].numpy() - bias[m]
            reconstruction = codes @ decoder[m]
            left = activation - reconstruction + f[:, None] * decoder[m, j]
            for q in (0, 1):
                probe = decoder[q, j]
                for target, y in {
                    "activation": activation,
                    "reconstruction": reconstruction,
                    "error": left,
                }.items():
                    share, power = f * (y @ probe), f * f
                    seen = [d for d in range(9) if f[document == d].any()]
                    s = np.array([share[document == d].sum() for d in seen])
                    c = np.array([power[document == d].sum() for d in seen])
                    n, r = c.sum() ** 2 / (c * c).sum(), s.sum() / c.sum()
                    half = (
                        stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1) * np.sum((s - r * c) ** 2)) / c.sum()
                    )
                    low, high = found[target]
                    assert (low[m, q, j], high[m, q, j]) == pytest.approx(
                        ((r - half) / (probe @ probe), (r + half) / (probe @ probe))
                    ), (target, m, q, j)


@pytest.mark.parametrize("documents", [8, 60])
def test_intervals_of_beta_cover_the_truth(documents, make_crosscoder):
    F, rng = 1500, np.random.default_rng(5)
    geometry = make_geometry(make_crosscoder(F=F))
    norms = geometry.dots[[0, 1], [0, 1]].T  # (F, 2 probes)
    power = np.exp(rng.normal(0, 0.5, (documents, F)))
    dots = np.zeros((documents, F, 2, 2, 2))
    for m, beta in enumerate((0.4, 1.0)):
        noise = np.sqrt(power) * rng.normal(0, 0.3, power.shape)
        dots[:, :, 0, m] = (beta * power + noise)[:, :, None] * norms
    document, latent = (i.reshape(-1) for i in np.meshgrid(np.arange(documents), np.arange(F), indexing="ij"))
    rows = DocumentShares(
        document, latent, power.reshape(-1), np.zeros((len(latent), 2)), dots.reshape(-1, 8)
    )
    moments, sums = BetaMoments(F), ScalingSums(F)
    moments.update(rows)
    np.add.at(sums.dots, latent, rows.dots)
    np.add.at(sums.power, latent, rows.power)
    low, high = moments.intervals(sums, np.full(F, documents), geometry)["activation"]
    for m, beta in enumerate((0.4, 1.0)):
        for q in (0, 1):
            covered = np.mean((low[m, q] <= beta) & (beta <= high[m, q]))
            assert 0.92 <= covered <= 0.975


def test_one_document_gives_no_interval(make_crosscoder):
    geometry = make_geometry(make_crosscoder(F=1))
    moments, sums = BetaMoments(1), ScalingSums(1)
    one = np.zeros(1, dtype=int)
    moments.update(DocumentShares(one, one, np.ones(1), np.ones((1, 2)), np.ones((1, 8))))
    sums.dots += 1
    sums.power += 1
    assert all(
        np.isnan(ends).all()
        for pair in moments.intervals(sums, np.ones(1, int), geometry).values()
        for ends in pair
    )
