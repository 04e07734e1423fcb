"""Made-up labels, their scores in each test, and some of the windows they were judged on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mneme.store.run import StageWriter
from mneme.testing.synthetic.texts import CATEGORIES, HOSTILE

_TESTS = (("detection", "random", 0.0), ("detection", "hard", -0.05), ("fuzzing", "random", 0.05))
_EXAMPLES = 4  # a latent and test
_SHOWN = 2000  # latents that have any


def write_labels(writer: StageWriter, rng: np.random.Generator, latents: pd.DataFrame, hostile: bool) -> None:
    live = latents[~latents["dead"]]
    ids, n = live["latent"].to_numpy(), len(live)
    names = [text.split() for *_, text in CATEGORIES.values()]
    pick = rng.integers(0, 6, (n, 2))
    text = [f"{names[h][a]}, {names[h][b]}" for h, (a, b) in zip(live["home"], pick, strict=True)]
    if hostile:
        text = [HOSTILE[i % len(HOSTILE)] for i in range(n)]
    score = rng.normal(0.78, 0.1, n).clip(0.4, 1)
    labels = pd.DataFrame(
        {
            "latent": ids,
            "label": text,
            "method": "offline",
            "score": np.where(rng.random(n) < 0.05, np.nan, score),
            "score_shuffled": rng.normal(0.5, 0.04, n),
            "detail": '{"evidence": "made up"}',
        }
    )
    labels["gain_low"] = labels["score"] - labels["score_shuffled"] - 0.1
    writer.replace("labels", labels)
    write_label_scores(writer, labels, text)
    _write_comparison(writer, ids, hostile)


def write_label_scores(writer: StageWriter, labels: pd.DataFrame, text: list[str]) -> None:
    """Each test's score is the headline's, moved a little."""
    kind = {"method": "offline", "scorer": "encoder"}
    scores = [
        labels[["latent"]].assign(
            **kind,
            test=test,
            negatives=negatives,
            balanced_accuracy=labels["score"] + moved,
            ci_low=labels["score"] + moved - 0.1,
            ci_high=labels["score"] + moved + 0.1,
            f1=labels["score"] + moved,
            auprc=labels["score"] + moved,
            shuffled=labels["score_shuffled"],
            gain_low=labels["gain_low"] + moved,
            n_positive=16,
            n_negative=300 if (test, negatives) == ("detection", "random") else 16,
        )
        for test, negatives, moved in _TESTS
    ]
    writer.replace("label_scores", pd.concat(scores))
    few = labels["latent"].to_numpy()[:_SHOWN]
    place = np.arange(len(few) * _EXAMPLES)
    examples = [
        pd.DataFrame(
            {
                "latent": np.repeat(few, _EXAMPLES),
                **kind,
                "test": test,
                "negatives": negatives,
                "window": place % 50,
                "positive": (place % 2 == 0) & (negatives == "random"),
                "judged": place % 3 == 0,
                "fit": 0.3 + 0.1 * (place % 5),
                "marked": [text[i // _EXAMPLES] if test == "fuzzing" else None for i in place.tolist()],
            }
        )
        for test, negatives, _ in _TESTS
    ]
    writer.replace("label_examples", pd.concat(examples))
    windows = np.arange(50)
    said = [f"a window that says {text[i % len(text)]}" if text else "" for i in windows.tolist()]
    writer.replace(
        "label_windows",
        pd.DataFrame({"window": windows, "document": windows, "position": 0, "text": said}),
    )
    summary = [
        {
            **kind,
            "test": test,
            "negatives": negatives,
            "labels": who,
            "balanced_accuracy": mean,
            "ci_low": mean - 0.01,
            "ci_high": mean + 0.01,
            "f1": mean,
            "auprc": mean,
            "n": len(labels),
        }
        for test, negatives, moved in _TESTS
        for who, mean in (("own", 0.78 + moved), ("shuffled", 0.5), ("random latent", 0.5))
    ]
    writer.replace("label_summary", pd.DataFrame(summary))


def _write_comparison(writer: StageWriter, latents: np.ndarray, hostile: bool) -> None:
    name = "llm:" + (HOSTILE[0] if hostile else "made-up")
    writer.replace(
        "label_comparison",
        pd.DataFrame(
            {
                "method": [name, "offline"], "n_asked": 20, "n_labelled": [18, 20], "n_scored": 17,
                "score": [0.82, 0.78], "ci_low": [0.77, 0.72], "ci_high": [0.86, 0.83],
                "score_shuffled": [0.52, 0.51], "tokens": [31_200, 0], "money": [None, 0.0],
                "seconds": [84.0, None],
            }
        ),
    )  # fmt: skip
    writer.replace(
        "label_agreement",
        pd.DataFrame({"method": [name], "other": "offline", "n": 18, "cosine": 0.44, "same_category": 0.61}),
    )
    reason = HOSTILE[1] if hostile else "the reply is not JSON"
    failed = pd.DataFrame({"latent": latents[:2], "method": name, "reason": reason})
    writer.replace("label_failures", failed)
