"""From evidence to a word: amplified, suppressed, unchanged, uncertain or dead.

Let r be the log_ratio most latents share (0 unless the whole residual stream grew) and M the margin:

    amplified    interval above r + M  and  q < fdr        suppressed   interval below r - M  and  q < fdr
    unchanged    interval within [r - M, r + M]            dead         never fires
    uncertain    everything else, and everything undefined

A called latent becomes uncertain when the joint solution of its group contradicts it (`mneme.attribution.joint`), or
when a moderate change shows along one of its decoders only (`one_probe_only`). Every uncertain latent has a reason
(`mneme.attribution.reasons`), the first that holds.
"""

from __future__ import annotations

import numpy as np

from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import DocumentMoments, fieller_interval
from mneme.attribution.reasons import HELD_OUT, POORLY_RECONSTRUCTED, TOO_RARE, TOO_WIDE

FEW_DOCUMENTS = 4
"""A latent whose evidence comes from fewer, counted as equal ones, is too rare: on the bundled pair these are just the
latents whose interval is bounded on neither side."""
_MISFIT = 0.5
"""Share of what a latent writes by which its direction may be off in the model whose decoder is the probe."""


def common_log_ratio(log_ratio: np.ndarray, minimum: int = 20) -> float:
    """The log_ratio most latents share: the median of the shortest interval that holds a third of them.

    log_ratio: those of the live latents with evidence. 0 when there are fewer than `minimum`. Like a mode, it
    ignores the changed latents wherever they lie, as long as the unchanged ones are the densest third.
    """
    values = np.sort(log_ratio[np.isfinite(log_ratio)])
    if len(values) < minimum:
        return 0.0
    k = len(values) // 3
    start = int(np.argmin(values[k:] - values[:-k]))
    return float(np.median(values[start : start + k + 1]))


def one_probe_only(
    verdict: np.ndarray,
    log_ratio: np.ndarray,
    other_log_ratio: np.ndarray,
    norm_ratio: np.ndarray,
    config: AttributionConfig,
    reference: float,
) -> np.ndarray:
    """(F,) bool: called for a moderate change that shows along the main probe and not along the other decoder.

    If one model adds to a direction what another feature brings (d^t = d^b + w), the larger decoder sees a change
    of |d^t|^2 / (d^b . d^t) and the smaller one none: what the latent stood for may be as it was. Changes of
    `both_probes_below` and more are changes in any reading, and are not questioned. other_log_ratio: that of the
    other probe. norm_ratio: smaller over larger decoder norm; below `redirected_norm` the smaller decoder is too
    short to be a probe.
    """
    change, other = log_ratio - reference, other_log_ratio - reference
    with np.errstate(invalid="ignore"):
        unseen = np.sign(change) * other < config.margin / 2
        probed = (norm_ratio >= config.redirected_norm) & (np.abs(change) < config.both_probes_below)
    return np.isin(verdict, ("amplified", "suppressed")) & probed & unseen


def worth_testing(training: DocumentMoments | None, margin: float, common_scale: bool) -> np.ndarray | bool:
    """(F,) bool: latents that the documents of the training show to have changed beyond the margin, whatever the noise.

    Only these are tested on the held-out documents for a change, so that the false-discovery rate is over few tests:
    the choice is made on other documents than the test (Cox 1975, sample splitting; Bourgon et al. 2010, independent
    filtering). Without such documents all are tested.
    """
    if training is None:
        return True
    ratio = training.log_ratio()
    own = common_log_ratio(ratio[training.n > 1]) if common_scale else 0.0
    with np.errstate(invalid="ignore"):
        found: np.ndarray = np.abs(ratio - own) > margin
    return found


def held_out_disagrees(
    training: DocumentMoments | None, log_ratio: np.ndarray, level: float, margin: float, reference: float
) -> np.ndarray:
    """(F,) bool: the documents that training read show a change, and the held-out ones (log_ratio) none, or another.

    A change: the interval beyond the margin. None: less than half the margin. training: None knows of no disagreement.
    """
    if training is None:
        return np.zeros(len(log_ratio), dtype=bool)
    low, high = fieller_interval(training, level)
    change = log_ratio - reference
    # the scale that most latents share, as the training's own documents have it
    of_training = training.log_ratio()
    own = common_log_ratio(of_training[training.n > 1]) if reference != 0 else 0.0
    with np.errstate(invalid="ignore"):
        up = (low > own + margin) & (change < margin / 2)
        down = (high < own - margin) & (change > -margin / 2)
    found: np.ndarray = up | down
    return found


def uncertain_reasons(documents: np.ndarray, disagrees: np.ndarray, own_beta: np.ndarray) -> np.ndarray:
    """(F,) reasons, for latents whose interval decides nothing.

    documents: (F,), the effective number of those it fires in. disagrees: (F,) bool, `held_out_disagrees`. own_beta:
    (F,), on the error target, of the model whose decoder is the main probe: 1 where the dictionary writes what that
    model holds.
    """
    with np.errstate(invalid="ignore"):
        misfit = np.abs(own_beta - 1) > _MISFIT
    reason = np.full(len(documents), TOO_WIDE, dtype=object)
    reason[misfit] = POORLY_RECONSTRUCTED
    reason[disagrees] = HELD_OUT
    reason[documents < FEW_DOCUMENTS] = TOO_RARE
    return reason


def decide(
    low: np.ndarray,
    high: np.ndarray,
    q: np.ndarray,
    dead: np.ndarray,
    margin: float,
    reference: float,
    fdr: float,
) -> np.ndarray:
    """(F,) verdicts. low, high: interval ends of log_ratio, NaN undefined; q: false-discovery q-values."""
    verdict = np.full(len(low), "uncertain", dtype="<U10")
    sure = q < fdr
    verdict[sure & (low > reference + margin)] = "amplified"
    verdict[sure & (high < reference - margin)] = "suppressed"
    verdict[(low >= reference - margin) & (high <= reference + margin)] = "unchanged"
    verdict[dead] = "dead"
    return verdict
