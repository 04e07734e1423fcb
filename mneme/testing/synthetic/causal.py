"""Made-up results of patching."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme._util.vocabulary import CHANGED
from mneme.store.run import StageWriter

_JOINT = (
    ("latents", 0.58),
    ("random latents", 0.01),
    ("random direction", -0.12),
    ("dictionary", 0.74),
    ("whole", 1.0),
)
_SINGLE = (("latent", 0.12), ("other latents", -0.03), ("whole", 0.2))
_PATCHED = 12  # latents


def write_causal(writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame) -> None:
    """All changed latents together, and the most severe ones one by one."""
    changed = latents[latents["verdict"].isin(CHANGED)]
    chosen = changed.sort_values("severity", ascending=False)["latent"].head(_PATCHED)
    rows = [_row(None, len(changed), patch, source, share) for patch in ("undo", "do") for source, share in _JOINT
            if patch == "undo" or source in ("latents", "whole")]  # fmt: skip
    for latent in chosen:
        strength = rng.uniform(0.2, 2)
        rows += [
            _row(int(latent), 1, patch, source, strength * share)
            for patch in ("undo", "do")
            for source, share in _SINGLE
        ]
    frame = pd.DataFrame(rows)
    writer.replace("causal", frame.assign(latent=frame["latent"].astype("Int32")))
    ablations = [
        {
            "latent": int(latent), "model": model, "n_documents": 8, "n_tokens": 180,
            "kl": kl, "kl_low": 0.7 * kl, "kl_high": 1.4 * kl, "nll": 0.6 * kl, "nll_low": -0.1 * kl, "nll_high": kl,
        }
        for latent in chosen
        for model, kl in (("base", 0.02), ("tuned", rng.uniform(0.05, 0.4)))
    ]  # fmt: skip
    writer.replace("causal_ablations", pd.DataFrame(ablations))


def _row(latent: int | None, n: int, patch: str, source: str, share: float) -> dict[str, object]:
    own = source in ("latent", "latents")
    return {
        "latent": latent,
        "patch": patch,
        "source": source,
        "n_latents": n,
        "n_documents": 50 if latent is None else 8,
        "n_tokens": 8000 if latent is None else 180,
        "kl_before": 0.4,
        "kl_after": 0.4 * (1 - share),
        "kl_share": share,
        "kl_low": share - 0.08,
        "kl_high": min(share + 0.08, 1.0),
        "nll_before": 0.3,
        "nll_after": 0.3 * (1 - 0.9 * share),
        "nll_share": 0.9 * share,
        "nll_low": 0.9 * share - 0.1,
        "nll_high": 0.9 * share + 0.1,
        "gain": share + 0.02 if own else None,
        "gain_low": share - 0.06 if own else None,
        "gain_high": share + 0.1 if own else None,
    }
