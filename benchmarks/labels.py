"""Are labels worth trusting? Held-out scores against their baselines, and labels where the truth is known.

    python benchmarks/labels.py [--demo runs/demo] [--wordnet FOLDER] [--work runs/labels-benchmark] [--sample 20]

1. The demo run's labels (made by `mneme demo --no-serve` where there is none): detection and fuzzing, own labels,
   other latents' labels, labels of latents that fire at random; no document on both sides.
2. Latents found on WordNet glosses (--wordnet, default $MNEME_SHARED_DATA/wordnet; not measured where absent): does the
   label name the lexicographer category that its latent's held-out contexts come from?
3. SmolLM2-135M as an explainer and as a scorer, on a sample of the most changed latents: a model too small to be good.

What takes long is kept in --work and is not done again. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import floor, print_result
from rich.console import Console
from wordnet_glosses import category_match, wordnet_run

from mneme._util.console import RichProgress
from mneme._util.vocabulary import CHANGED
from mneme.config import make_config, read_config
from mneme.crosscoder import CodeCache
from mneme.interpret.clients.local import LocalChat
from mneme.interpret.contexts import read_contexts
from mneme.interpret.corpus_words import read_words
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.labelling import label_offline
from mneme.interpret.scorers.detection import score_method
from mneme.interpret.scorers.fuzz import set_fuzz
from mneme.interpret.scorers.judge_items import judge_items_of
from mneme.interpret.scorers.likelihood import judge_by_likelihood
from mneme.interpret.scorers.random_latent_baseline import random_latent_scores
from mneme.interpret.scorers.scoring_set import make_scoring_set
from mneme.interpret.tokens import TokenTexts
from mneme.run.context import RunContext
from mneme.run.demo import demo_settings
from mneme.run.pipeline import run_pipeline
from mneme.store.queries.meaning import found_contexts, near_latents, promoted_tokens
from mneme.store.run import open_run

MODEL = "bundled:base"
SHOWN = ["test", "negatives", "labels", "balanced_accuracy", "ci_low", "ci_high", "f1", "auprc", "n"]


class DemoExam:
    """The demo run's contexts and windows, read once."""

    def __init__(self, folder: Path, progress: RichProgress) -> None:
        config = make_config(read_config(folder / "run.toml"))
        self.run, self.progress = open_run(folder), progress
        bench = RunContext(config, folder, progress)
        self.config, self.cache = config, bench.cache
        self.latents = self.run.sql("SELECT * FROM latents ORDER BY latent")
        n_active = self.latents.n_active.fillna(0).to_numpy(dtype="int64")
        self.contexts = read_contexts(found_contexts(self.run), bench.cache, n_active)
        self.texts, self.lens = TokenTexts(bench.tokenizer), promoted_tokens(self.run)
        self.words = read_words(bench.cache, self.contexts.document, self.texts, config.interpret.window)
        self.encoder = SentenceEncoder()
        self.codes = CodeCache(folder / "codes")
        self.scoring_set = make_scoring_set(
            self.contexts,
            near_latents(self.run),
            self.codes,
            (bench.cache.document, bench.cache.position),
            self.words,
            self.encoder,
            config.interpret,
            progress,
        )
        self.fuzz = set_fuzz(self.contexts, self.words, self.encoder, config.interpret.seed, progress)

    def offline(self) -> pd.DataFrame:
        return label_offline(self.contexts, self.words, self.lens, self.latents)

    def overlap(self) -> int:
        """Documents that are on both sides, of the contexts or of the windows that judge."""
        contexts = self.contexts
        sides = [set(contexts.document[contexts.test == side].tolist()) for side in (False, True)]
        windows = self.words.window_document()[self.scoring_set.windows]
        for side, slots in self.scoring_set.positives.items():
            sides[side] |= set(windows[np.unique(slots[slots >= 0])].tolist())
            sides[side] |= set(windows[self.scoring_set.pools[side]].tolist())
        sides[True] |= set(windows[np.unique(self.scoring_set.hard[self.scoring_set.hard >= 0])].tolist())
        return len(sides[0] & sides[1])


def table(title: str, frame: pd.DataFrame) -> None:
    print(f"\n{title}")
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3f}"), flush=True)


def means(summary: pd.DataFrame) -> dict[str, Any]:
    rows = summary.astype(object).where(summary.notna(), None).to_dict("records")
    return {
        f"{r['test']}, {r['negatives']}, {r['labels']}": {
            key: r[key] for key in ("balanced_accuracy", "ci_low", "ci_high", "f1", "auprc", "n")
        }
        for r in rows
    }


