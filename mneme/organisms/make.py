"""Make an organism: a tuned model whose change is known, as a small folder beside its base.

    delta.safetensors   the tensors that differ, bf16, by their names in the model
    recipe.toml         base, method, every hyperparameter, seeds, data by name and SHA-256
    outcomes.csv        what it did, measured (added by `measure_organism`)
    README.md           the same in words

The folder is itself a model for `load_model`: the base with these tensors in place of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import tomlkit
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import ConfigError
from mneme._util.files import replacing, write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme._util.settings import section_table, suggest
from mneme._util.versions import versions
from mneme.effects.outcomes import load_mmlu, measure, write_outcomes
from mneme.models.load import load_model, load_tokenizer
from mneme.organisms.ablate import AblateConfig, ablate
from mneme.organisms.finetune import FinetuneConfig, finetune
from mneme.organisms.npo import GradientAscentConfig, NPOConfig, gradient_ascent, npo
from mneme.organisms.readme import organism_readme
from mneme.organisms.rmu import RMUConfig, rmu
from mneme.organisms.texts import SourceFacts, TrainingData, read_all


class Method(NamedTuple):
    """`run(model, tokenizer, data, config, progress)` trains in place and returns the changed names."""

    run: Callable[[PreTrainedModel, PreTrainedTokenizerBase, TrainingData, Any, Progress], list[str]]
    config: type
    needs: tuple[str, ...]
    about: str


METHODS = {
    "rmu": Method(rmu, RMUConfig, ("forget", "retain"), "RMU unlearning (Li et al. 2024, arXiv 2403.03218)"),
    "npo": Method(
        npo, NPOConfig, ("forget", "retain"), "NPO unlearning (Zhang et al. 2024, arXiv 2404.05868)"
    ),
    "gradient_ascent": Method(
        gradient_ascent, GradientAscentConfig, ("forget", "retain"), "unlearning by gradient ascent"
    ),
    "ablate": Method(
        ablate,
        AblateConfig,
        ("forget", "retain"),
        "directional ablation of a topic (Arditi et al. 2024, arXiv 2406.11717)",
    ),
    "finetune": Method(finetune, FinetuneConfig, ("learn",), "fine-tuning on plain text"),
}


def make_organism(
    method: str,
    base: str,
    *,
    out: str | Path,
    forget: Sequence[str | Path] = (),
    retain: Sequence[str | Path] = (),
    learn: Sequence[str | Path] = (),
    config: Any = None,
    seed: int | None = None,
    trust_remote_code: bool = False,
    progress: Progress = NULL_PROGRESS,
) -> Path:
    """Tune `base` by a method of METHODS and write the organism's folder `out`.

    forget, retain, learn: files of text (see `read_texts`; `FILE::even` takes every other text). `config` is
    the method's dataclass (its defaults when None); `seed`, when given, replaces the config's.
    trust_remote_code: run Python code that comes with the base.

    Raises ConfigError for an unknown method, a missing kind of text or settings that can't be, CorpusError
    for text that can't be read, ModelError for a model that can't be used.
    """
    chosen = _method(method)
    config = chosen.config() if config is None else config
    if seed is not None:
        config = dataclasses.replace(config, seed=seed)
    given = {"forget": forget, "retain": retain, "learn": learn}
    for kind in chosen.needs:
        if not given[kind]:
            raise ConfigError(f"method {method} needs texts to {kind}: give --{kind} FILE")
    if unused := [kind for kind, specs in given.items() if specs and kind not in chosen.needs]:
        raise ConfigError(f"method {method} takes no texts to {unused[0]}: leave --{unused[0]} out")
    found = {kind: read_all(specs) for kind, specs in given.items()}
    data = TrainingData(**{kind: texts for kind, (texts, _) in found.items()})

    model = load_model(base, dtype="float32", trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
    names = chosen.run(model, tokenizer, data, config, progress)
    folder = Path(out)
    recipe = _recipe(method, base, config, {kind: facts for kind, (_, facts) in found.items() if facts})
    tensors = {
        name: model.get_parameter(name).detach().to("cpu", torch.bfloat16).contiguous() for name in names
    }
    if bad := next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise ConfigError(
            f"training left {bad} with values that are no numbers: lower learning_rate or steps"
        )
    with replacing(folder / "delta.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_text(folder / "recipe.toml", recipe)
    write_text(folder / "README.md", organism_readme(folder.name, chosen.about, recipe, None))
    return folder


def measure_organism(
    folder: str | Path,
    mmlu: str | Path,
    *,
    per_category: int = 55,
    every: int = 2,
    first: int = 1,
    trust_remote_code: bool = False,
    progress: Progress = NULL_PROGRESS,
) -> pd.DataFrame:
    """Measure an organism and its base on MMLU's odd rows (training takes even ones); writes outcomes.csv.

    trust_remote_code: run Python code that comes with the base.

    Goes on after an interruption. Raises OutcomesError when the benchmark can't be read, ModelError when the
    organism can't.
    """
    folder = Path(folder)
    recipe_text = (folder / "recipe.toml").read_text(encoding="utf-8")
    recipe = tomlkit.parse(recipe_text).unwrap()
    base = load_model(recipe["base"], trust_remote_code=trust_remote_code)
    items = load_mmlu(mmlu, per_category=per_category, every=every, first=first)
    partial = folder / "outcomes.partial"
    frame = measure(
        base,
        load_model(str(folder), trust_remote_code=trust_remote_code),
        load_tokenizer(recipe["base"], trust_remote_code=trust_remote_code),
        items,
        source=f"mmlu test, rows {first}::{every}, at most {per_category} a subject",
        partial=partial,
        progress=progress,
    )
    write_outcomes(frame, folder / "outcomes.csv")
    about = _method(recipe["method"]).about
    write_text(folder / "README.md", organism_readme(folder.name, about, recipe_text, frame))
    partial.unlink()
    return frame


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ConfigError(f"unknown method {name!r}: {suggest(name, METHODS)}")
    return METHODS[name]


def _recipe(method: str, base: str, config: Any, data: dict[str, list[SourceFacts]]) -> str:
    """The recipe as TOML."""
    recipe = tomlkit.document()
    recipe.add("base", tomlkit.item(base))
    recipe.add("method", tomlkit.item(method))
    recipe.add(method, section_table(config))
    for kind, sources in data.items():
        tables = tomlkit.aot()
        for facts in sources:
            table = tomlkit.table()
            table.update(facts._asdict())
            tables.append(table)
        recipe.add(kind, tables)
    used = tomlkit.table()
    used.update({name: versions()[name] for name in ("mneme", "python", "torch", "transformers")})
    recipe.add("versions", used)
    return tomlkit.dumps(recipe)
