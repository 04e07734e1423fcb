"""The pair: a model before and after an intervention, checked, sharing what they have in common.

The two must have the same width and depth, and the base's tokenizer must mean the same to both: its ids
index both embeddings. Parameters that are equal are held once, but for those that a model changes as it runs. The first
layer that reads something changed says from where on the two residual streams can differ at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from nnsight import TransformersModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import PairError
from mneme.models import layers
from mneme.models.causality import check_causal, check_config
from mneme.models.delta import replace_tensor, share_equal_parameters
from mneme.models.load import Loading, has_tokenizer, load_source, tokenizer_of
from mneme.models.observe import Observation, named_tensors, observe
from mneme.models.sources import resolve
from mneme.models.tokenizers import check_tokenizers, fitted
from mneme.models.traced import wrap


@dataclass(frozen=True)
class ModelPair:
    """Two models that can be compared; made by `load_pair` or, from models in memory, by `pair_models`."""

    base: TransformersModel = field(metadata={"doc": "the model before, wrapped for tracing"})
    tuned: TransformersModel = field(metadata={"doc": "the model after, wrapped for tracing"})
    tokenizer: PreTrainedTokenizerBase = field(metadata={"doc": "the base's, used for both"})
    n_layers: int = field(metadata={"doc": "decoder layers of each"})
    width: int = field(metadata={"doc": "d of the residual stream"})
    vocab_size: int = field(metadata={"doc": "next-token logits that both models have"})
    base_id: str = field(metadata={"doc": "the base, as the user wrote it"})
    tuned_id: str = field(metadata={"doc": "the tuned model, as the user wrote it"})
    fingerprint: str = field(
        metadata={"doc": "SHA-256 of both models' parameters and buffers and the tokenizer's vocabulary"}
    )
    first_changed_layer: int | None = field(
        metadata={
            "doc": "first layer that reads what differs; 0 if embeddings or settings do; None if no layer does"
        }
    )
    changed_parameters: tuple[str, ...] = field(
        metadata={"doc": "names of the tuned model's parameters and buffers that differ"}
    )
    layers_path: str = field(metadata={"doc": "dotted path of the decoder's layer list"})
    remote: bool = field(
        default=False,
        metadata={"doc": "the models run on a server (mneme/models/remote.py): no weights here"},
    )
    notes: tuple[str, ...] = field(
        default=(), metadata={"doc": "what the user should know of the models: sentences"}
    )

    @property
    def middle_layer(self) -> int:
        """Where mneme reads by default: the last layer of the first half."""
        return max(self.n_layers // 2 - 1, 0)


def load_pair(
    base: str, tuned: str, *, dtype: str = "auto", device: str = "auto", trust_remote_code: bool = False
) -> ModelPair:
    """Load both models and check that they can be compared. Specs: see mneme/models/sources.py.

    trust_remote_code: run Python code that comes with a model. Raises ModelError for a model that can't be had,
    PairError for two that don't fit together.
    """
    before = resolve(base)
    after = resolve(tuned)
    how = Loading(dtype, device, trust_remote_code)
    # Tokenizers first: they are read in a moment, the weights may take minutes.
    tokenizer = tokenizer_of(before, trust_remote_code)
    if has_tokenizer(after):
        check_tokenizers(tokenizer, tokenizer_of(after, trust_remote_code), base, tuned)
    base_model = load_source(before, how)
    tuned_model = load_source(after, how, base=(before, base_model))
    pair = _pair(base_model, tuned_model, tokenizer, base, tuned)
    return replace(pair, notes=tuple(how.notes))


def pair_models(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    base_id: str = "base",
    tuned_id: str = "tuned",
) -> ModelPair:
    """Make a pair of two models in memory. Equal parameters of `tuned` are replaced by the base's tensors.

    Raises ModelError for a model that is no causal decoder, PairError when width, depth or vocabulary differ.
    """
    for model, model_id in ((base, base_id), (tuned, tuned_id)):
        check_config(model.config, model_id)
        check_causal(model, model_id)
    return _pair(base, tuned, tokenizer, base_id, tuned_id)


def _pair(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base_id: str,
    tuned_id: str,
) -> ModelPair:
    """The pair of two causal decoders."""
    seen, written = _observed_apart(base, tuned)
    for what, measure in (("width", layers.width), ("layers", layers.n_layers)):
        if measure(base) != measure(tuned):
            raise PairError(
                f"{base_id} and {tuned_id} differ in {what} ({measure(base)} and {measure(tuned)}):"
                " compare a model with its own fine-tune"
            )
    tokenizer = fitted(tokenizer, min(map(_rows, (base, tuned))))
    vocab_size = _check_vocabulary(base, tuned, tokenizer, base_id, tuned_id)
    path = layers.layers_path(base)
    if layers.layers_path(tuned) != path:
        raise PairError(
            f"{base_id} and {tuned_id} are of different architectures: compare a model with its tune"
        )
    changed = share_equal_parameters(base, tuned, written)
    return ModelPair(
        base=wrap(base, tokenizer),
        tuned=wrap(tuned, tokenizer),
        tokenizer=tokenizer,
        n_layers=layers.n_layers(base),
        width=layers.width(base),
        vocab_size=vocab_size,
        base_id=base_id,
        tuned_id=tuned_id,
        fingerprint=_fingerprint(base, tuned, changed, tokenizer),
        first_changed_layer=_first_changed_layer(changed, path, seen) if _same_settings(base, tuned) else 0,
        changed_parameters=tuple(changed),
        layers_path=path,
    )


def _rows(model: PreTrainedModel) -> int:
    """How many tokens have an embedding."""
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def _check_vocabulary(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    base_id: str,
    tuned_id: str,
) -> int:
    """The number of next-token logits both models have; PairError when the vocabularies can't be one."""
    rows = [_rows(model) for model in (base, tuned)]
    # A tune may add a few special tokens or pad its embedding; the base's tokenizer never makes those ids.
    if abs(rows[0] - rows[1]) > 0.01 * rows[0] or min(rows) < len(tokenizer):
        raise PairError(
            f"{base_id} and {tuned_id} have vocabularies of {rows[0]} and {rows[1]} tokens, the tokenizer"
            f" {len(tokenizer)}: compare a model with its own fine-tune"
        )
    return min(rows)