def demo_labels(demo: DemoExam) -> dict[str, Any]:
    """All live latents' offline labels."""
    began = time.perf_counter()
    found = score_method(demo.scoring_set, demo.fuzz, demo.offline(), demo.encoder, progress=demo.progress)
    nonsense = random_latent_scores(
        demo.scoring_set, demo.contexts.n_active, demo.cache, demo.words, demo.encoder, demo.config.interpret
    )
    seconds = time.perf_counter() - began
    summary = pd.concat([found.summary, nonsense])
    table("Offline labels of the demo's live latents", summary[SHOWN])
    main = found.scores[(found.scores.test == "detection") & (found.scores.negatives == "random")].dropna()
    return {
        "means": means(summary),
        "gain": float((main.balanced_accuracy - main.shuffled).mean()),
        "unreliable_share": float((main.gain_low <= 0).mean()),
        "latents": len(main),
        "documents_on_both_sides": demo.overlap(),
        "seconds_of_scoring": seconds,
    }


def local_model(demo: DemoExam, sample: int) -> dict[str, Any]:
    """A small local model as explainer (judged by the encoder) and as scorer (of the offline labels)."""
    results: dict[str, Any] = {}
    offline = demo.offline()
    made = demo.run.sql(
        "SELECT latent, label, method FROM labels WHERE method LIKE 'local:%' ORDER BY latent"
    )
    if len(made) > 1:
        both = offline[offline.latent.isin(made.latent)].reset_index(drop=True)
        for name, labels in (("offline", both), ("local", made)):
            found = score_method(demo.scoring_set, demo.fuzz, labels, demo.encoder)
            table(f"{name} labels of the same latents, judged by the sentence encoder", found.summary[SHOWN])
            results[f"{name}_labels_by_encoder"] = means(found.summary)
        print("\n".join(f"  {j}: {label}" for j, label in made[["latent", "label"]].head(8).to_numpy()))
    else:
        results["local_labels_by_encoder"] = f"not measured: `mneme label` with local:{MODEL} makes them"
    chat = LocalChat(MODEL)
    changed = demo.latents[demo.latents.verdict.isin(CHANGED)]
    chosen = changed.sort_values("severity", ascending=False, kind="stable").latent.to_numpy()[:sample]
    judge_items = {
        int(j): judge_items_of(demo.scoring_set, demo.fuzz, demo.words, int(j), train=True) for j in chosen
    }
    named = dict(zip(offline.latent.tolist(), offline.label.tolist(), strict=True))
    began = time.perf_counter()
    scores, _ = judge_by_likelihood(
        {j: named[j] for j in judge_items if j in named}, judge_items, chat, progress=demo.progress
    )
    marks = ["balanced_accuracy", "shuffled", "f1", "auprc"]
    rows = scores.groupby(["test", "negatives"])[marks].mean().reset_index()
    own = score_method(
        demo.scoring_set, demo.fuzz, offline[offline.latent.isin(chosen)].reset_index(drop=True), demo.encoder
    ).scores
    rows["by_encoder"] = own.groupby(["test", "negatives"]).balanced_accuracy.mean().to_numpy()
    table("Offline labels of the most changed latents, judged by the local model", rows)
    results["offline_labels_by_local_model"] = {
        f"{r['test']}, {r['negatives']}": {key: r[key] for key in (*marks, "by_encoder")}
        for r in rows.to_dict("records")
    }
    results["sample"], results["seconds_scoring"] = len(judge_items), time.perf_counter() - began
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    shared = os.environ.get("MNEME_SHARED_DATA")
    parser.add_argument("--wordnet", type=Path, default=Path(shared) / "wordnet" if shared else None)
    parser.add_argument("--work", type=Path, default=Path("runs/labels-benchmark"))
    parser.add_argument("--sample", type=int, default=20, help="latents for the local model; 0: not measured")
    options = parser.parse_args()
    progress = RichProgress(Console())
    if not (options.demo / "run.duckdb").exists():
        run_pipeline(make_config(demo_settings(quick=False)), options.demo, progress)
    demo = DemoExam(options.demo, progress)
    results: dict[str, Any] = {"demo": demo_labels(demo)}
    if options.wordnet is not None and (options.wordnet / "glosses.jsonl.gz").exists():
        run = wordnet_run(options.wordnet, options.work / "wordnet", progress)
        results["wordnet"] = category_match(run, demo.encoder)
        table("Labels of latents found on WordNet glosses", pd.DataFrame([results["wordnet"]]))
    else:
        results["wordnet"] = "not measured: give --wordnet or MNEME_SHARED_DATA"
    if options.sample:
        results["local_model"] = local_model(demo, options.sample)
    else:
        results["local_model"] = "not measured: --sample 0"
    results["hosted_model"] = "not measured: no server was named"
    results["planted"] = "not measured: planted activations have no text to label"
    match = results["wordnet"] if isinstance(results["wordnet"], dict) else {}
    overlap = results["demo"]["documents_on_both_sides"]
    print_result(
        "labels",
        results,
        {
            "gain_over_shuffled_labels": floor(results["demo"]["gain"], 0.15),
            "documents_on_both_sides": {"value": overlap, "floor": 0, "met": overlap == 0},
            "wordnet_category_over_shuffled": floor(
                match["top1"] - match["shuffled_top1"] if match.get("n") else None, 0.0
            ),
            "hosted_model": floor(None, 0.15),
        },
    )


if __name__ == "__main__":
    main()
