"""Run scenarios one after another, each seed in a folder of its own; what is finished is not done again.

    OUT/NAME/seed-S/organism/    the tuned model       OUT/NAME/seed-S/run/    the run, with outcomes and evaluation
    OUT/NAME/seed-S/result.json  what docs/results.json takes of it, or why it failed

A scenario that fails is listed with its reason, and the rest goes on.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mneme._util.errors import ConfigError, MnemeError
from mneme._util.files import write_text
from mneme._util.settings import from_mapping
from mneme.config import make_config, read_config
from mneme.effects.categories import load_taxonomy
from mneme.models import load_model, load_tokenizer
from mneme.organisms import METHODS, make_organism
from mneme.run.pipeline import run_pipeline
from mneme.scenarios.spec import HARMFUL, HH, Scenario, merged
from mneme.scenarios.suite import Suite, result_key
from mneme.store.queries import tables
from mneme.store.queries.effects import effects
from mneme.store.queries.quality import health_values
from mneme.store.run import Run

QUICK_RUN = {
    "harvest": {"context_length": 64, "behaviour_share": 0.5, "shard_tokens": 1500},
    "crosscoder": {"n_latents": 48, "k": 4, "epochs": 1, "batch_size": 256},
    "interpret": {"top_contexts": 3, "decile_contexts": 1},
    "labels": {"score_windows": 30},
    "effects": {"replicates": 20},
}
QUICK_ORGANISM = {"steps": 2, "batch": 2, "max_tokens": 32}
_EVERY, _FIRST = 2, 1  # outcomes are of odd rows: training takes even ones


def run_scenario(suite: Suite, scenario: Scenario, seed: int) -> dict[str, Any]:
    """The scenario's result, from its folder where it is finished; a failed one has `error`, its reason."""
    folder = suite.out / scenario.name / f"seed-{seed}"
    key = result_key(suite, scenario, seed)
    file = folder / "result.json"
    if file.exists():
        before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if before.get("key") == key and "error" not in before and not suite.again:
            return before
    found = {
        "scenario": scenario.name,
        "title": scenario.title,
        "kind": scenario.kind,
        "seed": seed,
        "key": key,
        "made": datetime.date.today().isoformat(),
    }
    try:
        found |= _run(suite, scenario, seed, folder)
    except Exception as error:  # overnight: one that fails must not stop the others
        reason = str(error) if isinstance(error, MnemeError) else f"{type(error).__name__}: {error}"
        found["error"] = reason.splitlines()[0] if reason else type(error).__name__
        write_text(folder / "error.txt", traceback.format_exc())
    write_text(file, json.dumps(found, indent=1))
    return found


def _run(suite: Suite, scenario: Scenario, seed: int, folder: Path) -> dict[str, Any]:
    run = make_run(suite, scenario, seed, folder)
    if scenario.outcome != "none":
        run = measure_run_of(suite, scenario, seed, folder)
    return _result(run)


def make_run(suite: Suite, scenario: Scenario, seed: int, folder: Path) -> Run:
    """The scenario's organism and its run, without outcomes, each made unless it is there."""
    missing = [name for name in scenario.files if not (suite.data / name).exists()]
    if missing:
        raise ConfigError(f"no {suite.data / missing[0]}: give the folder of the evaluation data with --data")
    values = _values(suite, scenario)
    owner = suite.scenarios[scenario.of] if scenario.of else scenario
    values["tuned"] = str(_organism(suite, owner, seed, values))
    if scenario.against_seed is not None:
        values["base"] = str(_organism(suite, owner, scenario.against_seed, values))
    if scenario.corpus:
        values["corpus"] = str(_corpus(suite, scenario, folder))
    run_folder = folder / "run"
    if scenario.of and not scenario.corpus and "harvest" not in scenario.run:
        _same_activations(suite.out / scenario.of / f"seed-{seed}" / "run", run_folder)
    config, first = make_config(values), None
    if suite.again and Run(run_folder).finished("report") is not None:
        made = make_config(read_config(run_folder / "run.toml"))
        config, first = dataclasses.replace(made, effects=config.effects), "effects"
    # the list says what its folder holds
    return Run(run_pipeline(config, run_folder, suite.progress, first=first, replace=True).path)


def measure_run_of(suite: Suite, scenario: Scenario, seed: int, folder: Path) -> Run:
    """The run that `make_run` made, with its outcomes measured and evaluated."""
    config = read_config(folder / "run" / "run.toml")
    _measure(suite, scenario, {"base": config.get("base"), "tuned": config.get("tuned")}, folder / "run")
    return Run(folder / "run")


def _values(suite: Suite, scenario: Scenario) -> dict[str, Any]:
    """The settings of the scenario's run."""
    values = merged(suite.common, scenario.run)
    if suite.quick:
        values = merged(values, QUICK_RUN)
    if scenario.intended_categories:
        values = merged(values, {"effects": {"intended": list(scenario.intended_categories)}})
    return values


def _same_activations(earlier: Path, run_folder: Path) -> None:
    """A second look at an organism starts from the activations of the first; the harvest checks that they fit."""
    source, target = earlier / "activations", run_folder / "activations"
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target)


