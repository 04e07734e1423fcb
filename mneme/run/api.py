"""The Python interface: the same work as the command line, from a notebook.

import mneme
run = mneme.diff("org/model", "org/model-tuned", corpus=texts, layer=14, out="runs/mine")
run.effects()
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.config import make_config
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run


def diff(
    base: str,
    tuned: str,
    *,
    corpus: str | Sequence[str] = "bundled",
    layer: int | None = None,
    out: str | Path = "runs/diff",
    replace: bool = False,
    progress: Progress = NULL_PROGRESS,
    **sections: dict[str, Any],
) -> Run:
    """Compare a model before and after: everything from activations to the report, in one folder.

    `base`, `tuned`: hub id, folder, .gguf file, PEFT adapter folder, delta folder, `bundled:base`,
    `bundled:tuned`. `corpus`: 'bundled', a file or folder of text, 'hf:NAME', or the texts. `layer`: the
    residual stream after this layer is read (default: from the middle on, the earliest that holds 90% of the
    difference of the predictions; `Run.layer_profile()` has what all layers show). Further settings by section, as in
    the settings file: `diff(..., crosscoder={"k": 64}, harvest={"max_tokens": 50_000})`.

    Called again with the same `out` and settings it reuses what is done; with others it raises FinishedRunError,
    unless `replace` says that what is finished may be made again. Raises a UserError whose message names the fix.
    """
    values: dict[str, Any] = dict(sections)
    values |= {"base": str(base), "tuned": str(tuned)}
    values["corpus"] = corpus if isinstance(corpus, str) else tuple(corpus)
    if layer is not None:
        values["harvest"] = {**values.get("harvest", {}), "layer": layer}
    return run_pipeline(make_config(values), out, progress, replace=replace)
