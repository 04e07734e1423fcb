"""Made-up findings."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES, COMMON, HOSTILE

_SHARE = (0.62, 0.2, 0.06)
_NAMES = ("text on cell, protein, enzyme", "virus, infection, viral", "says: commas")
_TESTED = (True, True, False)  # by `mneme causal`
_SEEDS = (3, 2, None)  # of 3
_TOP = 5


def write_findings(
    writer: StageWriter,
    rng: np.random.Generator,
    latents: pd.DataFrame,
    window: int,
    documents: int,
    hostile: bool,
) -> None:
    """Up to three findings of the changed latents, and two parts of the first; none where nothing changed."""
    changed = latents[latents["verdict"].isin(["amplified", "suppressed", "redirected"])]["latent"].to_numpy()
    sets = [
        part for part in np.array_split(changed, [2 * len(changed) // 3, 5 * len(changed) // 6]) if len(part)
    ]
    ids = [f"f-{i:08x}" for i in range(len(sets))]
    rows = [_row(i, None, i, f, part, hostile) for i, (f, part) in enumerate(zip(ids, sets, strict=True))]
    for n, part in enumerate(np.array_split(sets[0], 2) if sets and len(sets[0]) > 3 else []):
        rows.append(_row(n, ids[0], 0, f"f-part{n:04x}", part, hostile))
    writer.replace("findings", pd.DataFrame(rows) if rows else pd.DataFrame({"finding": []}, dtype=object))
    for finding, part in zip(ids, sets, strict=True):
        _members(writer, rng, finding, part)
        _text(writer, rng, finding, window, documents, hostile)
    tested = [f for f, done in zip(ids, _TESTED, strict=False) if done]
    writer.clear(["causal_findings"])
    for i, finding in enumerate(tested):
        for source, share in (("finding", 0.5 - 0.3 * i), ("pca", 0.6), ("random latents", 0.01)):
            writer.append("causal_findings", _patched(finding, source, share))


def _row(
    rank: int, parent: str | None, like: int, finding: str, part: np.ndarray, hostile: bool
) -> dict[str, object]:
    share = _SHARE[like] if parent is None else _SHARE[0] / 2
    change = 0.6 - 0.3 * like
    seeds = _SEEDS[like] if parent is None else None
    return {
        "finding": finding,
        "parent": parent,
        "rank": rank,
        "name": HOSTILE[(like + rank) % len(HOSTILE)] if hostile else _NAMES[like % len(_NAMES)],
        "name_method": "offline",
        "name_detail": "{}",
        "n_latents": len(part),
        "explained": 0.8 * share,
        "share": share,
        "dimensions": 1 + like,
        "main_share": 0.92 - 0.1 * like,
        "firing_rate": 0.07 / (1 + like),
        "displacement": 0.04 / (1 + like),
        "affected_share": 0.2 / (1 + like),
        "affected_share_low": 0.15 / (1 + like),
        "affected_share_high": 0.25 / (1 + like),
        "nll_change": change,
        "nll_low": change - 0.2,
        "nll_high": change + 0.2,
        "kl": 0.5,
        "profile": np.exp(-np.arange(24) / (3 + 4 * like)).tolist(),
        "seeds_found": seeds,
        "n_seeds": None if seeds is None else 3,
    }


def _members(writer: StageWriter, rng: np.random.Generator, finding: str, part: np.ndarray) -> None:
    frame = pd.DataFrame(
        {
            "finding": finding, "latent": part, "rank": np.arange(len(part)), "home": True,
            "correlation": rng.uniform(0.2, 0.8, len(part)), "share": 0.5 ** np.arange(1, len(part) + 1),
        }
    )  # fmt: skip
    writer.append("finding_latents", frame)
    share = np.linspace(0.8, 0, len(CATEGORIES))
    areas = pd.DataFrame(
        {
            "finding": finding, "category": list(CATEGORIES), "affected_share": share,
            "affected_share_low": (share - 0.15).clip(0), "affected_share_high": share + 0.1,
            "displacement": share / 10,
        }
    )  # fmt: skip
    writer.append("finding_categories", areas)


def _text(
    writer: StageWriter, rng: np.random.Generator, finding: str, window: int, documents: int, hostile: bool
) -> None:
    words = np.array([*HOSTILE, *COMMON] if hostile else COMMON, dtype=object)
    rows = []
    for rank in range(_TOP):
        strength = np.exp(-np.abs(np.arange(window) - window // 2) / 3.0) * (1 - 0.1 * rank)
        rows.append(
            {
                "finding": finding, "rank": rank, "split": "train", "document": int(rng.integers(documents)),
                "position": window // 2, "start": 0, "tokens": [" " + w for w in rng.choice(words, window)],
                "activations": strength.tolist(), "kl": strength.tolist(), "nll_change": strength.tolist(),
            }
        )  # fmt: skip
    writer.append("finding_contexts", pd.DataFrame(rows))
    lens = [
        {
            "finding": finding,
            "direction": way,
            "rank": i,
            "token": " " + str(rng.choice(words)),
            "logit": 2.0 - i / 4,
        }
        for way in ("top", "bottom")
        for i in range(_TOP)
    ]
    writer.append("finding_lens", pd.DataFrame(lens))


def _patched(finding: str, source: str, share: float) -> pd.DataFrame:
    own = source == "finding"
    row = {
        "finding": finding, "patch": "undo", "source": source, "n_documents": 50, "n_tokens": 8000,
        "kl_before": 0.4, "kl_after": 0.4 * (1 - share), "kl_share": share, "kl_low": share - 0.08,
        "kl_high": min(share + 0.08, 1.0), "nll_before": 0.3, "nll_after": 0.3 * (1 - share), "nll_share": share,
        "nll_low": share - 0.1, "nll_high": share + 0.1, "of_pca": share / 0.6 if own else None,
        "of_pca_low": share / 0.6 - 0.1 if own else None, "of_pca_high": share / 0.6 + 0.1 if own else None,
    }  # fmt: skip
    return pd.DataFrame([row])
