"""The attribution stage: one streaming pass over the activations, and everything it proves about each latent.

Each batch is encoded once. Its codes go to disk (later stages read those and never encode again) and into
running sums: scaling, document-level evidence, firing, explained variance. At the end the sums become
verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mneme._util import distributed
from mneme._util.arrays import divide
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.vocabulary import UNCERTAIN
from mneme.attribution.betas import betas_frame
from mneme.attribution.coactivation import coactivation, pairs_within, related_pairs
from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import (
    LOG_LIMIT,
    DocumentMoments,
    fieller_interval,
    margin_p_values,
)
from mneme.attribution.firing import FiringSums
from mneme.attribution.geometry import BASE, TUNED, Geometry, make_geometry
from mneme.attribution.joint import correlated_groups, flips, joint_betas
from mneme.attribution.pairs import encode_pair_sums
from mneme.attribution.pass_sums import AttributionSums, FitQuality
from mneme.attribution.reasons import GROUP, ONE_PROBE
from mneme.attribution.scaling import (
    ScalingSums,
    own_batches,
    scaling_frame,
)
from mneme.attribution.turns import Turns, false_discovery_over, measure_turns, with_redirected
from mneme.attribution.verdicts import (
    common_log_ratio,
    decide,
    held_out_disagrees,
    one_probe_only,
    uncertain_reasons,
    worth_testing,
)
from mneme.crosscoder.codes import CodeCache, code_writer
from mneme.crosscoder.module import Crosscoder
from mneme.harvest.held_out import FEWEST, held_out_of
from mneme.harvest.protocols import Activations
from mneme.models.device import on_gpu


@dataclass(frozen=True)
class Attribution:
    """What the pass found. Frames have the columns of the tables of the same name."""

    latents: pd.DataFrame
    betas: pd.DataFrame
    activation_histogram: pd.DataFrame
    scaling: pd.DataFrame
    """A row a latent, all betas side by side (`scaling_frame`)."""
    half_betas: np.ndarray
    """(2 halves of the documents, 2 models, F)."""
    half_allowed: np.ndarray
    """(2 models, F): by how much the halves of a beta may differ at the intervals' level."""
    fit: FitQuality
    firing: FiringSums
    reference: float
    """The log_ratio most latents share, against which changes are judged."""
    margin: float
    """The margin they were judged with, natural log."""
    level: float
    """Of the intervals."""
    training: DocumentMoments | None = None
    """Of the documents that training read; None where the evidence is of all documents."""
    counts: np.ndarray | None = None
    """(D,) bool, by number: documents that the evidence is of; None: all."""


