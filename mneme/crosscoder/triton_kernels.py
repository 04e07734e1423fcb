"""The sparse kernels of `mneme.crosscoder.kernels` for GPUs, in Triton; imported only where a tensor is on one.

Neither makes an (n, D) tensor of what it gathers, and neither uses atomics: the same input gives the same bits.
Tested on the CPU by Triton's interpreter (TRITON_INTERPRET=1).

Letters: n active pairs, D columns, F or B rows of a table.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_COLUMNS = 512  # most that a program holds at once


def weighted_bags(index: Tensor, bag: Tensor, weight: Tensor, table: Tensor, n_bags: int) -> Tensor:
    """out[b] = sum over i with bag_i = b of weight_i table[index_i]; bag ascending. -> (n_bags, D).

    Sums are in float32 whatever the table's precision.
    """
    table = table.contiguous()
    D = table.shape[1]
    ends = torch.cumsum(torch.bincount(bag, minlength=n_bags), 0)
    out = torch.empty(n_bags, D, dtype=table.dtype, device=table.device)
    columns = _block(D)
    if n_bags:
        _weighted_bags[(n_bags, triton.cdiv(D, columns))](
            index.contiguous(), weight.contiguous(), ends, table, out, D, columns
        )
    return out


def pair_dots(left: Tensor, right: Tensor, row: Tensor, latent: Tensor) -> Tensor:
    """out[i] = left[row_i] . right[latent_i] for (B, D) and (F, D). -> (n,) float32."""
    left, right = left.contiguous(), right.contiguous()
    D = left.shape[1]
    out = torch.empty(len(row), dtype=torch.float32, device=left.device)
    if len(row):
        _pair_dots[(len(row),)](row.contiguous(), latent.contiguous(), left, right, out, D, _block(D))
    return out


def _block(D: int) -> int:
    return min(_COLUMNS, triton.next_power_of_2(D))


@triton.jit
def _weighted_bags(index, weight, ends, table, out, D, COLUMNS: tl.constexpr):
    """A program a bag and block of columns."""
    bag = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < D
    start = tl.load(ends + bag - 1, mask=bag > 0, other=0)
    stop = tl.load(ends + bag)
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for i in range(start, stop):
        source = table + tl.load(index + i) * D + columns
        total += tl.load(weight + i).to(tl.float32) * tl.load(source, mask=inside, other=0).to(tl.float32)
    tl.store(out + bag * D + columns, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _pair_dots(row, latent, left, right, out, D, COLUMNS: tl.constexpr):
    """A program a pair."""
    pair = tl.program_id(0).to(tl.int64)
    a, b = left + tl.load(row + pair) * D, right + tl.load(latent + pair) * D
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for start in range(0, D, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = columns < D
        x = tl.load(a + columns, mask=inside, other=0).to(tl.float32)
        total += x * tl.load(b + columns, mask=inside, other=0).to(tl.float32)
    tl.store(out + pair, tl.sum(total, axis=0))
