"""All that a run needs, checked before any work: what `mneme run` and its --dry-run both do first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mneme._util.errors import LabelError
from mneme.run.context import RunContext

if TYPE_CHECKING:
    from mneme.crosscoder.formats import Stored
    from mneme.run.estimate import Estimate


def preflight(context: RunContext, start: str | None = "harvest") -> Estimate | None:
    """All that a run's settings, files and models must fulfil, told in one line before any work.

    What `mneme run` and its --dry-run both do first. `start`: the stage that the run begins with ("harvest",
    "crosscoder", or None for a later one); models are loaded only where their activations are still to be
    read. Returns what such a run will take.

    Raises a UserError: see the rooms' own checks.
    """
    _check_settings(context)
    if start == "harvest":
        return _check_models(context)
    if start == "crosscoder":
        _check_crosscoder(
            context, _imported(context), context.cache.layer, context.cache.width, context.cache.n
        )
    return None


def _check_settings(context: RunContext) -> None:
    """What can be told without loading a model, quickest first."""
    from mneme._util.files import check_place
    from mneme.effects.categories import load_taxonomy
    from mneme.interpret.explainers.names import check_demanded, explainer_names
    from mneme.models.device import pick_device

    config = context.config
    check_place(context.folder)
    if not context.remote:
        pick_device(config.harvest.device)
    load_taxonomy(config.effects.taxonomy).check_names("effects.intended", config.effects.intended)
    _ = context.outcomes
    if config.effects.assign != "encoder" and not explainer_names(config.labels):
        raise LabelError(
            f"effects.assign = {config.effects.assign} asks a labelling model, and none is named: set"
            " OPENAI_MODEL and OPENAI_BASE_URL or OPENAI_API_KEY, or labels.local"
        )
    check_demanded(config.labels)
    _ = context.encoder  # where it is missing, that is told now and not after the harvest


def _check_models(context: RunContext) -> Estimate:
    """The pair, its layer, the text and the sizes that follow from them."""
    from mneme.harvest.layer import check_layer
    from mneme.run.estimate import estimate

    with context.progress.task("estimate", total=None) as task:
        imported = _imported(context)  # before models are loaded: it may not even be there
        check_layer(context.config.harvest, context.pair)
        layer = context.config.harvest.layer
        _check_crosscoder(context, imported, layer, context.pair.width, context.plan.n_tokens)
        expected = estimate(context)
        task.note(expected.sentence())
        if expected.warning:
            task.note(f"warning: {expected.warning}")
    expected.check(context.folder)
    return expected


def _check_crosscoder(
    context: RunContext, imported: Stored | None, layer: int | Literal["auto"], width: int, n_tokens: int
) -> None:
    """Whether the one to load fits the models and the layer, or one of these settings can be trained."""
    from mneme.crosscoder.formats import check_width
    from mneme.crosscoder.grid import check_ranks
    from mneme.crosscoder.origin import check_origin, foreign_models

    config = context.config.crosscoder
    if imported is None:
        config.check_size(width)
        check_ranks(config, config.latents_for(width), n_tokens)
        return
    source = str(context.config.load_crosscoder)
    check_width(source, imported.width, width)
    check_origin(source, imported.origin, layer)
    if told := foreign_models(imported.origin, context.config.base, context.config.tuned):
        with context.progress.task("imported crosscoder", total=None) as task:
            task.note(told)


def _imported(context: RunContext) -> Stored | None:
    """The crosscoder to load, where there is one: it is read whole, so that a damaged one is told, too."""
    from mneme.crosscoder.formats import read

    source = context.config.load_crosscoder
    return None if source is None else read(source)
