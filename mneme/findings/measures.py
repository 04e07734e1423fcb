"""What a finding does: how much text it touches, which areas, and what predictions do where it fires."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme.effects.config import EffectsConfig
from mneme.effects.predict import affected_share_of
from mneme.effects.windows import Windows
from mneme.findings.displacement import Displacement
from mneme.harvest.protocols import Rows
from mneme.stats.fieller import ratio_interval

PROFILE = 24
"""Points of a finding's profile."""


def behaviour(found: Displacement, cache: Rows) -> dict[str, float]:
    """Change of next-token NLL and KL where the finding moves tokens, means weighted by its displacement.

    Nats per token, over measured tokens; nll_low, nll_high: 95% over documents (Fieller 1954). NaN where not known.
    """
    change = (cache.nll_tuned[found.row] - cache.nll_base[found.row]).astype(np.float64)
    known = np.isfinite(change)
    weight = found.length[known].astype(np.float64)
    document = np.unique(cache.document[found.row[known]], return_inverse=True)[1]
    top = np.bincount(document, weights=weight * change[known]) if len(weight) else np.zeros(0)
    bottom = np.bincount(document, weights=weight) if len(weight) else np.zeros(0)
    low, high = ratio_interval(top, bottom) or (np.nan, np.nan)
    kl = cache.kl[found.row].astype(np.float64)
    counted = np.isfinite(kl)
    return {
        "nll_change": _ratio(top.sum(), bottom.sum()),
        "nll_low": low,
        "nll_high": high,
        "kl": _ratio((kl * found.length)[counted].sum(), found.length[counted].sum()),
    }


def affected_text(
    found: Displacement, windows: Windows, weights: np.ndarray, typical: float, config: EffectsConfig
) -> dict[str, np.ndarray]:
    """(1 + C,) each, of all text first and then of each category: affected_share with its interval, displacement.

    The affected share is that of mneme/effects/predict.py, of this finding alone; displacement: mean over tokens, as a
    share of the base's typical deviation. weights: (W, C).
    """
    window = windows.row_window[found.row]
    size = len(windows.document)
    confirmed, length = (
        np.bincount(window, weights=values, minlength=size) for values in (found.confirmed, found.length)
    )
    every = np.concatenate([np.ones((size, 1)), weights], axis=1)
    share = affected_share_of(every, windows, confirmed, typical, config)
    tokens = every.T @ windows.n_rows
    moved = np.divide(every.T @ length, tokens, out=np.full(len(tokens), np.nan), where=tokens > 0)
    return {
        "affected_share": share.value,
        "affected_share_low": share.low,
        "affected_share_high": share.high,
        "displacement": moved / typical if typical > 0 else np.full(len(moved), np.nan),
    }


def profile(found: Displacement, cache: Rows, typical: float) -> list[float]:
    """Mean displacement of the documents, as a share of typical, the most displaced first, in at most 24 bins."""
    n = int(cache.document.max(initial=-1)) + 1
    total = np.bincount(cache.document[found.row], weights=found.length, minlength=n)
    rows = np.bincount(cache.document, minlength=n)
    mean = np.sort(total[rows > 0] / rows[rows > 0])[::-1]
    if not len(mean) or not typical > 0:
        return []
    return [float(part.mean() / typical) for part in np.array_split(mean, min(PROFILE, len(mean)))]


def areas_beyond(text: dict[str, np.ndarray], keys: list[str], least: float) -> list[str]:
    """Keys, spelled with spaces, of the categories affected by `least` or more at the interval's lower end; most first.

    text: what `affected_text` gives.
    """
    share, low = text["affected_share"][1:], text["affected_share_low"][1:]
    order = np.argsort(-share, kind="stable")
    return [keys[c].replace("_", " ") for c in order if low[c] >= least]


def categories_frame(finding: str, keys: list[str], text: dict[str, np.ndarray]) -> pd.DataFrame:
    """Rows of table `finding_categories`; text: what `affected_text` gives."""
    return pd.DataFrame(
        {"finding": finding, "category": keys, **{name: values[1:] for name, values in text.items()}}
    )


def _ratio(top: float, bottom: float) -> float:
    return float(top / bottom) if bottom > 0 else float("nan")
