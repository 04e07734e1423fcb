"""What mneme reads of an architecture, held against forward passes that know nothing of mneme.

Of each architecture four models of the same random weights are made: a base and a tuned one that share tensors, for
mneme, and two that it never sees. The tuned ones differ in one layer's matrices.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_models import tiny_tokenizer
from torch import Tensor
from transformers import PreTrainedModel

from conformance.architectures import N_LAYERS, VOCABULARY, tiny_model
from mneme._util.errors import UserError
from mneme.corpus import Corpus, Document
from mneme.harvest import HarvestConfig, harvest
from mneme.harvest.forward import PairReader
from mneme.interpret.head import reading_head
from mneme.models import ModelPair, pair_models
from mneme.models.delta import replace_tensor, sharing_copy
from mneme.models.layers import anatomy, residual

CHECKS = ("streams", "hidden states", "predictions", "shared layers", "lens")
_CHANGED = N_LAYERS // 2
_TEXTS = [
    "one text of a few words, to be read by both",
    "2 + 2 = 5",
    "x" * 150 + " longer than most positions",
]


@dataclass
class Verdict:
    """What came of one architecture."""

    kind: str
    status: str = "read"
    """read, refused or untried."""
    reason: str = ""
    n_shared: int | None = None
    """Layers that both models share, of those before the changed one."""
    found: dict[str, str] = field(default_factory=dict)
    """Check -> yes, "-" where it doesn't apply, or what is wrong."""

    @property
    def ok(self) -> bool:
        """Whether nothing is read wrongly: refusing, in one line, is right too."""
        return all(said in ("yes", "-") for said in self.found.values())


def examine(kind: str, **settings: Any) -> Verdict:
    """Make the architecture's models and check all of them."""
    try:
        models = [tiny_model(kind, **settings) for _ in range(4)]
    except Exception as error:  # whatever a config or a model says of sizes that don't fit together
        return Verdict(kind, "untried", _first_line(error))
    base, shared, plain_base, plain_tuned = models
    try:
        # `shared` is only asked where its layers are: what that changes in a model must not reach the others.
        path = anatomy(shared).path
        tuned = sharing_copy(base)
        for name, values in _changes(base, path).items():
            replace_tensor(tuned, name, values)
            plain_tuned.get_parameter(name).data.copy_(values)
        pair = pair_models(base, tuned, tiny_tokenizer())
    except UserError as error:
        assert "\n" not in str(error)
        return Verdict(kind, "refused", str(error))
    plain = (plain_base, plain_tuned)
    verdict = Verdict(kind)
    with torch.no_grad():
        truth = [plain_pass(model, path, _ids()) for model in plain]
        verdict.found["streams"], verdict.found["hidden states"] = streams(pair, truth, _ids())
        verdict.n_shared, verdict.found["shared layers"] = _sharing(pair, truth)
        verdict.found["predictions"] = predictions(pair, plain)
    verdict.found["lens"] = _lens(pair, plain, path)
    return verdict


