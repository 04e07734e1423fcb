"""The Python interface: the same work as the command line, from a notebook.

import mneme
run = mneme.diff("org/model", "org/model-tuned", corpus=texts, layer=14, out="runs/mine")
run = mneme.diff(model, tuned_model, tokenizer=tokenizer, corpus=texts, out="runs/mine")
run.effects()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mneme._util.errors import FinishedRunError
from mneme._util.files import check_place
from mneme._util.notebook import shown
from mneme._util.progress import Progress
from mneme.config import make_config
from mneme.run.kept_text import forget_other_texts, keep_text
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd
    from torch import nn
    from transformers import PreTrainedTokenizerBase


def diff(
    base: str | Path | nn.Module,
    tuned: str | Path | nn.Module,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    corpus: str | Path | pd.DataFrame | Iterable[str | Mapping[str, Any]] = "bundled",
    text_field: str | None = None,
    layer: int | None = None,
    out: str | Path = "runs/diff",
    replace: bool = False,
    progress: Progress | bool | None = None,
    **sections: dict[str, Any],
) -> Run:
    """Compare a model before and after: everything from activations to the report, in one folder.

    `base`, `tuned`: hub id, folder, .gguf file, PEFT adapter folder, delta folder, `bundled:base`,
    `bundled:tuned`; or two loaded transformers or PEFT models with their `tokenizer` (see `mneme.pair`), which are not
    changed. `corpus`: 'bundled', a file or folder of text, 'hf:NAME'; or text that you hold: a data frame, a Dataset, a
    list or iterator of strings or of dicts, which is kept as a file in the run. `text_field`: which field of a row is
    its text, `a.b` inside of objects (default: `text`, `content`, or a conversation in one of the usual layouts).
    `layer`: the residual stream after this layer is read (default: from the middle on, the earliest that holds 90% of
    the difference of the predictions; `Run.layer_profile()` has what all layers show). Further settings by section, as
    in the settings file: `diff(..., crosscoder={"k": 64}, harvest={"max_tokens": 50_000})`.

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
    if text_field is not None:
        values["text_field"] = text_field
    if layer is not None:
        values["harvest"] = {**values.get("harvest", {}), "layer": layer}
    bars = shown(progress)
    if isinstance(corpus, str | Path):
        made = make_config({**values, "corpus": str(corpus)})
        return run_pipeline(made, out, bars, replace=replace, pair=models)
    make_config(values)  # refused before the text is written
    check_place(Path(out))
    kept, new = keep_text(corpus, Path(out), text_field)
    try:
        made = make_config({**values, "corpus": kept.name})
        run = run_pipeline(made, out, bars, replace=replace, pair=models)
    except FinishedRunError:
        if new:
            kept.unlink(missing_ok=True)
        raise
    forget_other_texts(kept)
    return run
