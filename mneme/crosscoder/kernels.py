"""The arithmetic that training and encoding spend their time in, over active pairs only.

Letters: B tokens, d width, D = 2d (both models side by side), F latents, n active pairs.
Parameters are kept latent-major, (F, D), so that what a latent needs lies together.
"""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mneme._util.grouping import group_entries
from mneme.crosscoder import fused_step as fused
from mneme.crosscoder.codes import SparseCodes
from mneme.crosscoder.config import CrosscoderConfig
from mneme.models.device import bf16_is_fast, cpu_multiplies_bf16

_AT_ONCE = 2**30
_SAMPLE = 64  # tokens that tell what the first selection will keep


@cache
def triton_kernels(device: torch.device) -> ModuleType | None:
    """`mneme.crosscoder.triton_kernels` for a GPU where Triton is installed (torch's CUDA builds bring it)."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("mneme.crosscoder.triton_kernels")


def runs_fused(x: Tensor) -> bool:
    """Whether the compiled loops for processors (fused_step.py) take such a tensor."""
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and triton_kernels(x.device) is None
    )


@cache
def _is_intel() -> bool:
    """Whether the processor is one that MKL is made for."""
    return "intel" in str(torch.cpu.get_capabilities().get("cpu_name", "")).lower()


def encodes_in_bf16(config: CrosscoderConfig, device: torch.device) -> bool:
    """Whether the encoder's product is in bfloat16 there."""
    wanted = config.encoder_dtype
    return wanted == "bfloat16" or (wanted == "auto" and bf16_is_fast(device))


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x weight^T + bias: (B, D), (F, D), (F,) of one type -> (B, F).

    On processors, where no gradient is asked for, by oneDNN if torch has it: the bias is added in the product (addmm
    copies it to all rows first). Not in float32 on Intel's: addmm's product there, MKL's, is a tenth faster.
    """
    in_float32 = x.dtype == torch.float32 and not _is_intel()
    in_bf16 = x.dtype == torch.bfloat16 and cpu_multiplies_bf16()
    asks = torch.is_grad_enabled() and weight.requires_grad
    takes = x.device.type == "cpu" and (in_float32 or in_bf16) and not asks
    if takes and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return found
    return torch.addmm(bias, x, weight.T)


def as_gathered(table: Tensor, bf16: bool) -> Tensor:
    """A table as a step gathers its rows: on GPUs in bfloat16 where the encoder's product is (half the bytes)."""
    return table.bfloat16() if bf16 and triton_kernels(table.device) is not None else table


def sparse_decode(codes: SparseCodes, decoder: Tensor, n_tokens: int) -> Tensor:
    """sum_j f_j d_j: codes of n_tokens tokens, decoder (F, D) -> (n_tokens, D)."""
    return weighted_bags(codes.latent, codes.row, codes.value, decoder, n_tokens)


def weighted_bags(index: Tensor, bag: Tensor, weight: Tensor, table: Tensor, n_bags: int) -> Tensor:
    """out[b] = sum over i with bag_i = b of weight_i table[index_i]; bag ascending. -> (n_bags, D)."""
    if (gpu := triton_kernels(table.device)) is not None:
        found: Tensor = gpu.weighted_bags(index, bag, weight, table, n_bags)
        return found
    if table.dtype == torch.float32 and runs_fused(table):
        return fused.weighted_bags(_pointers(bag, n_bags), index, weight, table)
    offsets = torch.zeros(n_bags + 1, dtype=torch.int64, device=table.device)
    torch.cumsum(torch.bincount(bag, minlength=n_bags), 0, out=offsets[1:])
    return torch.nn.functional.embedding_bag(
        index, table, offsets, mode="sum", per_sample_weights=weight.to(table.dtype), include_last_offset=True
    )


def bag_totals(bag: Tensor, value: Tensor, n_bags: int) -> Tensor:
    """out[b] = sum over i with bag_i = b of value_i; bag ascending. -> (n_bags,), on a GPU without atomics too."""
    if (gpu := triton_kernels(value.device)) is not None:
        found: Tensor = gpu.weighted_bags(
            torch.zeros_like(bag), bag, value, value.new_ones(1, 1), n_bags
        ).squeeze(1)
        return found
    return value.new_zeros(n_bags).index_add_(0, bag, value)


