"""The crosscoder: one sparse dictionary of two models.

    f = relu(sum_m x_m W_enc^m + b_enc)        shared encoder over both models' activations
    x_hat_m = sum_j f_j d_j^m + b_dec^m        one decoder a model

Activations come and go in raw units: the normaliser (x - mean) / scale, per model, is part of the module and
of its files. (Lindsey et al. 2024, "Sparse crosscoders"; BatchTopK: Bussmann et al. 2024, arXiv 2412.06410.)

Letters: B tokens, 2 models (base, tuned), d width, F latents, n active pairs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mneme._util.errors import CrosscoderError
from mneme.crosscoder import formats
from mneme.crosscoder.codes import SparseCodes
from mneme.crosscoder.config import READ_OUT, CrosscoderConfig
from mneme.crosscoder.init import fit_normaliser, fit_scale
from mneme.crosscoder.kernels import encodes_in_bf16, sparse_decode
from mneme.crosscoder.source import as_source, as_tensor
from mneme.harvest.protocols import Source

# Of pre-activations held at once. A processor's are freed in blocks that its allocator finds a place for again; a
# GPU reads the whole encoder for each chunk, so that a chunk must be of thousands of tokens.
_CPU_CHUNK_FLOATS, _CHUNK_FLOATS = 2**22, 2**28


class Crosscoder(nn.Module):
    """A (2, d) <-> F sparse dictionary.

    Activations may lie on any device; what comes back lies where the crosscoder does.

    Encoding by the inference rule of its variant: batchtopk keeps pairs whose selection value
    f_j (|d_j^b| + |d_j^t|) exceeds `threshold`; topk keeps the k largest selection values of each token;
    l1 keeps all above zero; base and tuned, the read-out dictionaries (mneme/crosscoder/read_out.py), keep what
    batchtopk does, of one model's activations. Raises CrosscoderError when used before it has a normaliser (and, unless
    topk or l1, a threshold).
    """

    threshold: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, config: CrosscoderConfig, width: int) -> None:
        super().__init__()
        F = config.latents_for(width)
        self.config = config
        self.width = width
        self.n_latents = F
        self.W_enc = nn.Parameter(torch.zeros(2, width, F))
        self.b_enc = nn.Parameter(torch.zeros(F))
        self.W_dec = nn.Parameter(torch.zeros(2, F, width))
        self.b_dec = nn.Parameter(torch.zeros(2, width))
        self.register_buffer("threshold", torch.tensor(float("nan")))
        self.register_buffer("mean", torch.full((2, width), float("nan")))
        self.register_buffer("scale", torch.full((2,), float("nan")))
        self.centres_input = True  # whether with_normaliser subtracts the mean
        self.training_documents: Tensor | None = None
        """Hashes of the documents that training read (harvest/held_out.py), int64, ascending; None: not known."""
        self.requires_grad_(False)

    def __repr__(self) -> str:
        """Its sizes and rule; torch's would list modules, and there are none below it."""
        rule = (
            self.config.variant
            if self.config.variant == "l1"
            else f"{self.config.variant}, k={self.config.k}"
        )
        return f"Crosscoder(width={self.width}, latents={self.n_latents}, {rule}, {self.W_dec.device})"

    @property
    def read_model(self) -> int | None:
        """The model (0 base, 1 tuned) that a read-out dictionary was trained on; None for a crosscoder."""
        variant = self.config.variant
        return READ_OUT.index(variant) if variant in READ_OUT else None

    @property
    def _by_threshold(self) -> bool:
        return self.config.variant not in ("topk", "l1")

    @property
    def has_normaliser(self) -> bool:
        """Whether mean and scale are set: published checkpoints may lack them."""
        return bool(torch.isfinite(self.scale).all())

    # raw <-> normalised

    def normalise(self, x: Tensor) -> Tensor:
        """(B, 2, d) raw -> (B, 2, d) with mean 0 and E||x||^2 = d for each model, float32."""
        x = as_tensor(x)
        self._check_shape(x)
        if not self.has_normaliser:
            raise CrosscoderError(
                "this crosscoder has no normaliser: give it one with with_normaliser(activations)"
            )
        return (x.to(self.mean.device, torch.float32) - self.mean) / self.scale[:, None]

    def denormalise(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return x * self.scale[:, None] + self.mean

    def raw_decoder(self) -> Tensor:
        """(2, F, d): decoder directions in raw activation units."""
        return self.W_dec * self.scale[:, None, None]

    def raw_bias(self) -> Tensor:
        """(2, d): what the decoder writes when nothing fires, in raw activation units."""
        return self.denormalise(self.b_dec)

    # raw activations <-> codes

    def encode(self, x: Tensor) -> Tensor:
        """(B, 2, d) raw -> (B, F) float32, zero where a latent does not fire."""
        codes = self.encode_sparse(x)
        f = torch.zeros(x.shape[0], self.n_latents, device=codes.value.device)
        f[codes.row, codes.latent] = codes.value
        return f

    @torch.no_grad()
    def encode_sparse(self, x: Tensor) -> SparseCodes:
        """(B, 2, d) raw -> its active pairs; a read-out dictionary's of the model it was trained on."""
        x = self.normalise(x)
        if self.read_model is not None:
            return self._encoded(x[:, self.read_model], self._of_one_model)
        return self._encoded(x.flatten(1), self.W_enc.reshape(2 * self.width, self.n_latents))

    @torch.no_grad()
    def encode_models(self, x: Tensor) -> tuple[SparseCodes, SparseCodes]:
        """(B, 2, d) raw -> each model's active pairs: the same ones, but for a read-out dictionary."""
        if self.read_model is None:
            codes = self.encode_sparse(x)
            return codes, codes
        x, weight = self.normalise(x), self._of_one_model
        return self._encoded(x[:, 0], weight), self._encoded(x[:, 1], weight)

    @property
    def _of_one_model(self) -> Tensor:
        """(d, F): the encoder of a model with itself, which is what a read-out dictionary's training saw."""
        return self.W_enc.sum(0)

    def _encoded(self, x: Tensor, weight: Tensor) -> SparseCodes:
        """x (B, D) normalised, weight (D, F)."""
        if self._by_threshold and not bool(torch.isfinite(self.threshold)):
            raise CrosscoderError("this crosscoder has no threshold: train it, or set one")
        norms = self.decoder_norms().sum(0)
        floats = _CPU_CHUNK_FLOATS if x.device.type == "cpu" else _CHUNK_FLOATS
        step = max(1, floats // self.n_latents)
        parts = [
            self._encode_chunk(x[start : start + step], weight, norms, start)
            for start in range(0, len(x), step)
        ]
        if not parts:
            empty = torch.zeros(0, dtype=torch.int64, device=x.device)
            return SparseCodes(empty, empty, torch.zeros(0, device=x.device))
        return SparseCodes(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def decode(self, f: Tensor) -> Tensor:
        """(B, F) -> (B, 2, d) raw."""
        return self.denormalise(torch.einsum("bf,mfd->bmd", f, self.W_dec) + self.b_dec)

    def decode_sparse(self, codes: SparseCodes, n_tokens: int) -> Tensor:
        """Active pairs of `n_tokens` tokens -> (n_tokens, 2, d) raw."""
        parts = [sparse_decode(codes, decoder, n_tokens) for decoder in self.W_dec]
        return self.denormalise(torch.stack(parts, dim=1) + self.b_dec)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2, d) raw -> its reconstruction, raw."""
        parts = [
            sparse_decode(codes, decoder, len(x))
            for codes, decoder in zip(self.encode_models(x), self.W_dec, strict=True)
        ]
        return self.denormalise(torch.stack(parts, dim=1) + self.b_dec)

    def decoder_norms(self) -> Tensor:
        """(2, F): l2 norms of the decoders in normalised units (raw ones: those of `raw_decoder()`)."""
        found: Tensor = self.W_dec.norm(dim=-1)
        return found

    # files

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors. Raises RunError or DiskFullError where that can't be."""
        tensors = dict(self.state_dict())
        if self.training_documents is not None:
            tensors["training_documents"] = self.training_documents
        formats.write(self.config, self.width, tensors, folder)

    @classmethod
    def from_pretrained(cls, source: str | Path, width: int | None = None) -> Crosscoder:
        """Read one from a file, folder or hub id, mneme's own or another published layout (see `formats`).

        Layouts that store no normaliser give a crosscoder without one: `with_normaliser(activations)` adds it.
        Raises CrosscoderError when it is missing, damaged or in another layout, or does not read activations of the
        width given.
        """
        stored = formats.read(source)
        if width is not None:
            formats.check_width(source, stored.width, width)
        crosscoder = cls(stored.config, stored.width)
        for name, mine in crosscoder.state_dict().items():
            found = stored.tensors.get(name)
            if found is None:
                raise CrosscoderError(f"{stored.file} lacks {name}: train or download the crosscoder again")
            if found.shape != mine.shape:
                raise CrosscoderError(
                    f"{stored.file} is damaged: {name} has shape {tuple(found.shape)}, not {tuple(mine.shape)};"
                    " train or download it again"
                )
            mine.copy_(found)
        crosscoder.centres_input = stored.centres_input
        crosscoder.training_documents = stored.tensors.get("training_documents")
        return crosscoder

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Upload to the hub; returns the commit's address. Needs the hub's login."""
        from huggingface_hub import HfApi

        hub = HfApi()
        hub.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(hub.upload_folder(repo_id=repo_id, folder_path=folder))

    def with_normaliser(self, activations: Source | Tensor | np.ndarray | Iterable[Tensor]) -> Crosscoder:
        """This crosscoder with its normaliser computed on raw activations (anything training takes).

        Mean 0 and E||x||^2 = d; layouts trained on uncentred inputs get mean norm sqrt(d) alone.
        """
        source = as_source(activations)
        if self.centres_input:
            mean, scale = fit_normaliser(source.batches(8192))
        else:
            mean, scale = torch.zeros_like(self.mean), fit_scale(source.batches(8192))
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        return self

    # parts

    def _encode_chunk(self, x: Tensor, weight: Tensor, norms: Tensor, first: int) -> SparseCodes:
        """x (b, D) normalised; weight (D, F); norms (F,)."""
        if encodes_in_bf16(self.config, self.W_enc.device):
            pre = (x.bfloat16() @ self._bf16_weight(weight)).float() + self.b_enc
        else:
            pre = x @ weight + self.b_enc
        if self.config.variant == "topk":
            selection = pre.relu() * norms
            value, latent = selection.topk(min(self.config.k, self.n_latents), dim=1)
            active = torch.zeros_like(selection, dtype=torch.bool).scatter_(1, latent, value > 0)
        elif self._by_threshold:
            # f |d| > theta with f = relu(pre), without a (b, F) product: compare with theta / |d|
            active = pre > (self.threshold / norms).clamp_min(0)
        else:
            active = pre > 0
        row, latent = active.nonzero(as_tuple=True)
        return SparseCodes(row + first, latent, pre[row, latent])

    def _bf16_weight(self, weight: Tensor) -> Tensor:
        """The encoder in bfloat16, made once for as long as the weights stay what they are."""
        key = (self.W_enc._version, self.W_enc.data_ptr())
        if getattr(self, "_bf16_key", None) != key:
            self._bf16_key, self._bf16 = key, weight.bfloat16()
        return self._bf16

    def _check_shape(self, x: Tensor) -> None:
        if x.ndim != 3 or x.shape[1:] != (2, self.width):
            raise CrosscoderError(
                f"activations must have shape (tokens, 2, {self.width}), not {tuple(x.shape)}: base and tuned"
                " of the models and layer this crosscoder was trained on"
            )
