"""Two runs compared: latents that are the same are found again, whichever way they are matched."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mneme._util.errors import RunError
from mneme.compare.cache import CompareFile
from mneme.compare.compare import compare_runs
from mneme.compare.match import by_firing, by_label
from mneme.store.queries.compare import both_effects, both_latents, other_layers
from mneme.store.run import Run


class Codes:
    """Codes in memory, in two shards."""

    def __init__(self, fires: np.ndarray) -> None:
        self.fires = fires

    def shards(self):  # type: ignore[no-untyped-def]
        half = len(self.fires) // 2
        for first, part in ((0, self.fires[:half]), (half, self.fires[half:])):
            row, latent = np.nonzero(part)
            yield first, (row, latent, np.ones(len(row), dtype=np.float32)), len(part)


def test_latents_that_fire_alike_are_matched_by_their_correlation() -> None:
    rng = np.random.default_rng(0)
    fires = rng.random((400, 12)) < 0.2
    order = rng.permutation(12)
    noisy = fires[:, order] ^ (rng.random((400, 12)) < 0.02)
    rows = np.arange(10, 390)
    found = by_firing(Codes(fires), Codes(noisy), (12, 12), (rows, rows))
    assert (order[found.other] == found.one).all() and len(found.one) == 12
    for a, b, phi in zip(*found, strict=True):
        assert phi == pytest.approx(np.corrcoef(fires[rows, a], noisy[rows, b])[0, 1], abs=1e-6)


def test_labels_match_by_their_nearest() -> None:
    found = by_label(np.eye(3), np.eye(3)[[2, 0]], (np.array([5, 6, 7]), np.array([1, 2])))
    assert found.one.tolist() == [5, 6, 7] and found.other.tolist()[::2] == [2, 1]
    assert found.similarity.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("other", "method"), [({"layer": "1"}, "decoder"), ({"layer": "2"}, "firing"), ({"tuned": "x"}, "firing")]
)
def test_a_run_compared_with_itself_differs_in_nothing(
    whole_run: Run, tmp_path: Path, other: dict[str, str], method: str
) -> None:
    runs = [copy(whole_run, tmp_path / name) for name in ("one", "two")]
    with runs[0].stage_writer() as writer:
        writer.set_info(layer="1")
    with runs[1].stage_writer() as writer:
        writer.set_info(**{"layer": "1", **other})
    beware = other_layers(*runs)
    assert ("different layers, 1" in beware and "and 2" in beware) == (other.get("layer") == "2")
    kept = CompareFile(runs[0].path, runs[1].path)
    assert kept.read() is None and kept.state() == {}
    made = kept.make()
    again = kept.read()
    assert again is not None and again.method == made.method == method
    live = whole_run.sql("SELECT latent FROM latents WHERE NOT dead")["latent"].tolist()
    found = again.latents[again.latents["agreed"]]
    assert found["latent"].tolist() == found["other"].tolist() == live
    assert not both_latents(*runs, found)["change"].any()
    assert not both_effects(*runs)["change"].any()


def test_runs_without_verdicts_are_refused_and_say_what_makes_them(whole_run: Run, tmp_path: Path) -> None:
    half = Run(tmp_path / "half")
    with half.stage_writer() as writer:
        writer.set_info(layer="1")
    with pytest.raises(RunError, match="mneme run"):
        compare_runs(whole_run.path, half.path)


def copy(run: Run, folder: Path) -> Run:
    shutil.copytree(run.path, folder)
    return Run(folder)


def test_runs_that_can_not_be_written_are_compared_all_the_same(
    whole_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    kept = CompareFile(tmp_path / "run", whole_run.path)
    monkeypatch.setattr("mneme.compare.cache.pq.write_table", refused)
    assert kept.make().method == "decoder" and kept.read() is None
    monkeypatch.setattr("mneme.compare.cache.os.access", lambda *_: False)
    with pytest.raises(RunError, match="can't be written"):
        kept.start()