def _changes(model: PreTrainedModel, path: str) -> dict[str, Tensor]:
    """New values of one layer's matrices."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: parameter + 0.2 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in model.named_parameters()
        if name.startswith(f"{path}.{_CHANGED}.") and parameter.ndim > 1
    }


def _ids() -> Tensor:
    return torch.randint(2, VOCABULARY - 1, (3, 20), generator=torch.Generator().manual_seed(1))


@dataclass
class Truth:
    """What a model gives without mneme."""

    streams: list[Tensor]
    hidden_states: tuple[Tensor, ...] | None
    logits: Tensor


def plain_pass(model: PreTrainedModel, path: str, ids: Tensor) -> Truth:
    """What hooks and the model itself give."""
    streams: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda _m, _a, output: streams.append(residual(output).clone()))
        for layer in model.get_submodule(path)  # type: ignore[union-attr]
    ]
    output = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    return Truth(streams, getattr(output, "hidden_states", None), output.logits)


def streams(pair: ModelPair, truth: list[Truth], ids: Tensor) -> tuple[str, str]:
    """Of every layer, over ids (rows, tokens): against hooks, and against hidden states."""
    aligned = all(t.hidden_states and len(t.hidden_states) == pair.n_layers + 1 for t in truth)
    worst, states = 0.0, 0.0
    for layer in range(pair.n_layers):
        found = PairReader(pair, layer).read(ids)
        for mine, true in zip((found.base, found.tuned), truth, strict=True):
            worst = max(worst, _off(mine, true.streams[layer]))
            if aligned and true.hidden_states and layer < pair.n_layers - 1:
                states = max(states, _off(mine, true.hidden_states[layer + 1]))
    # Some give hidden states of another place (before the layer's last sum), or none.
    told = "-" if not aligned else _yes(states) if states < 1e-5 else "-"
    return _yes(worst), told


def _sharing(pair: ModelPair, truth: list[Truth]) -> tuple[int, str]:
    """Equal bits with and without sharing, and equal logits to those of the plain models."""
    n_shared = 0
    for layer in range(pair.n_layers):
        reader = PairReader(pair, layer)
        n_shared = max(n_shared, reader.n_shared)
        found = reader.read(_ids(), logits=True)
        whole = PairReader(pair, layer, share_layers=False).read(_ids(), logits=True)
        if not all(
            torch.equal(a, b) for a, b in zip(found, whole, strict=True) if a is not None and b is not None
        ):
            return n_shared, f"not equal at layer {layer}"
        if layer < (pair.first_changed_layer or 0) and not torch.equal(found.base, found.tuned):
            return n_shared, f"streams differ at layer {layer}"
        for logits, true in zip(found[2:], truth, strict=True):
            if logits is None or _off(logits, true.logits) > 1e-5:
                return n_shared, f"logits differ from a plain pass by {_off(logits, true.logits):.1e}"
    moved = (truth[0].streams[_CHANGED] - truth[1].streams[_CHANGED]).abs().max()
    first = pair.first_changed_layer
    if first is None or first > _CHANGED or not moved:
        return n_shared, f"first changed layer {first}, not {_CHANGED}"
    return n_shared, "yes"


def predictions(
    pair: ModelPair, plain: tuple[PreTrainedModel, PreTrainedModel], texts: Sequence[str] = _TEXTS
) -> str:
    """KL and NLL of a harvest equal those of plain passes over its windows."""
    config = HarvestConfig(
        layer=1, context_length=512, min_tokens=1, behaviour_share=1.0, behaviour_tokens=20, store_dtype="float32",
        sink_ratio=1e9,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cache = harvest(
            pair, Corpus.of((Document(text, None) for text in texts), "conformance"), config, Path(folder)
        )
        found = np.stack([cache.kl, cache.nll_base, cache.nll_tuned])
        documents = [torch.from_numpy(cache.document_tokens(d).astype(np.int64)) for d in range(len(texts))]
        streams = cache.read(0, cache.n)
        place = cache.document, cache.position
    expected = np.full_like(found, np.nan)
    for document, tokens in enumerate(documents):
        beginning = torch.cat([torch.tensor([0]), tokens[:20]])[None]
        logs = [
            m(input_ids=beginning, use_cache=False).logits[0, 1:, :].float().log_softmax(-1) for m in plain
        ]
        for position in range(min(20, len(tokens))):
            row = np.flatnonzero((place[0] == document) & (place[1] == position))
            base, tuned = (log[position] for log in logs)
            expected[0, row] = float((base.exp() * (base - tuned)).sum())
            if position + 1 < len(tokens):
                expected[1:, row] = [[-float(log[tokens[position + 1]])] for log in (base, tuned)]
    if not streams.isfinite().all():
        return "streams not finite"
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return "measured at other tokens"
    return _yes(float(np.nanmax(np.abs(found - expected) / (1 + np.abs(expected)))), 1e-4)


def _lens(pair: ModelPair, plain: tuple[PreTrainedModel, PreTrainedModel], path: str) -> str:
    worst = 0.0
    for mine, model in zip((pair.base, pair.tuned), plain, strict=True):
        try:
            head = reading_head(mine._module)
        except UserError as error:
            return "-" if "no logit lens" in str(error) else str(error)
        worst = max(worst, against_jacobian(head, model, path))
    return _yes(worst, 1e-3)


def against_jacobian(head: Tensor, model: PreTrainedModel, path: str) -> float:
    """How far (V, d) is from the derivative of the model's logits by the last layer's stream.

    The derivative at h, of size s = |h| / sqrt(d), is (H - H h h^T / (d s^2)) / s for a norm, with the mean off h and s
    its standard deviation for one that centres, and H where there is none; after a soft cap, less by its slope.
    """
    at = 3 * torch.randn(head.shape[1], generator=torch.Generator().manual_seed(5)) + 1

    def logits(stream: Tensor) -> Tensor:
        last = model.get_submodule(path)[-1]  # type: ignore[index]
        like = lambda out: stream.expand(residual(out).shape)  # noqa: E731
        hook = last.register_forward_hook(
            lambda _m, _a, out: (
                type(out)([like(out), *out[1:]]) if isinstance(out, tuple | list) else like(out)
            )
        )
        try:
            return model(input_ids=_ids()[:1, :4], use_cache=False).logits[0, -1].float()
        finally:
            hook.remove()

    true: Any = torch.autograd.functional.jacobian(logits, at)
    cap = _cap(model)
    if cap:
        true = true / (1 - (logits(at) / cap) ** 2)[:, None]
    head = head[: true.shape[0]]
    centred, d = at - at.mean(), len(at)
    misses = [_off(head, true)]
    for h in (at, centred):
        s = h.square().mean().sqrt()
        misses.append(_off((head - torch.outer(head @ h, h) / (d * s**2)) / s, true))
    return min(misses)


def _cap(model: PreTrainedModel) -> float | None:
    config = model.config.get_text_config(decoder=True)
    names = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
    return next((cap for name in names if (cap := getattr(config, name, None))), None)


def _off(found: Tensor | None, true: Tensor) -> float:
    """Largest difference, of the true one's size."""
    if found is None or found.shape != true.shape:
        return float("inf")
    return float((found - true).abs().max() / true.abs().max().clamp(min=1e-12))


def _yes(off: float, within: float = 1e-5) -> str:
    return "yes" if off <= within else f"off by {off:.1e}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
