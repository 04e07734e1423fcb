"""Checks of a finished run that cost as much as the run itself: null pairs, and other seeds.

    nulls       pairs with no change through the same machinery: how often is a change called all the same?
    stability   dictionaries of other seeds: which latents and verdicts are found again?

Both write to the run they check; what is already trained is kept, so that a check that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from mneme._util.errors import ConfigError, RunError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.config import RunConfig, make_config, read_config
from mneme.config.settings import differing
from mneme.run.context import Workbench
from mneme.store.files import known_sha256, writing
from mneme.store.run import Run, open_run
from mneme.store.seals import SETTINGS, check_seals, sealed_settings

if TYPE_CHECKING:
    from mneme.crosscoder import Crosscoder, CrosscoderConfig


_ANYHOW = (
    *("base", "tuned", "corpus"),  # known by what is in them, wherever they lie
    *(f"harvest.{key}" for key in ("dtype", "device", "cache_gb", "remote", "batch_tokens")),
)


class Nulls(NamedTuple):
    """What null pairs say."""

    table: pd.DataFrame
    """The run's table `nulls`."""
    margin: float
    """On the log ratio, natural log; the run's own where that is enough."""
    min_reach: float
    """For categories; the run's own where that is enough."""


def run_nulls(
    folder: str | Path, *, benign: Sequence[str | Path] = (), progress: Progress = NULL_PROGRESS
) -> Nulls:
    """How often a change is called where there is none, written to the run, and the thresholds that this asks for.

    Nulls: the base against itself, rounded, with a dictionary trained on that pair; the run's document sums with
    base and tuned swapped at random; and each run of `benign` (two tunes that should not differ, say two seeds
    of one benign fine-tune, already analysed). Raises RunError for a folder that is no finished run.
    """
    from mneme.attribution.nulls import calibrated, null_row, rounding_null, shuffled_null
    from mneme.attribution.post_label_health import null_health
    from mneme.attribution.stream import attribute
    from mneme.effects.predict import whole_behaviour

    bench, run = finished_bench(folder, progress)
    others = [finished_bench(other, progress)[0] for other in benign]
    config, effects = bench.config.attribution, bench.config.effects
    common = run.rows("SELECT value FROM health WHERE metric = 'common_scale'")
    reference = float(np.log(common[0][0])) if common and common[0][0] else 0.0

    def row(kind: str, crosscoder: Crosscoder, cache: Any, text: Workbench) -> pd.DataFrame:
        found = attribute(crosscoder, cache, None, config, progress)
        return null_row(kind, found, config).assign(**_reached(bench, crosscoder, cache, found.latents, text))

    def tuned(other: Workbench) -> pd.DataFrame:
        whole = whole_behaviour(other.cache, effects)
        made = row(f"benign: {other.folder.name}", other.crosscoder, other.cache, other)
        return made.assign(kl=whole.kl, nll_change=whole.nll_change[0])

    with writing(bench.folder):
        rounded = rounding_null(bench.cache)
        fit = kept_crosscoder(bench, "null-rounded", bench.config.crosscoder, rounded)
        rows = [
            row("base against itself, rounded", fit, rounded, bench),
            shuffled_null(bench.crosscoder, bench.cache, config, reference),
            *(tuned(other) for other in others),
        ]
        table = pd.concat(rows, ignore_index=True)
        margin = calibrated(table["margin"], config.margin)
        reach = calibrated(table["reach"], effects.min_reach) if "reach" in table else effects.min_reach
        with run.stage_writer() as writer:
            writer.replace("nulls", table)
            rate = float(table["rate"].max())
            writer.upsert("health", null_health(rate, (margin, config.margin), (reach, effects.min_reach)))
        tell_findings(run)
    return Nulls(table, margin, reach)


def _reached(
    bench: Workbench, crosscoder: Crosscoder, cache: Any, latents: pd.DataFrame, text: Workbench
) -> dict[str, Any]:
    """Columns of `nulls` about the run's categories on the text of `text`; none where the run has no effects."""
    from mneme.effects.null_affected_share import null_reach
    from mneme.effects.side_effects import lay_text

    if bench.run.finished("effects") is None:
        return {}
    config = bench.config.effects
    laid = lay_text(
        text.cache, lambda ids: str(text.tokenizer.decode(ids)), bench.encoder, config, bench.progress
    )
    return null_reach(crosscoder, cache, latents, laid, config, bench.progress)._asdict()


