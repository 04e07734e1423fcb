"""A finding's change patched out, against patching by hand."""

import numpy as np
import pytest
import torch
from patched_models import WIDTH, compared_by_hand, streams_by_hook
from test_patches import World, random_dictionary
from tiny_models import changed_in_layer, tiny_llama

from mneme.causal.finding_patches import FindingChange, of_findings, pca_of, source_of
from mneme.causal.frames import finding_rows
from mneme.causal.measure import UNPATCHED, Sums
from mneme.causal.shares import share


@pytest.fixture(scope="module")
def world():
    base = tiny_llama()
    return World(base, changed_in_layer(base, 1), random_dictionary(), skipped=[(0, 3), (2, 0), (5, 9)])


def changes(rng):
    found = []
    for name, latents in (("f-a", [2, 5, 11]), ("f-b", [20])):
        main = rng.normal(size=WIDTH)
        like = np.array([[i] for i in range(len(latents))])
        found.append(
            FindingChange(
                name, np.array(latents), 0.3 * rng.normal(size=(len(latents), WIDTH)), len(latents) - 1 or 1,
                main / np.linalg.norm(main), like,
            )
        )  # fmt: skip
    return found


def by_hand(world, change_at):
    """Every document by itself, `change_at(base, tuned, f)` (d,) taken from the tuned stream at each kept token."""
    sums = []
    for document, tokens in enumerate(world.tokens):
        ids = [0, *tokens]
        x = torch.stack([streams_by_hook(model, ids) for model in world.models], dim=1)
        f = world.dictionary.crosscoder.encode(x)
        kept = world.cache.position[world.cache.document == document].tolist()
        change = torch.zeros(len(ids), WIDTH)
        for position in kept:
            at = position + 1
            change[at] -= torch.as_tensor(
                change_at(x[at, 0].numpy(), x[at, 1].numpy(), f[at].numpy())
            ).float()
        _, logp, after = world.by_hand(document, 1, change)
        measured = [p + 1 for p in kept if p + 2 < len(ids)]
        sums.append(compared_by_hand(logp[0], after, ids, measured))
    return np.array(sums)


def test_findings_and_principal_directions_are_patched_as_by_hand(world):
    rng = np.random.default_rng(0)
    findings = changes(rng)
    principal = np.linalg.qr(rng.normal(size=(WIDTH, 3)))[0].T
    found = world.measured(
        lambda text, streams: of_findings(world.dictionary, text, streams, findings, principal, 0)
    )
    for each in findings:
        expected = by_hand(world, lambda base, tuned, f, each=each: f[each.latents] @ each.vectors)
        got = found.values["undo", source_of(each.finding, "finding")]
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=5e-4)
    other = findings[1].main
    expected = by_hand(
        world, lambda base, tuned, f: np.linalg.norm(f[findings[0].latents] @ findings[0].vectors) * other
    )
    np.testing.assert_allclose(
        found.values["undo", source_of("f-a", "other findings")], expected, rtol=2e-3, atol=5e-4
    )
    for rank in (1, 2):
        expected = by_hand(
            world, lambda base, tuned, f, r=rank: (tuned - base) @ principal[:r].T @ principal[:r]
        )
        np.testing.assert_allclose(found.values["undo", pca_of(rank)], expected, rtol=2e-3, atol=5e-4)
    assert {source for _, source in found.values} == {
        "none", "pca 1", "pca 2",
        *(source_of(f, s) for f in ("f-a", "f-b") for s in ("finding", "other findings", "random latents",
                                                            "random direction")),
    }  # fmt: skip


def test_rows_hold_each_finding_against_the_pca_of_its_rank():
    rng = np.random.default_rng(0)
    before = rng.uniform(1, 2, (12, 2))
    after = {
        source_of("f-a", "finding"): 0.7, "pca 2": 0.4, source_of("f-a", "random latents"): 1.0, "pca 1": 0.1,
    }  # fmt: skip
    values = {UNPATCHED: before} | {("undo", name): left * before for name, left in after.items()}
    sums = Sums(np.arange(12), np.full(12, 5.0), np.ones(12), values)
    rows = finding_rows(sums, {"f-a": 2, "f-gone": 1}).set_index(["finding", "source"])
    own = rows.loc["f-a", "finding"]
    told = share(before[:, 0], 0.7 * before[:, 0], np.full(12, 5.0), 0.01)
    assert own[["kl_share", "kl_low", "kl_high"]].tolist() == pytest.approx(list(told))
    assert own["of_pca"] == pytest.approx(0.3 / 0.6)
    assert rows.loc["f-a", "pca"]["kl_share"] == pytest.approx(0.6) and np.isnan(
        rows.loc["f-a", "pca"]["of_pca"]
    )
    assert set(rows.index.get_level_values("finding")) == {"f-a"}
