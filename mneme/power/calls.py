"""What attribution and effects would say of an injection: their own functions, asked about a few latents."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mneme.attribution.config import AttributionConfig
from mneme.attribution.evidence import fieller_interval, margin_p_values
from mneme.attribution.geometry import divide
from mneme.attribution.scaling import scaling_frame
from mneme.attribution.stream import scaling_log_ratio
from mneme.attribution.verdicts import decide, false_discovery_q, one_probe_only
from mneme.effects.config import EffectsConfig
from mneme.effects.explained import directions, hold
from mneme.effects.intervals import Ratio, per_document, ratio_intervals
from mneme.effects.predict import changed_steps
from mneme.effects.windows import Windows
from mneme.power.inject import Injected, Injection, Text


class Caller(NamedTuple):
    """How the run judges latents."""

    config: AttributionConfig
    reference: float
    """The log_ratio most latents share."""
    p_values: np.ndarray
    """(F,): of the run without an injection; NaN undefined."""
    called: np.ndarray
    """(F,) bool: amplified or suppressed without an injection."""

    def judged(self, injection: Injection, injected: Injected) -> np.ndarray:
        """(K,) verdicts of the latents read again; not held against the joint solution of their groups."""
        config, geometry, moments = self.config, injection.geometry, injected.moments
        everyone = self.p_values.copy()
        everyone[injection.latents] = self.p_of(injected)
        q = false_discovery_q(everyone)[injection.latents]
        low, high = fieller_interval(moments, config.level)
        verdict = decide(low, high, q, moments.n == 0, config.margin, self.reference, config.fdr)
        other = scaling_log_ratio(injected.scaling, geometry, 1 - geometry.probe)
        norms = np.sort(geometry.norms, axis=0)
        doubtful = one_probe_only(
            verdict, moments.log_ratio(), other, divide(norms[0], norms[1]), config, self.reference
        )
        return np.where(doubtful, "uncertain", verdict)

    def p_of(self, injected: Injected) -> np.ndarray:
        """(K,): p-values of the latents read again; NaN undefined."""
        p = margin_p_values(injected.moments, self.config.margin, self.reference)
        return np.where(injected.moments.n > 1, p, np.nan)

    def confirmed(self, injection: Injection, text: Text, size: float, windows: Windows) -> np.ndarray:
        """(W,): the change that newly called latents tell and the activations confirm, summed over windows, raw units.

        size: of the displacement, raw units.
        """
        injected = injection.at(size)
        total = np.zeros(len(windows.document))
        verdict = self.judged(injection, injected)
        called = np.isin(verdict, ("amplified", "suppressed")) & ~self.called[injection.latents]
        if not called.any():
            return total
        rows = scaling_frame(injection.geometry, injected.scaling).assign(
            log_ratio=injected.moments.log_ratio(),
            redirected=injection.geometry.redirected & called,
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


def reaches(weight: np.ndarray, windows: Windows, touched: np.ndarray, config: EffectsConfig) -> Ratio:
    """The weighted mean of touched / rows of one category, with its interval over documents, of B cases at once.

    weight: (W,); touched: (W, B), sums over a window's rows. As `mean_over_documents` for each case.
    """
    rows = windows.n_rows.astype(np.float64)
    ones = np.ones(len(weight))
    return ratio_intervals(
        per_document(weight[:, None] * touched, windows.document, ones),
        per_document(np.repeat(weight[:, None], touched.shape[1], axis=1), windows.document, rows),
        replicates=config.replicates,
        level=config.level,
        seed=config.seed,
    )
