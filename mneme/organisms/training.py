"""What all methods share: which parameters train, batches of texts, activations, the step loop."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import ConfigError, CorpusError, DivergedError, ModelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.models.layers import layers_path, residual

# The MLP's projection back to the residual stream, by family: Llama and most; GPT-2; GPT-NeoX; OPT, Phi.
_MLP_OUT = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2")

# And attention's: Llama and most; GPT-2; GPT-NeoX; OPT; Phi; Falcon.
_ATTENTION_OUT = (
    *("self_attn.o_proj", "attn.c_proj", "attention.dense", "self_attn.out_proj", "self_attn.dense"),
    "self_attention.dense",
)


class Batch(NamedTuple):
    """Texts as tokens, padded on the right: both (B, T) int64; mask 1 where there is text."""

    ids: torch.Tensor
    mask: torch.Tensor


def mlp_out_weights(model: PreTrainedModel, layers: Sequence[int]) -> list[str]:
    """Names of the weight matrices that write the MLP's result to the residual stream, in the given layers.

    Raises ConfigError for a layer that isn't there, ModelError for a model with no such matrix.
    """
    return _out_weights(model, layers, "MLP", _MLP_OUT)


def attention_out_weights(model: PreTrainedModel, layers: Sequence[int]) -> list[str]:
    """The same of attention's result."""
    return _out_weights(model, layers, "attention", _ATTENTION_OUT)


def _out_weights(model: PreTrainedModel, layers: Sequence[int], part: str, ends: Sequence[str]) -> list[str]:
    path = layers_path(model)
    count = len(model.get_submodule(path))  # type: ignore[arg-type]  # a ModuleList
    known = dict(model.named_parameters())
    names = []
    for layer in layers:
        if not 0 <= layer < count:
            raise ConfigError(f"layer {layer} isn't there: the model has layers 0 to {count - 1}")
        found = [name for end in ends if (name := f"{path}.{layer}.{end}.weight") in known]
        if not found:
            raise ModelError(
                f"layer {layer} of {type(model).__name__} has no {part} output projection that mneme knows"
                f" ({', '.join(ends)}): use another model, or method finetune with `parameters`"
            )
        names.append(found[0])
    return names


def matching_parameters(model: PreTrainedModel, pattern: str) -> list[str]:
    """Names of the parameters in which the regular expression is found.

    Raises ConfigError when there are none, or the pattern is none.
    """
    try:
        names = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
    except re.error as error:
        raise ConfigError(f"parameters {pattern!r} is no regular expression: {error}") from error
    if not names:
        raise ConfigError(f"parameters {pattern!r} matches none of the model's, such as {_first_name(model)}")
    return names


@contextlib.contextmanager
def trainable(model: PreTrainedModel, names: Sequence[str]) -> Iterator[list[nn.Parameter]]:
    """Only these parameters take gradients, inside the block."""
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    try:
        yield [model.get_parameter(name) for name in names]
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
            parameter.grad = None


def batches(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, size: int, max_tokens: int, seed: int
) -> Iterator[Batch]:
    """Endless batches of `size` texts: shuffled anew each time all were seen; longer texts are cut.

    Raises CorpusError when no text has two tokens.
    """
    rows = [tokenizer(text, add_special_tokens=True)["input_ids"][:max_tokens] for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise CorpusError("no text of two tokens or more to train on: give longer texts")
    random = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(rows), generator=random).tolist()
        order += order[: -len(order) % size]  # the last batch is filled from the start
        order = order if len(order) >= size else (order * size)[:size]
        for start in range(0, len(order), size):
            yield _pad([rows[i] for i in order[start : start + size]])


def _pad(rows: list[list[int]]) -> Batch:
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return Batch(ids, mask)


class _LayerReached(Exception):  # noqa: N818 - no error
    """The layer was reached: the layers above it needn't run."""


def activations_after(model: PreTrainedModel, layer: int, batch: Batch) -> torch.Tensor:
    """(n, d): the residual stream after a layer at all tokens of the batch but each text's first.

    The first token is left out: there decoders park an activation of a hundred times the usual norm (an
    attention sink), which would drown all others in any mean.
    """
    caught: list[torch.Tensor] = []

    def catch(_module: nn.Module, _args: object, output: object) -> None:
        caught.append(residual(output))
        raise _LayerReached

    module = model.get_submodule(f"{layers_path(model)}.{layer}")
    handle = module.register_forward_hook(catch)
    try:
        with contextlib.suppress(_LayerReached):
            model(
                input_ids=batch.ids.to(model.device),
                attention_mask=batch.mask.to(model.device),
                use_cache=False,
            )
    finally:
        handle.remove()
    return caught[0][:, 1:][batch.mask[:, 1:].bool().to(model.device)]


def text_nll(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) each: every text's summed negative log-likelihood in nats, and its number of predicted tokens."""
    ids, mask = batch.ids.to(model.device), batch.mask.to(model.device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    # flattened: of transposed logits the same sum takes five times as long on a processor
    nll = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (nll.view_as(ids[:, 1:]) * mask[:, 1:]).sum(1), mask[:, 1:].sum(1)


def mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Matrix products in bfloat16, sums and parameters in float32: 2.5 times as fast on CPUs with bf16."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def descend(
    parameters: list[nn.Parameter],
    loss: Callable[[], torch.Tensor],
    *,
    name: str,
    steps: int,
    learning_rate: float,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    progress: Progress = NULL_PROGRESS,
) -> None:
    """`steps` of AdamW on loss(), gradients clipped to norm `clip`.

    Raises DivergedError when the loss is no longer a number.
    """
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    with progress.task(name, total=steps, unit="steps") as task:
        for step in range(steps):
            optimiser.zero_grad(set_to_none=True)
            with mixed_precision(parameters[0].device):
                value = loss()
            if not torch.isfinite(value):
                raise DivergedError(f"the loss is not a number at step {step}: lower learning_rate")
            value.backward()
            nn.utils.clip_grad_norm_(parameters, clip)
            optimiser.step()
            task.advance()
            task.note(f"loss {value.item():.4f}")


def _first_name(model: PreTrainedModel) -> str:
    return next(name for name, _ in model.named_parameters())
