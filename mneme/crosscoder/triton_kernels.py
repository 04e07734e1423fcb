"""The kernels of `mneme.crosscoder.kernels` for GPUs, in Triton; imported only where a tensor is on one.

None makes an (n, D) tensor of what it gathers, and none uses atomics: the same input gives the same bits. Rows are
gathered some columns at a time, by all programs in step: a slice of the table that all of them read then stays in the
GPU's cache, where a whole row of each active pair would come from memory every time.

Tested on the CPU by Triton's interpreter (TRITON_INTERPRET=1), and on a GPU with TRITON_INTERPRET=0.

Letters: n active pairs, B tokens, F latents, D columns.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_SLICE_BYTES = 256  # of a row, that are gathered together
_BAG_PAIRS, _DOT_PAIRS = 8, 32  # that a program gathers together
_SLICES = 8  # of products that lie side by side before they are added up
_RUN = 256  # entries that hold few hits or none
_COUNTED, _PLACED = 16, 8  # such runs that a program counts in, and writes positions of


def scan(pre: Tensor, cut: Tensor) -> Tensor:
    """Ascending flat positions of all entries over their column's cut: pre (B, F), cut (F,), of one type.

    Hits are rare: they are counted in runs of 256 entries, and only where there are some is the run read again.
    """
    pre, cut = pre.contiguous(), cut.contiguous()
    B, F = pre.shape
    runs = triton.cdiv(F, _RUN)
    blocks = triton.cdiv(runs, _COUNTED)
    counts = torch.empty(B * runs, dtype=torch.int32, device=pre.device)
    _count[(B * blocks,)](pre, cut, counts, F, runs, blocks, _COUNTED, _RUN)
    hit = counts.nonzero().squeeze(1)
    ends = torch.cumsum(counts[hit], 0)
    positions = torch.empty(int(ends[-1]) if len(ends) else 0, dtype=torch.int64, device=pre.device)
    if len(ends):
        programs = triton.cdiv(len(hit), _PLACED)
        _place[(programs,)](pre, cut, hit, ends, positions, F, runs, len(hit), _PLACED, _RUN)
    return positions


def weighted_bags(index: Tensor, bag: Tensor, weight: Tensor, table: Tensor, n_bags: int) -> Tensor:
    """out[b] = sum over i with bag_i = b of weight_i table[index_i]; bag ascending. -> (n_bags, D) float32.

    Sums are in float32 whatever the table's precision.
    """
    table = table.contiguous()
    D = table.shape[1]
    out = torch.empty(n_bags, D, dtype=torch.float32, device=table.device)
    columns = _columns(table)
    if n_bags:  # neighbouring programs take the same columns of different bags
        grid, size = (n_bags, triton.cdiv(D, columns)), (D, columns, _BAG_PAIRS)
        index, weight = index.contiguous(), weight.contiguous()
        _weighted_bags[grid](index, weight, _ends(bag, n_bags), table, out, *size, num_warps=1)
    return out


def pair_dots(left: Tensor, right: Tensor, row: Tensor, latent: Tensor) -> Tensor:
    """out[i] = left[row_i] . right[latent_i] for (B, D) and (F, D); row ascending. -> (n,) float32."""
    left, right = left.contiguous(), right.contiguous()
    D = left.shape[1]
    columns = _columns(right)
    out = torch.zeros(len(row), dtype=torch.float32, device=left.device)
    parts = torch.empty(_SLICES, len(row), dtype=torch.float32, device=left.device)
    ends, latent = _ends(row, len(left)), latent.contiguous()
    for first in range(0, D if len(row) else 0, _SLICES * columns):
        grid = (len(left), min(_SLICES, triton.cdiv(D - first, columns)))
        size = (len(row), first, D, columns, _DOT_PAIRS)
        _pair_dots[grid](ends, latent, left, right, parts, *size, num_warps=1)
        out += parts[: grid[1]].sum(0)
    return out


def _ends(bag: Tensor, n_bags: int) -> Tensor:
    """(n_bags,): where the entries of each bag end; bag ascending."""
    return torch.searchsorted(bag.contiguous(), torch.arange(n_bags, device=bag.device), right=True)


def _columns(table: Tensor) -> int:
    """How many columns are gathered at a time: a power of 2."""
    found: int = min(_SLICE_BYTES // table.element_size(), triton.next_power_of_2(table.shape[1]))
    return found


@triton.jit
def _count(pre, cut, counts, F, runs, blocks, RUNS: tl.constexpr, RUN: tl.constexpr):
    """A program some runs of a row."""
    row, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    columns = block * RUNS * RUN + tl.arange(0, RUNS * RUN)
    inside = columns < F
    value = tl.load(pre + row.to(tl.int64) * F + columns, mask=inside, other=0).to(tl.float32)
    over = (value > tl.load(cut + columns, mask=inside, other=0).to(tl.float32)) & inside
    run = block * RUNS + tl.arange(0, RUNS)
    found = tl.sum(tl.reshape(over.to(tl.int32), (RUNS, RUN)), axis=1)
    tl.store(counts + row.to(tl.int64) * runs + run, found, mask=run < runs)


@triton.jit
def _place(pre, cut, hit, ends, positions, F, runs, n, RUNS: tl.constexpr, RUN: tl.constexpr):
    """A program some of the n runs in which something was counted."""
    number = tl.program_id(0).to(tl.int64) * RUNS + tl.arange(0, RUNS)
    run = tl.load(hit + number, mask=number < n, other=0)
    start = tl.load(ends + number - 1, mask=(number > 0) & (number < n), other=0)
    columns = (run % runs * RUN)[:, None] + tl.arange(0, RUN)[None, :]
    inside = (columns < F) & (number < n)[:, None]
    at = (run // runs * F)[:, None] + columns
    value = tl.load(pre + at, mask=inside, other=0).to(tl.float32)
    over = (value > tl.load(cut + columns, mask=inside, other=0).to(tl.float32)) & inside
    place = start[:, None] + tl.cumsum(over.to(tl.int32), axis=1) - 1
    tl.store(positions + place, at, mask=over)


@triton.jit
def _weighted_bags(index, weight, ends, table, out, D, COLUMNS: tl.constexpr, PAIRS: tl.constexpr):
    """A program a bag and slice of columns."""
    bag = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < D
    start = tl.load(ends + bag - 1, mask=bag > 0, other=0)
    stop = tl.load(ends + bag)
    total = tl.zeros((PAIRS, COLUMNS), dtype=tl.float32)
    for i in range(start, stop, PAIRS):
        pair = i + tl.arange(0, PAIRS)
        live = pair < stop
        source = tl.load(index + pair, mask=live, other=0).to(tl.int64) * D
        factor = tl.load(weight + pair, mask=live, other=0).to(tl.float32)
        rows = tl.load(
            table + source[:, None] + columns[None, :], mask=live[:, None] & inside[None, :], other=0
        )
        total += factor[:, None] * rows.to(tl.float32)
    tl.store(out + bag * D + columns, tl.sum(total, axis=0), mask=inside)


@triton.jit
def _pair_dots(ends, latent, left, right, parts, n, first, D, COLUMNS: tl.constexpr, PAIRS: tl.constexpr):
    """A program a token and slice of columns: what these columns add to the products of its pairs."""
    token = tl.program_id(0).to(tl.int64)
    columns = first + tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < D
    start = tl.load(ends + token - 1, mask=token > 0, other=0)
    stop = tl.load(ends + token)
    x = tl.load(left + token * D + columns, mask=inside, other=0).to(tl.float32)
    out = parts + tl.program_id(1).to(tl.int64) * n
    for i in range(start, stop, PAIRS):
        pair = i + tl.arange(0, PAIRS)
        live = pair < stop
        source = tl.load(latent + pair, mask=live, other=0).to(tl.int64) * D
        rows = tl.load(
            right + source[:, None] + columns[None, :], mask=live[:, None] & inside[None, :], other=0
        )
        tl.store(out + pair, tl.sum(rows.to(tl.float32) * x[None, :], axis=1), mask=live)
