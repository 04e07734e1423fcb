"""`mneme import`: a crosscoder from elsewhere is that crosscoder, and one of another place is told before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mneme.config import make_config
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.export import export_crosscoder
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run


@pytest.fixture
def exported(whole_run: Run, tmp_path: Path) -> Path:
    """The dictionary of a run, as another tool would have published it."""
    own = Crosscoder.from_pretrained(whole_run.path / "crosscoder")
    export_crosscoder(own, tmp_path / "exported", layer=int(whole_run.info()["layer"]))
    return tmp_path / "exported"


def test_an_imported_equivalent_gives_the_runs_own_verdicts(
    whole_run: Run, settings: dict[str, Any], exported: Path, tmp_path: Path
) -> None:
    layer = int(whole_run.info()["layer"])
    values = {
        **settings,
        "harvest": {**settings["harvest"], "layer": layer},
        "load_crosscoder": str(exported),
    }
    found = run_pipeline(make_config(values), tmp_path / "imported")
    rows = "SELECT verdict, n_active FROM latents ORDER BY latent"
    both = list(zip(found.rows(rows), whole_run.rows(rows), strict=True))
    # The run encodes in bfloat16 where the machine has it, an imported one never: a token at the threshold may differ.
    assert all(abs(a[1] - b[1]) <= 2 for a, b in both)
    same = [(a[0], b[0]) for a, b in both if a[1] == b[1]]
    assert len(same) > 24 and all(a == b for a, b in same)


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
