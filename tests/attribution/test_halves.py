"""Halves of the documents: against brute force, and on made-up betas of which the noise is known."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from mneme.attribution.evidence import DocumentShares
from mneme.attribution.half_health import half_rows
from mneme.attribution.halves import HalfMoments, correlation, share_apart

MARGIN, LEVEL = 0.2, 0.95


def rows_of(power, base, tuned):
    """DocumentShares of (F, documents) tables."""
    F, D = power.shape
    document, latent = (i.reshape(-1) for i in np.meshgrid(np.arange(D), np.arange(F), indexing="ij"))
    shares = np.stack([base.T.reshape(-1), tuned.T.reshape(-1)], 1)
    return DocumentShares(document, latent, power.T.reshape(-1), shares, np.zeros((len(latent), 8)))


def unit_probes(F, length=1.0):
    return SimpleNamespace(norms=np.full((2, F), length), contrast=np.zeros((2, F), int), n_latents=F)


def halves_of(beta, noise, D=200, spread=1.0, odd=0.0, seed=0):
    """Halves of betas (F,), each document's own beta off by normal noise, and by `odd` in those of odd number."""
    rng = np.random.default_rng(seed)
    power = np.exp(rng.normal(0, spread, (len(beta), D)))
    of_documents = beta[:, None] + odd * (np.arange(D) % 2)
    base, tuned = (power * (of_documents + noise * rng.normal(size=power.shape)) for _ in range(2))
    moments = HalfMoments(len(beta))
    moments.update(rows_of(power, base, tuned))
    geometry = unit_probes(len(beta))
    return moments.betas(geometry), moments.allowed(geometry, LEVEL)


def graded(halves, allowed):
    return {row["metric"]: row["status"] for row in half_rows(halves, allowed, MARGIN, LEVEL)}


def test_halves_are_ratios_of_their_own_documents():
    rng = np.random.default_rng(1)
    power, base, tuned = rng.gamma(2, 1, (3, 2, 9))
    moments, geometry = HalfMoments(2), unit_probes(2, 1.7)
    for part in (slice(0, 4), slice(4, 9)):  # documents come in pieces
        rows = rows_of(power[:, part], base[:, part], tuned[:, part])
        moments.update(rows._replace(document=rows.document + part.start))
    found, allowed = moments.betas(geometry), moments.allowed(geometry, 0.9)
    for m, share in enumerate((base, tuned)):
        for j in range(2):
            spread, freedom = [], []
            for half in (0, 1):
                c, s = power[j, half::2], share[j, half::2]
                beta, n = s.sum() / c.sum(), c.sum() ** 2 / (c**2).sum()
                assert found[half, m, j] == pytest.approx(beta / 1.7)
                spread.append(n / (n - 1) * ((s - beta * c) ** 2).sum() / c.sum() ** 2)
                freedom.append(spread[-1] ** 2 / (n - 1))
            t = stats.t.ppf(0.95, sum(spread) ** 2 / sum(freedom))
            assert allowed[m, j] == pytest.approx(t * np.sqrt(sum(spread)) / 1.7)


@pytest.mark.parametrize("spread", [0.3, 1.5, 2.5])
@pytest.mark.parametrize("documents", [12, 60, 400])
def test_halves_differ_beyond_their_intervals_as_often_as_the_level_says(documents, spread):
    halves, allowed = halves_of(np.ones(3000), 0.3, documents, spread)
    share = share_apart(halves, allowed)
    assert (share < 2 * (1 - LEVEL)).all() and (share > 0.001).all()


def test_exact_betas_that_hardly_differ_are_stable_whatever_they_correlate_to():
    beta = 1 + 0.02 * np.random.default_rng(2).normal(size=2000)
    halves, allowed = halves_of(beta, 0.3)
    assert (correlation(halves) < 0.6).all()
    assert set(graded(halves, allowed).values()) == {"ok", "info"}


def test_betas_as_noisy_as_the_margin_fail_whatever_they_correlate_to():
    beta = 5 * np.random.default_rng(3).normal(size=2000)
    halves, allowed = halves_of(beta, 4.0, D=400, spread=0.3)
    assert (correlation(halves) > 0.9).all()
    found = graded(halves, allowed)
    assert found["half_margin_base"] == found["half_margin_tuned"] == "fail"
    assert found["half_interval_base"] == "ok"  # and the intervals say so


def test_a_few_unstable_betas_are_no_failure_and_many_are_a_warning():
    halves = np.ones((2, 2, 1000))
    for unstable, word in ((40, "ok"), (60, "warn"), (330, "fail")):
        halves[1, :, :unstable] = 1.3
        assert graded(halves, np.ones((2, 1000)))["half_margin_tuned"] == word


def test_documents_of_two_kinds_are_seen():
    found = graded(*halves_of(np.ones(2000), 0.3, odd=0.15))
    assert found["half_interval_base"] == found["half_interval_tuned"] == "fail"


def test_latents_known_in_one_half_are_not_counted():
    halves = np.ones((2, 2, 4))
    halves[0, :, 0] = np.nan
    halves[1, :, 1] = 3
    assert share_apart(halves, 0.5).tolist() == [1 / 3, 1 / 3]
    assert share_apart(halves, np.array([[1, np.nan, 1, 1]] * 2)).tolist() == [0, 0]
    assert np.isnan(share_apart(np.full((2, 2, 3), np.nan), 1.0)).all()


def test_one_document_allows_nothing():
    moments = HalfMoments(1)
    moments.update(rows_of(np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 3))))
    assert np.isnan(moments.allowed(unit_probes(1), 0.95)).all()  # the odd half has one


def test_the_correlation_leaves_undefined_betas_out():
    rng = np.random.default_rng(0)
    beta = rng.normal(size=50)
    halves = np.stack([np.stack([beta, beta]), np.stack([beta + 0.1 * rng.normal(size=50), beta * 0 + 1])])
    halves[0, 0, 3] = np.nan
    found = correlation(halves)
    assert 0.95 < found[0] < 1 and np.isnan(found[1])


def test_titles_are_shown_whole():
    rows = half_rows(np.ones((2, 2, 9)), np.ones((2, 9)), MARGIN, LEVEL)
    assert max(len(row["title"]) for row in rows) <= 70  # where the page Health cuts them