def run_stability(
    folder: str | Path, *, seeds: int = 3, progress: Progress = NULL_PROGRESS
) -> dict[str, float]:
    """Retrain with other seeds, match the latents, and write each one's `stability`; returns the shares found again.

    Keys: `latents` (live ones, mean over seeds), `pw_mcc`, each verdict (that its match has the same one), and, of
    a run with effects, `categories` (of the same verdict, mean over seeds).
    Raises ConfigError for fewer than one seed, RunError for a folder that is no finished run.
    """
    from mneme.attribution.post_label_health import stability_health
    from mneme.attribution.stability import match_latents, pw_mcc, verdict_persistence
    from mneme.attribution.stream import attribute

    if seeds < 1:
        raise ConfigError("--seeds must be at least 1")
    bench, run = finished_bench(folder, progress)
    latents = run.sql("SELECT * FROM latents ORDER BY latent")
    verdict = latents["verdict"].to_numpy(dtype=object)
    live = verdict != "dead"
    norm = np.hypot(*(latents[name].to_numpy(float) for name in ("norm_base", "norm_tuned")))
    weight = latents["mean_activation"].to_numpy(float) * norm
    persists, mcc, verdicts, categories = [], [], [], []
    with writing(bench.folder):
        for seed in range(bench.config.crosscoder.seed + 1, bench.config.crosscoder.seed + 1 + seeds):
            config = dataclasses.replace(bench.config.crosscoder, seed=seed)
            other = kept_crosscoder(bench, f"seed-{seed}", config, bench.cache)
            match = match_latents(bench.crosscoder, other, live)
            with tempfile.TemporaryDirectory(dir=bench.folder / "checks") as codes:
                found = attribute(other, bench.cache, codes, bench.config.attribution, progress)
                if run.finished("effects") is not None:
                    categories.append(_same_categories(bench, run, other, codes, found.latents))
            persists.append(match.persists)
            mcc.append(pw_mcc(match, np.where(live, weight, np.nan)))
            other_verdict = found.latents.sort_values("latent")["verdict"].to_numpy(dtype=object)
            verdicts.append(verdict_persistence(verdict, other_verdict, match))
        share = np.mean(persists, axis=0)
        columns = pd.DataFrame({"latent": latents["latent"], "stability": np.where(live, share, np.nan)})
        with run.stage_writer() as writer:
            writer.update_latents(columns)
            shares = [_mean(p[live]) for p in persists]
            writer.upsert("health", stability_health(shares, mcc, categories))
        tell_findings(run)
    by_verdict = {str(word): float(value) for word, value in pd.DataFrame(verdicts).mean().items()}
    told = {"latents": _mean(share[live]), "pw_mcc": _mean(np.array(mcc)), **by_verdict}
    return told | ({"categories": float(np.mean(categories))} if categories else {})


def _mean(values: np.ndarray) -> float:
    """Of what is defined; NaN where nothing is: a run may have no live latent."""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return float(known.mean()) if len(known) else float("nan")


def _same_categories(
    bench: Workbench, run: Run, crosscoder: Crosscoder, codes: str, latents: pd.DataFrame
) -> float:
    """Share of the run's categories that another dictionary of the same activations gives the same verdict."""
    from mneme.crosscoder import CodeCache
    from mneme.effects.side_effects import predict_effects

    other = predict_effects(
        bench.cache,
        CodeCache(codes),
        latents,
        crosscoder.raw_decoder(),
        lambda ids: str(bench.tokenizer.decode(ids)),
        bench.encoder,
        bench.config.effects,
        progress=bench.progress,
    ).effects
    both = run.effects().merge(other, on="category", suffixes=("", "_other"))
    return float((both["verdict"] == both["verdict_other"]).mean())


def finished_bench(folder: str | Path, progress: Progress) -> tuple[Workbench, Run]:
    """The bench of a run whose attribution is done, and whose files are those that its tables were made from.

    Raises RunError for a folder that is no such run, or whose settings or files have changed since.
    """
    run = open_run(folder)
    if run.finished("attribution") is None or not (run.path / "activations" / "index.json").exists():
        raise RunError(
            f"{run.path} is not finished: run `mneme run {run.path / 'run.toml'} --out {run.path}` first"
        )
    config = settings_of(run)
    check_seals(run.path, ("harvest", "crosscoder"), progress=progress)
    run.check_blocks()
    return Workbench(config, run.path, progress), run


def settings_of(run: Run) -> RunConfig:
    """A run's settings, from its run.toml, which may name models that were moved, or another device.

    Raises RunError where it gives others than the run's tables were made with.
    """
    file = run.path / SETTINGS
    now = make_config(read_config(file))
    if (text := sealed_settings(run)) is None:
        return now
    try:
        made = make_config(tomllib.loads(text))
    except ConfigError:  # in the words of an earlier mneme
        return now
    for each in differing(made.flat(), now.flat()):
        if each.setting not in _ANYHOW:
            raise RunError(
                f"{file} has {each.setting} = {each.now}, and the run's tables were made with {each.there}: put it"
                f" back, or `mneme run {file} --out {run.path} --replace` makes them again"
            )
    return now


def tell_findings(run: Run) -> None:
    """Bring what the run says up to what was found: the verdict in a sentence, and the report where it was written."""
    from mneme.report import write_report
    from mneme.store.queries.evidence import verdict_facts

    if run.finished("effects") is not None:
        config = make_config(read_config(run.path / "run.toml"))
        facts = verdict_facts(run, config.effects, config.harvest.behaviour_share)
        with run.stage_writer() as writer:
            writer.set_info(**facts)
    if run.finished("report") is not None:
        write_report(run, run.path / "report")


def kept_crosscoder(bench: Workbench, name: str, config: CrosscoderConfig, activations: Any) -> Crosscoder:
    """A dictionary trained for a check, or the one of an earlier call with the same settings and text."""
    from mneme.crosscoder import Crosscoder, train_crosscoder
    from mneme.store.files import write_text

    folder = bench.folder / "checks" / name
    note, weights = folder / "made_from.txt", folder / "model.safetensors"

    def made_from() -> str:
        digest = known_sha256(weights) if weights.is_file() else "nothing"
        return f"{config!r}\n{bench.cache.fingerprint}\n{digest}\n"

    # A damaged one is trained again: it is only kept so that a check that was stopped goes on.
    if note.is_file() and note.read_bytes() == made_from().encode():
        return Crosscoder.from_pretrained(folder)
    crosscoder = train_crosscoder(
        activations, config, checkpoint=folder / "checkpoint", progress=bench.progress
    )
    crosscoder.save_pretrained(folder)
    write_text(note, made_from())
    return crosscoder
