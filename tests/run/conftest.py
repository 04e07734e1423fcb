"""A pair of random tiny models on disk, some text, and one whole run of it that tests may only read."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from mneme.cli import main
from mneme.config import make_config
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "river",
    "cell",
    "gene",
    "war",
    "king",
    "code",
    "print",
    "sum",
]


def texts(n: int = 40, words: int = 25, seed: int = 0) -> tuple[str, ...]:
    """Made-up documents."""
    chooser = random.Random(seed)
    return tuple(" ".join(chooser.choices(WORDS, k=words)) for _ in range(n))


@pytest.fixture(scope="session")
def pair_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, tuned/ (one layer changed), wide/ (another width), other-words/ (another vocabulary)."""
    folder = tmp_path_factory.mktemp("pair")
    base = tiny_llama()
    save(base, folder / "base", tiny_tokenizer())
    save(changed_in_layer(base, 1), folder / "tuned", tiny_tokenizer())
    save(tiny_llama(width=32), folder / "wide", tiny_tokenizer())
    save(tiny_llama(), folder / "other-words", tiny_tokenizer(first=5))
    broken = changed_in_layer(base, 1)
    broken.model.layers[0].mlp.down_proj.weight.data.fill_(float("nan"))
    save(broken, folder / "nan", tiny_tokenizer())
    return folder


@pytest.fixture(scope="session")
def settings(pair_folder: Path) -> dict[str, Any]:
    """Nested settings of a run that takes seconds."""
    return {
        "base": str(pair_folder / "base"),
        "tuned": str(pair_folder / "tuned"),
        "corpus": texts(),
        "harvest": {"context_length": 64, "behaviour_share": 0.5, "shard_tokens": 1500},
        "crosscoder": {"n_latents": 48, "k": 4, "epochs": 4, "batch_size": 256, "checkpoint_every": 5},
        "interpret": {"top_contexts": 5, "decile_contexts": 1},
        "labels": {"score_windows": 60},
        "effects": {"taxonomy": "harm", "replicates": 20},
    }


@pytest.fixture(scope="session")
def whole_run(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Every stage done. Tests must not write to it."""
    return run_pipeline(make_config(settings), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call `mneme` with words; gives (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mneme", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call