def attribute(
    crosscoder: Crosscoder,
    cache: Activations,
    codes_folder: Path | str | None,
    config: AttributionConfig | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Attribution:
    """Attribute every latent of a crosscoder on an ActivationCache, in one pass.

    Betas, intervals, p-values and directions are of the documents that the crosscoder's training did not read, where
    it has read some of this cache and enough are left (`evidence_documents`); firing, behaviour and fit are of all.

    Writes the codes of all tokens to `codes_folder` (a CodeCache; None writes none). With several ranks all call
    this; each reads documents of its own, and all get the whole's result. Raises ActivationError
    for activations that are NaN, infinite or of another width.
    """
    config = config or AttributionConfig()
    with on_gpu(crosscoder):
        geometry = make_geometry(crosscoder, config.redirected_cosine, config.redirected_norm)
        counts = evidence_documents(crosscoder, cache)
        state = AttributionSums(geometry, config, counts, np.asarray(cache.document))
        _read(crosscoder, cache, codes_folder, state, progress)
        codes = CodeCache(codes_folder) if codes_folder is not None else None
        turns = measure_turns(
            crosscoder,
            geometry,
            cache,
            np.flatnonzero(geometry.turned),
            config.redirected_cosine,
            codes=codes,
            level=config.level,
            documents=counts,
            batch_size=config.batch_size,
            progress=progress,
        )
        return finalize(state, crosscoder, codes, turns)


def _read(
    crosscoder: Crosscoder,
    cache: Activations,
    codes_folder: Path | str | None,
    state: AttributionSums,
    progress: Progress,
) -> None:
    """The pass: encode each of this rank's batches, write its codes, add it to the sums."""
    geometry, config = state.geometry, state.config
    with (
        code_writer(codes_folder, geometry.n_latents) as write,
        progress.task("attribution", cache.n, "tokens") as task,
    ):
        start, batches = own_batches(cache, config.batch_size, cache.document)
        for x in batches:
            here = slice(start, start + len(x))
            pairs, codes, tokens = encode_pair_sums(crosscoder, geometry, x, cache.document[here])
            write(codes, len(x))
            state.update(pairs)
            state.update_fit(tokens)
            change = cache.nll_tuned[here] - cache.nll_base[here]
            state.firing.update(codes, len(x), cache.position[here], cache.kl[here], change)
            start += len(x)
            task.advance(len(x) * distributed.world_size())


def finalize(
    state: AttributionSums,
    crosscoder: Crosscoder,
    codes: CodeCache | None = None,
    turns: Turns | None = None,
) -> Attribution:
    """Turn a finished pass's sums into frames and verdicts.

    codes: the pass's; without them no latents are solved jointly. turns: without them none is redirected.
    """
    fit, config, geometry = state.finish(crosscoder), state.config, state.geometry
    scaling = scaling_frame(geometry, state.scaling)
    moments = state.moments
    log_ratio = moments.log_ratio()
    firing = state.firing.frame(config.dense_rate, config.position_share)
    dead = firing["dead"].to_numpy()
    evident = ~dead & (moments.n > 1)
    reference = common_log_ratio(log_ratio[evident]) if config.common_scale else 0.0
    if state.bootstrap is not None:
        low, high = state.bootstrap.interval(config.level)
        p = state.bootstrap.margin_p_values(config.margin, reference)
    else:
        low, high = fieller_interval(moments, config.level)
        p = margin_p_values(moments, config.margin, reference)
    p = np.where(evident, p, np.nan)
    tested = evident & worth_testing(state.training, config.margin, config.common_scale)
    q, turn_columns = false_discovery_over(np.where(tested, p, np.nan), turns)
    halves = state.halves.betas(geometry)
    split = np.abs(halves[0] - halves[1])
    columns = [
        "latent", "norm_base", "norm_tuned", "delta_norm", "decoder_cosine", "probe",
        "beta_base", "beta_tuned", "nu_error", "nu_reconstruction",
    ]  # fmt: skip
    latents = scaling[columns].assign(
        log_ratio=log_ratio,
        # an end at the cap is no end: the evidence doesn't bound the change on that side
        ci_low=np.where(low > -LOG_LIMIT, low, np.nan),
        ci_high=np.where(high < LOG_LIMIT, high, np.nan),
        p_value=p,
        q_value=q,
        split_half_base=split[0],
        split_half_tuned=split[1],
        n_documents=moments.n,
        severity=severity(geometry, scaling, state.firing, fit),
        verdict=decide(low, high, q, dead, config.margin, reference, config.fdr),
        turned=geometry.turned & ~dead,
        **turn_columns,
        **{name: firing[name] for name in firing.columns},
    )
    other = scaling_log_ratio(state.scaling, geometry, 1 - geometry.probe)
    norms = np.sort(geometry.norms, axis=0)
    verdict = latents["verdict"].to_numpy()
    doubtful = one_probe_only(verdict, log_ratio, other, divide(norms[0], norms[1]), config, reference)
    own = np.where(geometry.probe == BASE, latents["beta_base"], latents["beta_tuned"])
    disagrees = held_out_disagrees(state.training, log_ratio, config.level, config.margin, reference)
    reason = uncertain_reasons(moments.effective_documents(), disagrees, own)
    latents["verdict"] = np.where(doubtful, "uncertain", verdict)
    latents["reason"] = np.where(doubtful, ONE_PROBE, reason)
    latents = _with_joint(latents, state, codes, reference)
    latents["verdict"] = with_redirected(latents, config.redirected_cosine, config.fdr)
    latents["reason"] = latents["reason"].where(latents["verdict"] == UNCERTAIN, None)
    return Attribution(
        latents,
        betas_frame(scaling, state.beta_moments.intervals(state.scaling, moments.n, geometry, config.level)),
        state.firing.histogram_frame(),
        scaling,
        halves,
        state.halves.allowed(geometry, config.level),
        fit,
        state.firing,
        reference,
        config.margin,
        config.level,
        state.training,
        state.counts,
    )


def evidence_documents(crosscoder: object, cache: Activations) -> np.ndarray | None:
    """(D,) bool, by number: the documents of a cache that evidence on a crosscoder's latents is made of; None: all.

    Those that its training did not read. All of them where that is not known, where training read none of these, and
    where fewer than `held_out.FEWEST` are left (betas are then in-sample, which Health says).
    """
    held = held_out_of(cache, getattr(crosscoder, "training_documents", None))
    if held is None or held.sum() < FEWEST or held[np.unique(cache.document)].all():
        return None
    return held


def _with_joint(
    latents: pd.DataFrame, state: AttributionSums, codes: CodeCache | None, reference: float
) -> pd.DataFrame:
    """Add the joint columns; verdicts that the joint solution contradicts become uncertain."""
    geometry, config = state.geometry, state.config
    n = max(state.firing.n_tokens, 1)
    directions = geometry.directions
    related = coactivation(codes, related_pairs(directions, config.coupling), config.joint_tokens)
    mean = state.firing.total / n
    group = correlated_groups(related, directions.cpu().numpy(), mean, config.coupling, config.max_group)
    within = coactivation(codes, pairs_within(group), config.joint_tokens, state.tokens)
    joint = joint_betas(geometry, state.scaling, within, max(state.n_tokens, 1), group, config.ridge)
    latents = latents.merge(joint, on="latent", how="left")
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs((latents["beta_joint_tuned"] / latents["beta_joint_base"]).to_numpy()))
    verdict = latents["verdict"].to_numpy()
    flipped = flips(verdict, latents["log_ratio"].to_numpy(), ratio, config.margin, reference)
    # a turned latent is judged along two probes, the joint solution along one: they do not compare
    flipped &= ~geometry.turned
    return latents.assign(
        verdict=np.where(flipped, "uncertain", verdict),
        reason=np.where(flipped, GROUP, latents["reason"]),
        correlated_group=latents["correlated_group"].astype("Int64"),
    )


