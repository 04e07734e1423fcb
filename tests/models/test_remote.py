"""Models that a server runs: the same activations as at home, and one clear line where that can't be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ndif_server import NdifServer, serving
from nnsight import CONFIG, TransformersModel
from nnsight.modeling import huggingface
from tiny_models import changed_in_layer, save, tiny_llama, tiny_tokenizer

from mneme._util.errors import ConfigError, ModelError, PairError
from mneme.config import make_config
from mneme.corpus import load_corpus
from mneme.harvest import HarvestConfig, harvest
from mneme.models import load_pair
from mneme.models.remote import load_remote_pair
from mneme.run.pipeline import run_pipeline

KEY = "a-secret-key"
TEXTS = [f"a river and a king number {i} sat on a mat by the war of code" for i in range(30)]
CONFIGURATION = HarvestConfig(
    layer=2, context_length=48, batch_tokens=400, shard_tokens=600, min_tokens=10, behaviour_share=0.0
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("served")
    base = tiny_llama()
    return {
        "base": save(base, folder / "base", tiny_tokenizer()),
        "tuned": save(changed_in_layer(base, 1), folder / "tuned", tiny_tokenizer()),
        "wide": save(tiny_llama(width=32), folder / "wide", tiny_tokenizer()),
    }


@pytest.fixture
def server(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[NdifServer]:
    """Runs the models under the names of their folders, which stand for hub ids."""
    models = {
        path: TransformersModel(path, task="text-generation", dispatch=True, device="cpu")
        for path in folders.values()
    }
    monkeypatch.setattr(huggingface, "_ID_CACHE", {path: path for path in folders.values()})
    made = NdifServer(models, KEY)
    with serving(made) as address:
        monkeypatch.setattr(CONFIG.API, "HOST", address)
        monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
        yield made


def test_a_remote_harvest_writes_what_one_at_home_does(
    server: NdifServer, folders: dict[str, str], tmp_path: Path
) -> None:
    corpus = load_corpus(TEXTS)
    pair = load_remote_pair(folders["base"], folders["tuned"])
    assert {p.device.type for p in pair.base._module.parameters()} == {"meta"}  # no weights are here
    far = harvest(pair, corpus, replace(CONFIGURATION, remote="ndif"), tmp_path / "far")
    near = harvest(
        load_pair(folders["base"], folders["tuned"], dtype="float32"),
        corpus,
        CONFIGURATION,
        tmp_path / "near",
    )
    assert far.n == near.n and torch.equal(far.read(0, far.n), near.read(0, near.n))
    assert server.jobs[:2] == [folders["base"], folders["tuned"]]
    assert not any(KEY.encode() in file.read_bytes() for file in (tmp_path / "far").iterdir())


def test_a_whole_run_leaves_out_what_needs_the_weights(
    server: NdifServer, folders: dict[str, str], tmp_path: Path
) -> None:
    settings = {
        "base": folders["base"],
        "tuned": folders["tuned"],
        "corpus": tuple(TEXTS),
        "harvest": {"remote": "ndif", "behaviour_share": 0.0, "context_length": 48},
        "crosscoder": {"n_latents": 48, "k": 4, "epochs": 4, "batch_size": 256},
        "interpret": {"top_contexts": 5, "decile_contexts": 1},
        "effects": {"taxonomy": "harm", "replicates": 20},
    }
    run = run_pipeline(make_config(settings), tmp_path / "run")
    assert run.rows("SELECT count(*) FROM latents")[0][0] == 48
    assert run.rows("SELECT count(*) FROM labels")[0][0] > 0
    assert run.rows("SELECT count(*) FROM logit_lens")[0][0] == 0
    assert run.rows("SELECT count(*) FROM health WHERE metric LIKE 'splice%'")[0][0] == 0
    assert (run.path / "report" / "report.html").exists()
    texts = [file for file in run.path.rglob("*") if file.suffix in (".toml", ".json", ".html", ".md")]
    assert len(texts) > 5 and not any(KEY in file.read_text() for file in texts)
    jobs = len(server.jobs)
    run_pipeline(make_config(settings), tmp_path / "run")
    assert len(server.jobs) == jobs  # nothing is asked again


def test_behaviour_can_not_be_had_from_a_server() -> None:
    with pytest.raises(ConfigError, match="set behaviour_share = 0"):
        make_config({"base": "org/a", "tuned": "org/b", "harvest": {"remote": "ndif"}})


def test_what_stands_in_the_way_is_told_before_anything_is_read(
    server: NdifServer, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"bundled:tuned can't be run by a server: name a model on the hub"):
        load_remote_pair(folders["base"], "bundled:tuned")
    with pytest.raises(ModelError, match=r"does not run org/other now \(it runs .*base"):
        load_remote_pair(folders["base"], "org/other")
    with pytest.raises(ModelError, match="does not run cold/model now"):
        load_remote_pair("cold/model", folders["tuned"])
    with pytest.raises(PairError, match="differ in width, layers or vocabulary"):
        load_remote_pair(folders["base"], folders["wide"])
    monkeypatch.setattr(CONFIG.API, "APIKEY", None)
    with pytest.raises(ModelError, match="set NDIF_API_KEY in the environment"):
        load_remote_pair(folders["base"], folders["tuned"])
    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    with pytest.raises(
        ModelError, match=r"http://127\.0\.0\.1:9 can't be reached \(URLError\): check the network"
    ):
        load_remote_pair(folders["base"], folders["tuned"])


def test_a_failure_on_the_way_is_one_line_and_whole_shards_are_kept(
    server: NdifServer, folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, remote = load_corpus(TEXTS), replace(CONFIGURATION, remote="ndif")
    pair = load_remote_pair(folders["base"], folders["tuned"])
    monkeypatch.setattr(CONFIG.API, "APIKEY", "another")
    with pytest.raises(ModelError, match=r"could not run a batch.*this key is not known"):
        harvest(pair, corpus, remote, tmp_path)
    monkeypatch.setattr(CONFIG.API, "APIKEY", KEY)
    original = server._run

    def break_later(model: TransformersModel, blob: bytes, compress: bool) -> dict[str, torch.Tensor]:
        if len(server.jobs) > 12:
            server.failure = "CUDA out of memory\nat some line"
        return original(model, blob, compress)

    server._run = break_later
    with pytest.raises(
        ModelError, match=r"could not run a batch of .* \(CUDA out of memory\): .*goes on from"
    ) as told:
        harvest(pair, corpus, remote, tmp_path)
    assert "\n" not in str(told.value)
    done = len(list(tmp_path.glob("*.safetensors")))
    assert done > 0
    server._run, server.failure, asked = original, None, len(server.jobs)
    cache = harvest(pair, corpus, remote, tmp_path)
    assert cache.n > 0 and len(server.jobs) - asked < asked
    monkeypatch.setattr(CONFIG.API, "HOST", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"connection to .* was lost \(ConnectionRefusedError\)"):
        harvest(pair, corpus, remote, tmp_path / "unreachable")
