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

from mneme.corpus import load_corpus
from mneme.harvest import HarvestConfig, harvest
from mneme.models import load_pair
from mneme.models.remote import load_remote_pair

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