def scaling_log_ratio(sums: ScalingSums, geometry: Geometry, probe: np.ndarray) -> np.ndarray:
    """(F,): ln(|beta_tuned| / |beta_base|) on the error target and the given probe (F,) of each latent."""
    error, which = sums.betas(geometry)["error"], np.arange(geometry.n_latents)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: np.ndarray = np.log(np.abs(error[TUNED, probe, which])) - np.log(
            np.abs(error[BASE, probe, which])
        )
        return found


def severity(geometry: Geometry, scaling: pd.DataFrame, firing: FiringSums, fit: FitQuality) -> np.ndarray:
    """(F,): how far the change of a latent moves the average token, as a share of the base's typical
    deviation.

    mean over tokens of f, times |beta_tuned - beta_base| |p| (for a turned latent |d^t - d^b|), over the
    root mean square of x_base - mean. No unit; NaN where undefined.
    """
    which = np.arange(geometry.n_latents)
    step = np.abs(scaling["beta_tuned"] - scaling["beta_base"]) * geometry.norms[geometry.probe, which]
    turned = np.sqrt(np.maximum(geometry.dots[0, 0] + geometry.dots[1, 1] - 2 * geometry.dots[0, 1], 0))
    step = np.where(geometry.turned, turned, step)
    n = max(firing.n_tokens, 1)
    typical = np.sqrt(fit.variance[0] / n)
    moved = np.where(firing.n_active > 0, firing.total / n * step, np.nan)
    return moved / typical if typical > 0 else np.full(len(which), np.nan)