def pair_dots(left: Tensor, right: Tensor, row: Tensor, latent: Tensor) -> Tensor:
    """out[i] = left[row_i] . right[latent_i] for (B, D) and (F, D), without an (n, D) tensor. -> (n,).

    `row` ascending. On CPU it is the gradient of an embedding bag to its per-sample weights: torch has that fused.
    """
    found: Tensor
    if (gpu := triton_kernels(left.device)) is not None:
        found = gpu.pair_dots(left, right, row, latent)
        return found
    if left.device.type == "cpu":
        offsets = torch.zeros(len(left) + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(row, minlength=len(left)), 0, out=offsets[1:])
        found = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left, right, latent, offsets[:-1], row, 0, -1
        )
        return found
    step = max(1, 2**26 // left.shape[1])
    parts = [(left[row[i : i + step]] * right[latent[i : i + step]]).sum(1) for i in range(0, len(row), step)]
    return torch.cat(parts) if parts else left.new_zeros(0)


def residual_and_dots(
    codes: SparseCodes, x: Tensor, dec: Tensor, b_dec: Tensor, grid: Any = None
) -> tuple[Tensor, Tensor]:
    """x - x_hat (B, D), and its dot product (n,) with the decoder of each active pair. dec: (F, D), b_dec: (D,).

    `grid`: of the ranks that have other latents; x_hat is the sum over them.
    """
    if runs_fused(x) and (grid is None or grid.shards == 1):
        return fused.decode(_pointers(codes.row, len(x)), codes.latent, codes.value, x, dec, b_dec)
    x_hat = sparse_decode(codes, dec, len(x))
    residual = x - ((x_hat if grid is None else grid.total(x_hat)) + b_dec)
    return residual, pair_dots(residual, dec, codes.row, codes.latent)


def latent_order(latent: Tensor, n_latents: int) -> Tensor:
    """(n,) latents of pairs -> the permutation that sorts them, equal ones kept in order."""
    if latent.device.type != "cpu":
        return torch.argsort(latent.to(torch.int32), stable=True)
    return torch.from_numpy(group_entries(latent.numpy(), n_latents)[0])


def _pointers(row: Tensor, n: int) -> np.ndarray:
    """(n + 1,): where the pairs of each row begin; `row` ascending."""
    return np.concatenate([[0], np.cumsum(np.bincount(row.numpy(), minlength=n))])


def sum_of_squares(x: Tensor) -> Tensor:
    """Of all entries, as dot products: twice as fast on a processor as a norm. One takes fewer than 2^31 entries."""
    return torch.stack([part.dot(part) for part in x.flatten().split(_AT_ONCE)]).sum()


def positions_above(flat: Tensor, bound: float) -> Tensor:
    """Ascending positions of the entries over a bound; a GPU's nonzero takes fewer than 2^31 at once."""
    parts = [
        (part > bound).nonzero().squeeze(1) + i * _AT_ONCE for i, part in enumerate(flat.split(_AT_ONCE))
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def largest(values: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
    """The n largest positive entries of a tensor, exactly.

    `hint`: a value just below the n-th largest, if guessed right: only what lies above it is sorted. Returns
    ascending flat indices (fewer than n where fewer are positive) and the smallest value kept (0: none kept).
    """
    flat = values.reshape(-1)
    survivors = positions_above(flat, max(hint, 0.0))
    if len(survivors) < n and hint > 0:
        survivors = positions_above(flat, 0.0)
    return _largest_of(survivors, flat[survivors], n)


def largest_products(pre: Tensor, norms: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
    """`largest` of pre (B, F) times norms (F,), in the precision of pre.

    Where the hint is none, or too high, one is made: sorting all that is positive is the last resort.
    """
    norms = norms.to(pre.dtype)
    if runs_fused(pre) or triton_kernels(pre.device) is not None:
        if hint > 0 and (found := _search(pre, norms, n, hint)) is not None:
            return found
        hint = guess_hint(pre, norms, n)
        if hint > 0 and (found := _search(pre, norms, n, hint)) is not None:
            return found
    return largest(pre * norms, n, hint)


def _search(pre: Tensor, norms: Tensor, n: int, hint: float) -> tuple[Tensor, float] | None:
    """`largest` of the products, if n of them are over the hint."""
    # a cut a little low forgives the product's rounding
    cut = (hint * (1 - 2**-6) / norms.float().clamp_min(torch.finfo(torch.float32).tiny)).to(pre.dtype)
    gpu = triton_kernels(pre.device)
    survivors = fused.scan(pre, cut, 2 * n) if gpu is None else gpu.scan(pre, cut)
    if len(survivors) < n:
        return None
    found = pre.view(-1)[survivors] * norms[survivors % len(norms)]
    kept, smallest = _largest_of(survivors, found, n)
    # over the hint: then all that is over it is among the survivors
    return (kept, smallest) if smallest > hint else None


def guess_hint(pre: Tensor, norms: Tensor, n: int) -> float:
    """A value that about twice n of the products exceed, by a sample of the tokens; 0 where too few are positive.

    For a training's first step: half of all entries are positive, and would be sorted.
    """
    sample = (pre[:: max(1, len(pre) // _SAMPLE)] * norms).flatten()
    wanted = 2 * n * len(sample) // max(1, pre.numel())
    if not 0 < wanted < len(sample):
        return 0.0
    return max(0.0, float(sample.topk(wanted, sorted=False).values.min()))


def _largest_of(survivors: Tensor, found: Tensor, n: int) -> tuple[Tensor, float]:
    """`largest` of entries whose flat positions, ascending, and values are given; the first of equal ones."""
    if len(survivors) > n and found.device.type == "cpu":
        # Positive floats compare like their bits, and numpy's partition of integers is several times torch's topk.
        bits = found.float().view(torch.int32).numpy()
        least = np.partition(bits, len(bits) - n)[len(bits) - n]
        kept = bits > least
        kept[np.flatnonzero(bits == least)[: n - np.count_nonzero(kept)]] = True
        chosen = torch.from_numpy(np.flatnonzero(kept))
        survivors, found = survivors[chosen], found[chosen]
    elif len(survivors) > n:
        least = found.sort().values[-n]
        kept = found > least
        equal = (found == least).nonzero().squeeze(1)
        kept[equal[: n - int(kept.sum())]] = True
        survivors, found = survivors[kept], found[kept]
    return survivors, float(found.min()) if len(found) else 0.0