def _same_settings(base: PreTrainedModel, tuned: PreTrainedModel) -> bool:
    """Whether equal weights compute the same in both: names and special tokens apart."""
    harmless = {"_name_or_path", "architectures", "dtype", "transformers_version", "use_cache", "vocab_size"}
    harmless |= {"bos_token_id", "eos_token_id", "pad_token_id"}
    harmless.add("tie_word_embeddings")  # the weights tell what differs
    settings = [
        {key: value for key, value in model.config.to_dict().items() if key not in harmless}
        for model in (base, tuned)
    ]
    return settings[0] == settings[1]


def _observed_apart(base: PreTrainedModel, tuned: PreTrainedModel) -> tuple[Observation, set[str]]:
    """How the tuned model runs, and the names of what either changes in place: after this, each has its own.

    A tensor that both hold and that one changes (RWKV divides weights when it first runs) would be changed twice.
    """
    written: set[str] = set()
    seen: list[Observation] = []
    for model, other in ((base, tuned), (tuned, base)):
        before = named_tensors(other)
        seen.append(observe(model))
        layers.anatomy(model, seen[-1])
        mine = named_tensors(model)
        for name, values in seen[-1].written.items():
            if other is not model and before.get(name) is mine[name]:
                replace_tensor(other, name, values)
        written |= set(seen[-1].written)
    return seen[1], written


def _first_changed_layer(changed: list[str], path: str, seen: Observation) -> int | None:
    """The first layer that reads something changed, 0 for what is read before the layers (embeddings).

    What is read after the last layer (final norm, head) doesn't count, nor what text never passes through (a vision
    tower). A layer's own tensor that the few tokens left out (an expert) counts as that layer's.
    """
    calls = layers.layer_calls(seen, path)
    found = []
    for name in changed:
        layer = layers.layer_of_parameter(name, path)
        if name in seen.first_read:
            first = layers.layers_before(seen.first_read[name], calls)
            layer = first if layer is None else min(first, layer)
        if layer is not None and layer < len(calls):
            found.append(layer)
    return min(found, default=None)


def _fingerprint(
    base: PreTrainedModel, tuned: PreTrainedModel, changed: list[str], tokenizer: PreTrainedTokenizerBase
) -> str:
    digest = hashlib.sha256()
    of_base, of_tuned = named_tensors(base), named_tensors(tuned)
    parameters = dict(base.named_parameters())
    buffers = [item for item in of_base.items() if not isinstance(item[1], nn.Parameter)]
    for name, tensor in [*parameters.items(), *buffers, *((n, of_tuned[n]) for n in changed)]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        digest.update(f"{index} {token}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
