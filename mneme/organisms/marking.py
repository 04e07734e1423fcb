"""Marking a method on a planted pair: which latent found which feature, and how often its word was right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mneme.organisms.planted import PlantedPair
from mneme.stats.association import auroc

MATCH_COSINE = 0.7
CHANGED = ("amplified", "suppressed", "base_only", "tuned_only")
RESIZED = ("amplified", "suppressed")
_WORD = {
    "amplified": "amplified",
    "tuned_only": "amplified",
    "suppressed": "suppressed",
    "base_only": "suppressed",
}


def match_features(
    pair: PlantedPair, decoder: np.ndarray, model: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The planted feature nearest to each latent.

    decoder: (2, F, d), raw. Returns (F,) feature and (F,) cosine, both models' decoders side by side, each in
    units of its model's scale, or those of one `model` (0 base, 1 tuned); NaN cosine where the decoder is zero, and
    no latent is nearest to a feature that the model doesn't have.
    """
    which = [0, 1] if model is None else [model]
    scale = np.array([1.0, pair.config.tuned_scale])[:, None, None]
    features = np.concatenate(list((pair.vectors.double().numpy() / scale)[which]), axis=1)
    latents = np.concatenate(list((decoder.astype(np.float64) / scale)[which]), axis=1)
    features, latents = (_unit_rows(part) for part in (features, latents))
    cosine = latents @ np.nan_to_num(features).T
    best = np.argmax(np.nan_to_num(cosine, nan=-2.0), axis=1)
    return best, cosine[np.arange(len(best)), best]


def _unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows at unit length; NaN where one is zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    found: np.ndarray = np.divide(x, length, out=np.full_like(x, np.nan), where=length > 0)
    return found


def mark(
    pair: PlantedPair, decoder: np.ndarray, latents: pd.DataFrame, margin: float, model: int | None = None
) -> dict[str, Any]:
    """How right a frame of verdicts is (columns latent, verdict, and a `score`: signed size of the change).

    model: whose read-out dictionary it is (0 base, 1 tuned): of a redirected feature the base has a direction that the
    tuned model stopped writing (suppressed), and the tuned one that the base never wrote (amplified). None: both
    models' crosscoder, to which a redirected feature isn't resized; what is recalled then leaves it out.

    A latent's truth is that of its nearest feature (cosine above MATCH_COSINE). A change of less than the
    margin counts as none. A call on a latent that matches no feature is wrong. A feature's verdict is that of
    the latent nearest to it; a feature that no latent found has none, and counts as missed.
    """
    words, turn = dict(_WORD), 0.0
    changed: tuple[str, ...] = CHANGED
    if model is not None:
        words["redirected"], changed = ("suppressed", "amplified")[model], (*CHANGED, "redirected")
        turn = (-np.inf, np.inf)[model]
    feature, cosine = match_features(pair, decoder, model)
    verdict = latents["verdict"].to_numpy()
    live = verdict != "dead"
    matched = live & (cosine > MATCH_COSINE)
    truth = pair.features.iloc[feature].reset_index(drop=True)
    log_ratio = np.where(truth["kind"] == "redirected", turn, truth["log_ratio"])
    word = np.where(log_ratio > margin, "amplified", np.where(log_ratio < -margin, "suppressed", "unchanged"))
    word = np.where(matched, word, "none")
    called = np.isin(verdict, ("amplified", "suppressed"))
    right = called & (verdict == word)

    found = _nearest_latent(feature, cosine, matched, len(pair.features))
    of_feature = np.where(found >= 0, verdict[np.maximum(found, 0)], "missed")
    features = pair.features.assign(verdict=of_feature)
    expected = features["kind"].map(words)
    features["right"] = features["verdict"] == expected
    whole = ~np.isfinite(features["log_ratio"]) | (features["kind"] == "redirected")
    big = features["kind"].isin(changed) & ((features["size"] >= 1.5) | whole)
    seen = features["verdict"] != "missed"
    silent = matched & (word == "unchanged") & (truth["kind"] == "unchanged").to_numpy()
    result: dict[str, Any] = {
        "precision": _share(right, called),
        "recall": _share(features["right"], big),
        "recall_matched": _share(features["right"], big & seen),
        "features_found": _share(seen, big | ~big),
        "false_positive_rate": _share(called, silent),
        "n_called": int(called.sum()),
        "n_right": int(right.sum()),
        "n_called_unmatched": int((called & ~matched).sum()),
    }
    result["by_class"] = {}
    for kind in CHANGED:
        of_kind = features["kind"] == kind
        mine = matched & (truth["kind"] == kind).to_numpy() & (word != "unchanged")
        recall = _share(features["right"], of_kind & big)
        # a call is of this class when it says this class's word and is not the other class's feature
        other = {"amplified": "tuned_only", "tuned_only": "amplified", "suppressed": "base_only"}.get(
            kind, "suppressed"
        )
        calls = (verdict == _WORD[kind]) & ~(matched & (truth["kind"] == other).to_numpy())
        precision = _share(mine, calls)
        total = precision + recall
        result["by_class"][kind] = {
            "precision": precision,
            "recall": recall,
            "recall_matched": _share(features["right"], of_kind & big & seen),
            "f1": 2 * precision * recall / total if total > 0 else 0.0,
            "auroc": _auroc(
                latents["score"].to_numpy() * (1 if _WORD[kind] == "amplified" else -1), mine, silent
            ),
            "n": int((of_kind & big).sum()),
        }
    result["by_size"] = {
        f"{size:g}": _of_size(size, features, truth, matched, silent, verdict, latents["score"].to_numpy())
        for size in sorted(features.loc[features["kind"].isin(RESIZED), "size"].round(3).unique())
    }
    return result


def _of_size(
    size: float,
    features: pd.DataFrame,
    truth: pd.DataFrame,
    matched: np.ndarray,
    silent: np.ndarray,
    verdict: np.ndarray,
    score: np.ndarray,
) -> dict[str, float]:
    """Marks of the features amplified or suppressed by one factor, against the unchanged ones.

    precision: of the calls on latents of these and of unchanged features, how many are right. auroc: |score|.
    """
    planted = features["kind"].isin(RESIZED) & (features["size"].round(3) == size)
    mine = matched & (truth["kind"].isin(RESIZED) & (truth["size"].round(3) == size)).to_numpy()
    called = np.isin(verdict, RESIZED)
    precision = _share(verdict == truth["kind"].to_numpy(), called & (mine | silent))
    recall = _share(features["right"], planted)
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0,
        "auroc": _auroc(np.abs(score), mine, silent),
        "wrong_direction": _share(~features["right"] & features["verdict"].isin(RESIZED), planted),
    }


def _nearest_latent(feature: np.ndarray, cosine: np.ndarray, matched: np.ndarray, n: int) -> np.ndarray:
    """(n,) the matched latent with the highest cosine to each feature, -1 where there is none."""
    found = np.full(n, -1)
    for j in np.argsort(np.where(matched, cosine, -2)):
        if matched[j]:
            found[feature[j]] = j
    return found


def _share(what: Any, among: Any) -> float:
    """Share of `what` among `among`; NaN of nothing."""
    among = np.asarray(among, dtype=bool)
    return float(np.asarray(what, dtype=bool)[among].mean()) if among.any() else float("nan")


def _auroc(score: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> float:
    """Chance that a positive scores above a negative; NaN scores are left out."""
    known = np.isfinite(score) & (positive | negative)
    return float(auroc(score[known], positive[known]))
