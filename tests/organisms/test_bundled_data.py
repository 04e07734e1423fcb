"""The bundled corpus and tuned model are what their READMEs say."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import torch
import zstandard

from mneme.corpus.quality import Deduplicator
from mneme.corpus.sample import SampleConfig
from mneme.effects.outcomes import read_outcomes
from mneme.models.load import load_model, load_tokenizer

DATA = Path(__file__).resolve().parents[2] / "data"
ORGANISM = DATA / "smollm2-rmu-biology"


def documents() -> list[dict[str, str]]:
    packed = (DATA / "corpus" / "bundled.jsonl.zst").read_bytes()
    return [json.loads(line) for line in zstandard.decompress(packed).decode().splitlines()]


def test_the_corpus_covers_every_area_and_holds_no_near_copies() -> None:
    found = documents()
    assert len({d["topic"] for d in found}) == 99
    new = Deduplicator(SampleConfig().max_similarity)
    assert all(new.is_new(d["text"]) for d in found)


@pytest.mark.slow
def test_the_corpus_has_its_size_and_no_area_weighs_more_than_others() -> None:
    tokenizer = load_tokenizer("bundled:base")
    tokens: Counter[str] = Counter()
    for d in documents():
        tokens[d["topic"]] += len(tokenizer(d["text"], add_special_tokens=False)["input_ids"])
    assert 100_000 <= sum(tokens.values()) <= 115_000
    assert max(tokens.values()) < 1.4 * min(tokens.values())


def test_outcomes_cover_the_57_subjects_and_show_selective_unlearning() -> None:
    change = read_outcomes(ORGANISM / "outcomes.csv").set_index("category")["change"]
    assert len(change) == 57
    assert set(change.nlargest(5).index) >= {"college_biology", "high_school_biology"}
    assert change["nutrition"] > 0.5
    assert change["college_chemistry"] > 0.3
    assert (change < 0.05).sum() >= 25


def test_the_recipe_names_no_folder_and_files_stay_small() -> None:
    recipe = tomllib.loads((ORGANISM / "recipe.toml").read_text())
    assert recipe["base"] == "bundled:base"
    assert all("/" not in source["file"] for kind in ("forget", "retain") for source in recipe[kind])
    assert (ORGANISM / "delta.safetensors").stat().st_size < 6_000_000


@pytest.mark.slow
def test_the_tuned_model_differs_from_the_base_in_three_matrices() -> None:
    tuned, base = load_model("bundled:tuned"), load_model("bundled:base")
    changed = [
        name
        for (name, new), old in zip(tuned.named_parameters(), base.parameters(), strict=True)
        if not torch.equal(new, old)
    ]
    assert changed == [f"model.layers.{i}.mlp.down_proj.weight" for i in (5, 6, 7)]
