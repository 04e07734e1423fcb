"""`mneme import`: a crosscoder from elsewhere is that crosscoder, and one of another place is told before any work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mneme.crosscoder import Crosscoder
from mneme.crosscoder.export import export_crosscoder
from mneme.harvest.cache import ActivationCache
from mneme.store.run import Run


@pytest.fixture
def exported(whole_run: Run, tmp_path: Path) -> Path:
    """The dictionary of a run, as another tool would have published it."""
    own = Crosscoder.from_pretrained(whole_run.path / "crosscoder")
    export_crosscoder(own, tmp_path / "exported", layer=int(whole_run.info()["layer"]))
    return tmp_path / "exported"


def test_an_imported_equivalent_reads_a_runs_activations_as_its_own_dictionary_does(
    whole_run: Run, exported: Path
) -> None:
    own = Crosscoder.from_pretrained(whole_run.path / "crosscoder")
    own.config = dataclasses.replace(own.config, encoder_dtype="float32")  # as an imported one encodes
    cache = ActivationCache(whole_run.path / "activations")
    x = cache.read(0, cache.n)
    codes = own.encode(x)
    assert (codes > 0).any()
    torch.testing.assert_close(Crosscoder.from_pretrained(exported).encode(x), codes, rtol=1e-3, atol=1e-3)


def test_the_layer_is_the_files_own_and_another_is_refused_before_the_harvest(
    cli: Any, settings: dict[str, Any], exported: Path, tmp_path: Path
) -> None:
    out = tmp_path / "imported"
    pair = ("--base", settings["base"], "--tuned", settings["tuned"], "--out", out)
    file = exported / "config.json"
    told = json.loads(file.read_text())
    layer = told.pop("layer")
    for change, words, fix in (
        (
            {"hook_point": f"blocks.{layer + 1}.hook_resid_pre"},
            ["--layer", layer + 1],
            f"give --layer {layer}",
        ),
        ({"hook_point": f"blocks.{layer}.hook_mlp_out"}, [], "between layers"),
        ({"hook_point": "blocks.0.hook_resid_pre"}, [], "the embeddings"),
        ({}, [], "does not say which layer it reads: give --layer"),
    ):
        file.write_text(json.dumps(told | change))
        code, _, err = cli("import", exported, *pair, *words)
        assert code == 2 and fix in err and len(err.strip().splitlines()) == 1, err
        assert not (out / "activations").exists()
