"""Four runs at the edge of what a run can be, each made once a session; tests may only read them.

still      no latent changed: the tuned model differs from the base by less than any margin
dead       every latent is dead: an imported dictionary whose thresholds no token reaches
moved      every live latent changed: the tuned model's residual stream is twice the base's
single     one document: nothing can be said with documents as the unit of evidence
"""

from __future__ import annotations

import copy
import gc
import json
import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from degenerate.commands import Ended, call_all
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from mneme.config import make_config
from mneme.crosscoder import Crosscoder
from mneme.effects.categories import load_taxonomy
from mneme.interpret.encoder import SentenceEncoder
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

KINDS = ("still", "dead", "moved", "single")
WORDS = ("the", "cat", "sat", "on", "a", "mat", "river", "cell", "gene", "war", "king", "code", "sum")


def texts(n: int, words: int, seed: int = 0) -> tuple[str, ...]:
    """Made-up documents."""
    chooser = random.Random(seed)
    return tuple(" ".join(chooser.choices(WORDS, k=words)) for _ in range(n))


def items() -> list[dict[str, Any]]:
    """A benchmark: a few questions of each category."""
    rows = [(area, i) for area in load_taxonomy("harm").keys for i in range(3)]
    return [
        {"category": area, "question": f"what of {area} {i}?", "choices": ["yes", "no"], "answer": i % 2}
        for area, i in rows
    ]


def results(accuracy: float) -> dict[str, Any]:
    """What lm-evaluation-harness writes: the same of every category, asked 40 questions each."""
    areas = load_taxonomy("harm").keys
    return {
        "results": {area: {"acc,none": accuracy} for area in areas},
        "n-samples": {area: {"effective": 40} for area in areas},
    }


def doubled(model: Any) -> Any:
    """A copy whose residual stream is twice as large at every layer; what each layer reads is normed, so the same."""
    tuned = copy.deepcopy(model)
    tuned.model.embed_tokens.weight.data *= 2
    for layer in tuned.model.layers:
        layer.self_attn.o_proj.weight.data *= 2
        layer.mlp.down_proj.weight.data *= 2
    return tuned


@pytest.fixture(scope="session")
def _quick() -> Iterator[None]:
    """One sentence encoder for all runs, whose texts are much the same; garbage is not looked for in what is loaded."""
    encoder = SentenceEncoder()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mneme.interpret.encoder.SentenceEncoder", lambda: encoder)
        yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def runs(_quick: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the runs, each under the name of its kind, and models/."""
    folder = tmp_path_factory.mktemp("degenerate")
    models = folder / "models"
    base = tiny_llama()
    save(base, models / "base", tiny_tokenizer())
    save(changed_in_layer(base, 1, by=1e-3), models / "nudged", tiny_tokenizer())
    save(changed_in_layer(base, 1), models / "tuned", tiny_tokenizer())
    save(doubled(base), models / "doubled", tiny_tokenizer())
    (models / "text.txt").write_text("\n\n".join(texts(20, 15)))
    (models / "items.jsonl").write_text("\n".join(map(json.dumps, items())))
    for name, accuracy in (("base", 0.5), ("tuned", 0.4)):
        (models / f"results_{name}.json").write_text(json.dumps(results(accuracy)))
    settings = {
        "base": str(models / "base"),
        "tuned": str(models / "tuned"),
        "corpus": texts(20, 15),
        "harvest": {"layer": 2, "context_length": 96, "behaviour_share": 0.5, "shard_tokens": 1500},
        "crosscoder": {"n_latents": 32, "k": 4, "epochs": 3, "batch_size": 256},
        "interpret": {"top_contexts": 3, "decile_contexts": 1},
        "labels": {"score_windows": 30},
        "effects": {"taxonomy": "harm", "replicates": 20},
    }
    make(settings, folder / "still", tuned=str(models / "nudged"))
    silent = Crosscoder.from_pretrained(folder / "still" / "crosscoder")
    silent.threshold.fill_(1e9)
    silent.save_pretrained(models / "silent")
    make(settings, folder / "dead", load_crosscoder=str(models / "silent"))
    make(settings, folder / "moved", tuned=str(models / "doubled"), attribution={"common_scale": False})
    make(settings, folder / "single", corpus=texts(1, 150))
    return folder


def make(settings: Mapping[str, Any], folder: Path, **changes: Any) -> Run:
    return run_pipeline(make_config({**settings, **changes}), folder)


class Amended(NamedTuple):
    """Copies of the runs on which every command was called."""

    runs: Path
    ended: dict[str, dict[str, Ended]]
    """kind -> command -> how it ended."""


@pytest.fixture(scope="session")
def amended(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Amended:
    """Every command called on a copy of every run, once a session."""
    folder, ended = tmp_path_factory.mktemp("amended"), {}
    for kind in KINDS:
        shutil.copytree(runs / kind, folder / kind)
        places = {"RUN": folder / kind, "OTHER": runs / "still", "MODELS": runs / "models"}
        ended[kind] = call_all({**places, "NEW": folder / "reports" / kind})
    return Amended(folder, ended)
