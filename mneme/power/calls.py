"""What attribution and effects would say of an injection: their own functions, asked about a few latents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mneme._util.arrays import divide
from mneme._util.vocabulary import CHANGED
from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import DocumentMoments, fieller_interval, margin_p_values
from mneme.attribution.scaling import scaling_frame
from mneme.attribution.stream import scaling_log_ratio
from mneme.attribution.verdicts import common_log_ratio, decide, one_probe_only
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import directions, hold
from mneme.effects.predict import changed_steps
from mneme.effects.windows import Windows, per_document
from mneme.power.inject import Injected, Injection, Text
from mneme.stats.bootstrap import Ratio, ratio_intervals
from mneme.stats.fdr import false_discovery_q


class Caller(NamedTuple):
    """How the run judges latents."""

    config: AttributionConfig
    reference: float
    """The log_ratio most latents share."""
    p_values: np.ndarray
    """(F,): of the run without an injection; NaN undefined."""
    called: np.ndarray
    """(F,) bool: changed without an injection."""
    turn_p: np.ndarray | None = None
    """p-values of the run's tests of direction, which share its false-discovery rate; None: none was made."""
    text: float = 1.0
    """Times as much text of the same kind, which is judged in place of the run's."""

    def judged(self, injection: Injection, injected: Injected) -> np.ndarray:
        """(K,) verdicts of the latents read again; not held against the joint solution of their groups."""
        config, geometry = self.config, injection.geometry
        moments = injected.moments if self.text == 1 else injected.moments.repeated(self.text)
        everyone = self.p_values.copy()
        everyone[injection.latents] = p_of(moments, config.margin, self.reference)
        q = _q(everyone, self.turn_p)[injection.latents]
        low, high = fieller_interval(moments, config.level)
        verdict = decide(low, high, q, moments.n == 0, config.margin, self.reference, config.fdr)
        other = scaling_log_ratio(injected.scaling, geometry, 1 - geometry.probe)
        norms = np.sort(geometry.norms, axis=0)
        doubtful = one_probe_only(
            verdict, moments.log_ratio(), other, divide(norms[0], norms[1]), config, self.reference
        )
        return np.where(doubtful, "uncertain", verdict)

    def confirmed(self, injection: Injection, text: Text, size: float, windows: Windows) -> np.ndarray:
        """(W,): the change that newly called latents tell and the activations confirm, summed over windows, raw units.

        size: of the displacement, raw units.
        """
        injected = injection.at(size)
        total = np.zeros(len(windows.document))
        verdict = self.judged(injection, injected)
        called = np.isin(verdict, CHANGED) & ~self.called[injection.latents]
        if not called.any():
            return total
        rows = scaling_frame(injection.geometry, injected.scaling).assign(
            log_ratio=injected.moments.log_ratio(),
            turned=injection.geometry.turned & called,
            verdict=np.where(called, verdict, "unchanged"),
        )
        said = directions(rows, changed_steps(rows).sum(0), injection.geometry.decoder)
        codes = text.codes.tocsc()[:, injection.latents[said.latent]].toarray()
        codes[injection.row] = injected.codes[:, said.latent]
        at = codes.any(1)
        difference = text.difference[at].astype(np.float64)
        displaced = np.zeros(len(text.row), dtype=bool)
        displaced[injection.row] = True
        difference[displaced[at]] += size * injection.direction
        found = hold(difference, codes[at] @ said.vector).confirmed
        return np.bincount(windows.row_window[text.row[at]], weights=found, minlength=len(total))


def caller(
    moments: DocumentMoments,
    called: np.ndarray,
    config: AttributionConfig,
    text: float = 1.0,
    turn_p: np.ndarray | None = None,
    tested: np.ndarray | None = None,
) -> Caller:
    """How a run judges latents, or would with `text` times as much text.

    tested: (F,) bool, latents whose change the run tested; None: all. Those that an injection reads again count as
    tested, for the training's documents, which are displaced as well, would show it.

    moments: of the run's text; called: (F,) bool, changed in the run. With more text latents may be
    called that the run leaves uncertain; these are no finding of an injection either.
    """
    evident, told = moments.n > 1, np.ones(len(moments.n), dtype=bool) if tested is None else tested
    reference = common_log_ratio(moments.log_ratio()[evident]) if config.common_scale else 0.0
    if text == 1:
        p = np.where(told, p_of(moments, config.margin, reference), np.nan)
        return Caller(config, reference, p, called, turn_p)
    more = moments.repeated(text)
    p = np.where(told, p_of(more, config.margin, reference), np.nan)
    low, high = fieller_interval(more, config.level)
    verdict = decide(low, high, _q(p, turn_p), more.n == 0, config.margin, reference, config.fdr)
    return Caller(config, reference, p, called | np.isin(verdict, CHANGED), turn_p, text)


def _q(p: np.ndarray, turn_p: np.ndarray | None) -> np.ndarray:
    """(F,) q-values of tests of strength, over these and those of direction."""
    everything = p if turn_p is None else np.concatenate([p, turn_p])
    return false_discovery_q(everything)[: len(p)]


def p_of(moments: DocumentMoments, margin: float, reference: float) -> np.ndarray:
    """(K,): p-values against the margin; NaN of latents that fire in fewer than two documents."""
    return np.where(moments.n > 1, margin_p_values(moments, margin, reference), np.nan)


def affected_shares(
    weight: np.ndarray, windows: Windows, touched: np.ndarray, config: EffectsConfig, text: float = 1.0
) -> Ratio:
    """The weighted mean of touched / rows of one category, with its interval over documents, of B cases at once.

    weight: (W,); touched: (W, B), sums over a window's rows. As `mean_over_documents` for each case. With `text` times
    as many documents the interval is narrower by the root of it.
    """
    rows = windows.n_rows.astype(np.float64)
    ones = np.ones(len(weight))
    value, low, high = ratio_intervals(
        per_document(weight[:, None] * touched, windows.document, ones),
        per_document(np.repeat(weight[:, None], touched.shape[1], axis=1), windows.document, rows),
        replicates=config.replicates,
        level=config.level,
        seed=config.seed,
    )
    root = np.sqrt(text)
    return Ratio(value, value - (value - low) / root, value + (high - value) / root)
