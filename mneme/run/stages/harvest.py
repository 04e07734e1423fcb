"""Both models read the corpus: their activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme.run.stage import Stage, StageResult

if TYPE_CHECKING:
    from mneme.run.context import Workbench


def harvest_stage(bench: Workbench) -> StageResult:
    """Both models' activations on the corpus, into `activations/`."""
    from mneme.harvest import harvest
    from mneme.harvest.layer import check_streams

    folder = bench.folder / "activations"
    cache = harvest(bench.pair, bench.corpus, bench.config.harvest, folder, bench.progress, bench.plan)
    check_streams(cache)
    bench.cache = cache
    info = {
        "name": bench.folder.resolve().name,
        "base": bench.config.base,
        "tuned": bench.config.tuned,
        "layer": cache.layer,
        "n_layers": cache.n_layers,
        "width": cache.width,
        "corpus": bench.corpus.source,
        "n_documents": cache.n_documents,
        "n_tokens": cache.n,
        "n_skipped_bos": cache.n_skipped_bos,
        "n_skipped_sinks": cache.n_skipped_sinks,
    }
    return StageResult({"documents": cache.documents()}, info=info)


STAGE = Stage(
    "harvest",
    harvest_stage,
    ("harvest",),
    ("documents",),
    ("activations/index.json",),
    rooms=("activations",),
)
