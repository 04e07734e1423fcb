"""A pair whose models run elsewhere: on NDIF, or a server of one's own that speaks its protocol.

Here only the models' shapes and the tokenizer are loaded (from the hub: no weights); nnsight ships every trace to
the server, which has the weights, and sends back what was saved. The key and the address come from the
environment (NDIF_API_KEY, NDIF_HOST) or nnsight's own settings; mneme never stores them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import torch
from nnsight import CONFIG, TransformersModel
from transformers import AutoTokenizer

from mneme._util.errors import ModelError, PairError, first_line
from mneme.models import layers
from mneme.models.pair import ModelPair
from mneme.models.quiet import quiet_transformers

_PATIENCE_S = 30.0


def load_remote_pair(base: str, tuned: str) -> ModelPair:
    """Two models that the server runs now, each `org/name` or `org/name@revision`.

    Raises ModelError when there is no key, no server, or the server doesn't run a model; PairError for two that
    don't fit together.
    """
    CONFIG.APP.REMOTE_LOGGING = False  # its display would draw over mneme's progress
    for spec in (base, tuned):
        _refuse_local(spec)
    if not CONFIG.API.APIKEY:
        raise ModelError(
            "harvest.remote needs an NDIF key: set NDIF_API_KEY in the environment (keys: https://login.ndif.us),"
            " or NDIF_HOST too for a server of your own"
        )
    _check_served([base, tuned])
    models = [_shape(spec) for spec in (base, tuned)]
    shapes = [(layers.width(m._module), layers.n_layers(m._module), _vocabulary(m)) for m in models]
    if shapes[0] != shapes[1]:
        raise PairError(
            f"{base} and {tuned} differ in width, layers or vocabulary ({shapes[0]} and {shapes[1]}): compare a model"
            " with its own fine-tune"
        )
    first, second = (dict(model.tokenizer.get_vocab()) for model in models)
    if any(second.get(token) != index for token, index in first.items()):
        raise PairError(
            f"{base} and {tuned} have different vocabularies: compare a model with its own fine-tune"
        )
    vocabulary = json.dumps(sorted(first.items()))
    parts = [*(model.to_model_key() for model in models), CONFIG.API.HOST, vocabulary]
    return ModelPair(
        base=models[0],
        tuned=models[1],
        tokenizer=models[0].tokenizer,
        n_layers=shapes[0][1],
        width=shapes[0][0],
        vocab_size=shapes[0][2],
        base_id=base,
        tuned_id=tuned,
        fingerprint=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
        first_changed_layer=0,  # the weights can't be compared from here, so no layer is shared
        changed_parameters=(),
        layers_path=layers.layers_path(models[0]._module),
        remote=True,
    )


@contextlib.contextmanager
def told(pair: ModelPair) -> Iterator[None]:
    """Raises ModelError, in one line, for what goes wrong on the server or on the way."""
    from httpx import HTTPError
    from nnsight.intervention.backends.remote import RemoteError
    from websocket import WebSocketException

    try:
        yield
    except RemoteError as error:
        raise ModelError(
            f"{CONFIG.API.HOST} could not run a batch of {pair.base_id} or {pair.tuned_id}"
            f" ({first_line(error)}): see its status, lower harvest.batch_tokens if it lacked memory; the same"
            " command goes on from the last whole shard"
        ) from error
    except (OSError, HTTPError, WebSocketException) as error:
        raise ModelError(
            f"the connection to {CONFIG.API.HOST} was lost ({type(error).__name__}): check the network; the same"
            " command goes on from the last whole shard"
        ) from error


def _refuse_local(spec: str) -> None:
    if spec.startswith("bundled:") or spec.endswith(".gguf"):
        raise ModelError(
            f"{spec} can't be run by a server: name a model on the hub (org/name), or unset harvest.remote"
        )


def _check_served(specs: list[str]) -> None:
    """Every model is among those that the server has up."""
    host = CONFIG.API.HOST
    try:
        with urllib.request.urlopen(f"{host}/status", timeout=_PATIENCE_S) as reply:
            deployments = json.load(reply).get("deployments", {}).values()
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise ModelError(
            f"{host} can't be reached ({type(error).__name__}): check the network, or NDIF_HOST"
        ) from error
    served = {
        (str(each.get("repo_id")), each.get("revision") or "main")
        for each in deployments
        if each.get("application_state") == "RUNNING"
    }
    for spec in specs:
        name, _, revision = spec.partition("@")
        if (name, revision or "main") not in served:
            names = ", ".join(sorted({name for name, _ in served})[:10]) or "none"
            raise ModelError(
                f"{host} does not run {spec} now (it runs {names}): choose one of these, or ask for it there"
            )


def _shape(spec: str) -> TransformersModel:
    """The model without weights, and its tokenizer."""
    name, _, revision = spec.partition("@")
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision or "main", trust_remote_code=False
            )
            model = TransformersModel(
                name,
                revision=revision or "main",
                task="text-generation",
                tokenizer=tokenizer,
                trust_remote_code=False,
            )
            model.to_model_key()  # asks the hub for the name as the server knows it
    except Exception as error:
        raise ModelError(
            f"the config and tokenizer of {spec} can't be had from the hub ({first_line(error)}): check the name"
            " and the network, or log in (`hf auth login`) where it is gated"
        ) from error
    return model


def _vocabulary(model: Any) -> int:
    embedding = model._module.get_input_embeddings()
    assert isinstance(embedding.weight, torch.Tensor)
    return int(embedding.weight.shape[0])