def _organism(suite: Suite, scenario: Scenario, seed: int, values: Mapping[str, Any]) -> Path:
    """The organism's folder, made unless it is there."""
    folder = suite.out / scenario.name / f"seed-{seed}" / "organism"
    if (folder / "README.md").exists():  # the last file that is written
        return folder
    base = str(values["base"] if scenario.against_seed is None else suite.common["base"])
    if scenario.method == "noise":
        return _noise(base, folder, seed)
    settings = dict(scenario.organism) | (QUICK_ORGANISM if suite.quick else {})
    if suite.quick and scenario.method == "rmu":
        settings |= {"layer": 1, "n_layers": 1}
    learn = [str(suite.data / name) for name in scenario.learn]
    if scenario.rejected:
        learn = [str(_rejected(suite, scenario, folder.parent))]
    return make_organism(
        scenario.method,
        base,
        out=folder,
        forget=[str(suite.data / name) for name in scenario.forget],
        retain=[str(suite.data / name) for name in scenario.retain],
        learn=learn,
        config=from_mapping(METHODS[scenario.method].config, settings, ""),
        seed=seed,
        progress=suite.progress,
    )


def _noise(base: str, folder: Path, seed: int) -> Path:
    """The base with one MLP matrix moved by up to half a bfloat16 rounding step, and rounded."""
    from mneme.organisms.training import mlp_out_weights

    model = load_model(base, dtype="float32")
    name = mlp_out_weights(model, [1])[0]
    weight = model.get_parameter(name).detach()
    generator = torch.Generator().manual_seed(seed)
    step = weight.abs() * torch.finfo(torch.bfloat16).eps
    moved = weight + (torch.rand(weight.shape, generator=generator) - 0.5) * step
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: moved.to(torch.bfloat16).contiguous()}, folder / "delta.safetensors", metadata={"format": "pt"}
    )
    write_text(folder / "recipe.toml", f'base = {json.dumps(base)}\nmethod = "noise"\nseed = {seed}\n')
    write_text(folder / "README.md", "The base with one matrix rounded anew: no change that matters.\n")
    return folder


def _topic_pairs(suite: Suite, scenario: Scenario, file: str) -> list[Any]:
    from mneme.effects.preferences import lay_to_topics, read_instructions, read_pairs
    from mneme.interpret.encoder import SentenceEncoder

    taxonomy = load_taxonomy(scenario.run.get("effects", {}).get("taxonomy", "harm"))
    read = read_instructions if file == HARMFUL else read_pairs
    return lay_to_topics(read(suite.data / file), SentenceEncoder(), taxonomy)


def _rejected(suite: Suite, scenario: Scenario, folder: Path) -> Path:
    """Rejected answers of one topic, of every other pair, as texts to learn."""
    pairs = [p for p in _topic_pairs(suite, scenario, scenario.rejected)[::2] if p.category == scenario.topic]
    file = folder / "rejected.jsonl"
    write_text(file, "".join(json.dumps({"text": (p.prompt + p.worse).strip()}) + "\n" for p in pairs))
    return file


def _corpus(suite: Suite, scenario: Scenario, folder: Path) -> Path:
    """The scenario's text as a .jsonl; short texts are joined to documents of about a hundred words."""
    from mneme.corpus import load_corpus
    from mneme.corpus.rows import read_rows

    if scenario.corpus.startswith("areas:"):
        words = scenario.corpus.removeprefix("areas:").split(",")
        documents = [d for d in load_corpus("bundled").documents if any(w in (d.topic or "") for w in words)]
        rows = [{"text": d.text} for d in documents]
    elif scenario.corpus_field == "text":
        return suite.data / scenario.corpus
    else:
        texts = [row.values[scenario.corpus_field] for row in read_rows(suite.data / scenario.corpus)]
        rows = [{"text": ". ".join(texts[i : i + 8])} for i in range(0, len(texts), 8)]
    file = folder / "corpus.jsonl"
    write_text(file, "".join(json.dumps(row) + "\n" for row in rows))
    return file


def _measure(suite: Suite, scenario: Scenario, values: Mapping[str, Any], run_folder: Path) -> None:
    """Outcomes into the run, where they are not yet, and the evaluation."""
    from mneme.effects.outcome_files import own_outcomes
    from mneme.effects.preferences import measure_contrasts
    from mneme.run.evaluation import evaluate_run
    from mneme.run.outcomes import give_outcomes, measure_run

    oracle = None
    kept = suite.out / "measured" / f"{scenario.outcome}.jsonl"  # the base answers once, an organism once
    rows = {"per_category": 4 if suite.quick else suite.per_category, "every": _EVERY, "first": _FIRST}
    if scenario.outcome == "mmlu":
        oracle = suite.data / "mmlu"
        if not own_outcomes(run_folder).exists():
            measure_run(run_folder, oracle, kept=kept, progress=suite.progress, **rows)
    elif not own_outcomes(run_folder).exists():
        file = HH if scenario.outcome == "margin" else HARMFUL
        items = _topic_pairs(suite, scenario, file)[1 if scenario.outcome == "margin" else 0 :: 2]
        frame = measure_contrasts(
            load_model(str(values["base"])),
            load_model(str(values["tuned"])),
            load_tokenizer(str(values["base"])),
            items,
            source=scenario.outcome,
            kept=kept,
            progress=suite.progress,
        )
        give_outcomes(run_folder, frame, suite.progress)
    evaluate_run(
        run_folder,
        benchmark=oracle,
        per_category=4 if suite.quick else 10,
        every=_EVERY,
        first=_FIRST,
        difference_sae=scenario.difference_sae,
        progress=suite.progress,
    )


def _result(run: Run) -> dict[str, Any]:
    """What the results keep of a run."""
    table = tables.evaluation(run)
    called = effects(run)
    health = health_values(run)
    return {
        "verdict": run.info().get("verdict_sentence", ""),
        "categories": len(called),
        "called": int(called["verdict"].isin(["degraded", "improved"]).sum()),
        "degraded": int((called["measured"] == "degraded").sum())
        if called["measured"].notna().any()
        else None,
        "explained_variance": health.get("explained_variance_tuned"),
        "dead_share": health.get("dead_share"),
        "evaluation": json.loads(table.to_json(orient="records", double_precision=5)),
    }
