"""The Python interface: the same work as the command line, from a notebook.

import mneme
run = mneme.diff("org/model", "org/model-tuned", corpus=texts, layer=14, out="runs/mine")
run = mneme.diff(model, tuned_model, tokenizer=tokenizer, corpus=texts, out="runs/mine")
run.effects()
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mneme._util.notebook import shown
from mneme._util.progress import Progress
from mneme.config import make_config
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def diff(
    base: str | Path | nn.Module,
    tuned: str | Path | nn.Module,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    corpus: str | Sequence[str] = "bundled",
    layer: int | None = None,
    out: str | Path = "runs/diff",
    replace: bool = False,
    progress: Progress | bool | None = None,
    **sections: dict[str, Any],
) -> Run:
    """Compare a model before and after: everything from activations to the report, in one folder.

    `base`, `tuned`: hub id, folder, .gguf file, PEFT adapter folder, delta folder, `bundled:base`,
    `bundled:tuned`; or two loaded transformers or PEFT models with their `tokenizer` (see `mneme.pair`), which are not
    changed. `corpus`: 'bundled', a file or folder of text, 'hf:NAME', or the texts. `layer`: the
    residual stream after this layer is read (default: from the middle on, the earliest that holds 90% of the
    difference of the predictions; `Run.layer_profile()` has what all layers show). Further settings by section, as in
    the settings file: `diff(..., crosscoder={"k": 64}, harvest={"max_tokens": 50_000})`.

    `progress`: bars are drawn in a notebook or a terminal; `False` turns them off, `True` on.

    Called again with the same `out` and settings it reuses what is done; with others it raises FinishedRunError,
    unless `replace` says that what is finished may be made again. Raises a UserError whose message names the fix.
    """
    models = None
    if not (isinstance(base, str | Path) and isinstance(tuned, str | Path)):
        from mneme.models.memory import pair

        models = pair(base, tuned, tokenizer=tokenizer)
        base, tuned = models.base_id, models.tuned_id
    values: dict[str, Any] = dict(sections)
    values |= {"base": str(base), "tuned": str(tuned)}
    values["corpus"] = corpus if isinstance(corpus, str) else tuple(corpus)
    if layer is not None:
        values["harvest"] = {**values.get("harvest", {}), "layer": layer}
    return run_pipeline(make_config(values), out, shown(progress), replace=replace, pair=models)
