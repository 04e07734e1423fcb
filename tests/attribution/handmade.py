"""A crosscoder made by hand: the members the attribution room uses, small enough to check by eye."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Codes(NamedTuple):
    row: Tensor
    latent: Tensor
    value: Tensor


class HandMade:
    """f = relu(sum_m x_m W^m + b), kept where f * (sum of decoder norms) > threshold; float64."""

    def __init__(self, encoder: Tensor, decoder: Tensor, bias: Tensor, threshold: float = 0.0) -> None:
        self.encoder, self.decoder, self.bias, self.threshold = encoder, decoder, bias, threshold
        self.scale = torch.ones(2)

    def raw_decoder(self) -> Tensor:
        return self.decoder

    def raw_bias(self) -> Tensor:
        return self.bias

    def encode(self, x: Tensor) -> Tensor:
        f = torch.relu(torch.einsum("bmd,mdf->bf", (x - self.bias).to(self.encoder), self.encoder))
        return f * (f * self.decoder.norm(dim=2).sum(0) > self.threshold)

    def encode_sparse(self, x: Tensor) -> Codes:
        f = self.encode(x)
        row, latent = f.nonzero(as_tuple=True)
        return Codes(row, latent, f[row, latent])

    def normalise(self, x: Tensor) -> Tensor:
        return x - self.bias

    def decode_sparse(self, codes: Codes, n: int) -> Tensor:
        f = torch.zeros(n, self.decoder.shape[1], dtype=self.decoder.dtype)
        f[codes.row, codes.latent] = codes.value.to(f)
        return torch.einsum("bf,mfd->bmd", f, self.decoder) + self.bias

    def __call__(self, x: Tensor) -> Tensor:
        return self.decode_sparse(self.encode_sparse(x), len(x))
