"""Every uncertain latent says why, and an end of an interval that nothing bounds is no number."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import torch
from handmade import HandMade
from test_attribute import FakeCache

from mneme.attribution import attribute
from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import DocumentMoments, DocumentShares
from mneme.attribution.nulls import null_row
from mneme.attribution.reasons import (
    GROUP,
    HELD_OUT,
    ONE_PROBE,
    POORLY_RECONSTRUCTED,
    REASONS,
    TOO_RARE,
    TOO_WIDE,
)
from mneme.attribution.verdicts import held_out_disagrees, uncertain_reasons
from mneme.store.run import Run, open_run
from mneme.store.schema import MIGRATIONS

MARGIN = 0.2


def test_the_first_reason_that_holds_is_the_latents() -> None:
    documents = np.array([40, 3.9, 40, 40, 40, 40, 0])
    disagrees = np.array([False, True, True, False, False, False, False])
    own = np.array([1.0, 2.0, 2.0, 1.6, 1.4, np.nan, np.nan])
    assert uncertain_reasons(documents, disagrees, own).tolist() == [
        TOO_WIDE,
        TOO_RARE,
        HELD_OUT,
        POORLY_RECONSTRUCTED,
        TOO_WIDE,
        TOO_WIDE,
        TOO_RARE,
    ]


def test_held_out_text_disagrees_where_the_training_s_own_shows_a_change_that_it_does_not() -> None:
    rng = np.random.default_rng(0)
    ratio = np.array([1.0, 2.0, 2.0, 0.5, 0.5, 1.05])  # tuned over base, in the training's documents
    training = DocumentMoments(6)
    for document in range(30):
        base = rng.normal(1, 0.05, 6)
        shares = np.stack([base, base * ratio * rng.normal(1, 0.02, 6)], axis=1)
        training.update(
            DocumentShares(np.full(6, document), np.arange(6), np.ones(6), shares, np.zeros((6, 8)))
        )
    held_out = np.array([0.9, 0.05, 0.6, 0.0, -0.6, 0.0])
    found = held_out_disagrees(training, held_out, 0.95, MARGIN, 0.0)
    assert found.tolist() == [False, True, False, True, False, False]
    assert not held_out_disagrees(None, held_out, 0.95, MARGIN, 0.0).any()


def world(documents: np.ndarray, gain: np.ndarray, fires: np.ndarray, extra: float = 0.0):  # type: ignore[no-untyped-def]
    """Orthogonal latents, d^t = gain d^b, and of latent 0 `extra` of another direction; fires: (N, F) where."""
    F = len(gain)
    rng = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(24, 24, generator=rng, dtype=torch.float64)).Q
    base = q[:F]
    tuned = base * torch.from_numpy(gain)[:, None]
    tuned[0] += extra * q[-1]
    decoder = torch.stack([base, tuned])
    encoder = torch.stack([base.T, torch.zeros_like(base.T)])
    f = (torch.rand(fires.shape, generator=rng, dtype=torch.float64) + 0.7) * torch.from_numpy(fires)
    x = torch.einsum("bf,mfd->bmd", f, decoder)
    x += 0.02 * torch.randn(len(x), 2, 24, generator=rng, dtype=torch.float64)
    return HandMade(encoder, decoder, torch.zeros(2, 24, dtype=torch.float64), threshold=0.5), x, documents


def test_a_latent_that_one_probe_shows_or_that_is_rare_says_so() -> None:
    rng = np.random.default_rng(0)
    documents = np.arange(3000) // 50
    fires = rng.random((3000, 6)) < 0.1
    fires[:, 4] &= documents == 0
    crosscoder, x, documents = world(documents, np.array([1, 1, 2, 0.5, 1, 1.0]), fires, extra=0.6)
    config = AttributionConfig(batch_size=512, common_scale=False)
    latents = attribute(crosscoder, FakeCache(x, documents), None, config).latents
    assert latents["verdict"].tolist() == [
        *["uncertain", "unchanged", "amplified", "suppressed", "uncertain", "unchanged"]
    ]
    assert latents["reason"].fillna("").tolist() == [ONE_PROBE, "", "", "", TOO_RARE, ""]


def test_an_end_that_nothing_bounds_is_null_and_decides_as_before() -> None:
    rng = np.random.default_rng(1)
    documents = np.arange(3000) // 50
    crosscoder, x, documents = world(documents, np.array([1, 0.0, 1, 1, 1, 1]), rng.random((3000, 6)) < 0.1)
    config = AttributionConfig(batch_size=512, common_scale=False)
    found = attribute(crosscoder, FakeCache(x, documents), None, config)
    latents = found.latents
    assert latents["verdict"][1] == "suppressed" and np.isnan(latents["ci_low"][1])
    assert -7 < latents["ci_high"][1] < -1 and latents["reason"].isna().all()
    # a null pair still asks for a margin that this latent would not clear
    assert null_row("null", found, config)["margin"][0] > 1
    ends = latents[["ci_low", "ci_high"]].to_numpy()
    assert np.nanmin(ends) > -7 and np.nanmax(ends) < 7


def test_documents_count_by_what_they_hold() -> None:
    moments = DocumentMoments(3)
    shares = np.array([[1.0, 1], [1, 1], [1, 1], [1, 1], [9, 0], [1, 0]])
    latent, document = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 1, 2, 3, 0, 1])
    moments.update(DocumentShares(document, latent, np.ones(6), shares, np.zeros((6, 8))))
    np.testing.assert_allclose(moments.effective_documents(), [4, 100 / 82, 0])


def test_every_reason_has_a_meaning() -> None:
    assert set(REASONS) == {ONE_PROBE, GROUP, TOO_RARE, HELD_OUT, POORLY_RECONSTRUCTED, TOO_WIDE}
    assert all(meaning and not meaning.endswith(".") for meaning in REASONS.values())


def test_runs_made_before_get_the_column_and_lose_the_cap(tmp_path: Path) -> None:
    number = [each.__name__.endswith("uncertain_reasons") for each in MIGRATIONS].index(True)
    with duckdb.connect(str(tmp_path / "run.duckdb")) as connection:
        for i, migration in enumerate(MIGRATIONS[:number], start=1):
            migration(connection)
            connection.execute("INSERT INTO schema_version VALUES (?)", [i])
        connection.execute(
            "INSERT INTO latents (latent, ci_low, ci_high) VALUES (0, -7, 7), (1, 3.1, 7), (2, 0.1, 0.2)"
        )
    run: Run = open_run(tmp_path)
    assert run.rows("SELECT ci_low, ci_high, reason FROM latents ORDER BY latent") == [
        (None, None, None),
        (3.1, None, None),
        (0.1, 0.2, None),
    ]
