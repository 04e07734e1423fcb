"""The arithmetic that training and encoding spend their time in.

One training step has two implementations behind `training_step`: `dense_step`, plain autograd over (B, F)
tensors, and `sparse_step`, gradients written out over the active pairs only. They give the same numbers
(tests: 1e-5 relative in float32). The sparse one needs 4dF FLOP a token for the encoder, which can't be
avoided, and 16dk for all the rest; dense autograd does 20dF.

Letters: B tokens, d width, D = 2d (both models side by side), F latents, n active pairs, A dead latents.
Parameters are kept latent-major, (F, D), so that what a latent needs lies together.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from mneme.crosscoder.codes import SparseCodes


@cache
def bf16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def sparse_decode(codes: SparseCodes, decoder: Tensor, n_tokens: int) -> Tensor:
    """sum_j f_j d_j: codes of n_tokens tokens, decoder (F, D) -> (n_tokens, D)."""
    return weighted_bags(codes.latent, codes.row, codes.value, decoder, n_tokens)


def weighted_bags(index: Tensor, bag: Tensor, weight: Tensor, table: Tensor, n_bags: int) -> Tensor:
    """out[b] = sum over i with bag_i = b of weight_i table[index_i]; bag ascending. -> (n_bags, D)."""
    offsets = torch.zeros(n_bags + 1, dtype=torch.int64, device=table.device)
    torch.cumsum(torch.bincount(bag, minlength=n_bags), 0, out=offsets[1:])
    return torch.nn.functional.embedding_bag(
        index, table, offsets, mode="sum", per_sample_weights=weight.to(table.dtype), include_last_offset=True
    )


def pair_dots(left: Tensor, right: Tensor, row: Tensor, latent: Tensor) -> Tensor:
    """out[i] = left[row_i] . right[latent_i] for (B, D) and (F, D), without an (n, D) tensor. -> (n,).

    `row` ascending. It is the gradient of an embedding bag to its per-sample weights: torch has that fused.
    """
    if left.device.type == "cpu":
        offsets = torch.zeros(len(left) + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(row, minlength=len(left)), 0, out=offsets[1:])
        return torch.ops.aten._embedding_bag_per_sample_weights_backward(
            left, right, latent, offsets[:-1], row, 0, -1
        )
    step = max(1, 2**26 // left.shape[1])
    parts = [(left[row[i : i + step]] * right[latent[i : i + step]]).sum(1) for i in range(0, len(row), step)]
    return torch.cat(parts) if parts else left.new_zeros(0)


def largest(values: Tensor, n: int, hint: float) -> tuple[Tensor, float]:
    """The n largest positive entries of a tensor, exactly.

    `hint`: a value just below the n-th largest, if guessed right: only what lies above it is sorted. Returns
    ascending flat indices (fewer than n where fewer are positive) and the smallest value kept (0: none kept).
    """
    flat = values.reshape(-1)
    survivors = (flat > max(hint, 0.0)).nonzero().squeeze(1)
    if len(survivors) < n and hint > 0:
        survivors = (flat > 0).nonzero().squeeze(1)
    found = flat[survivors]
    if len(survivors) > n:
        kept = torch.zeros_like(survivors, dtype=torch.bool)
        kept[found.topk(n, sorted=False).indices] = True
        survivors, found = survivors[kept], found[kept]
    smallest = float(found.min()) if len(found) else 0.0
    return survivors, smallest


def latent_order(latent: Tensor, n_latents: int) -> Tensor:
    """(n,) latents of pairs -> the permutation that sorts them, equal ones kept in order."""
    if latent.device.type != "cpu":
        return torch.argsort(latent, stable=True)
    # On CPU a counting sort, which is what transposing a sparse matrix of one column is, beats torch's sort.
    n = len(latent)
    pointers, columns = np.arange(n + 1, dtype=np.int32), latent.numpy().astype(np.int32)
    rows = scipy.sparse.csr_matrix((columns, columns, pointers), shape=(n, n_latents))
    return torch.from_numpy(rows.tocsc().indices.astype(np.int64))


class Weights(NamedTuple):
    """What is trained, latent-major."""

    enc: Tensor
    """(F, D)."""
    b_enc: Tensor
    """(F,)."""
    dec: Tensor
    """(F, D): base's d columns, then tuned's."""
    b_dec: Tensor
    """(D,)."""

    def norms(self) -> Tensor:
        """(F,): |d_j^b| + |d_j^t|."""
        return self.dec.unflatten(1, (2, -1)).norm(dim=-1).sum(1)


class Step(NamedTuple):
    """What one step computes."""

    loss: Tensor
    """Squared error summed over models and width, mean over tokens (plus the l1 penalty)."""
    aux_loss: Tensor
    """AuxK: the dead latents' squared error on the residual over its variance."""
    grads: Weights
    fired: Tensor
    """(F,) bool."""
    l0: float
    """Active latents a token."""
    smallest: float
    """Smallest selection value kept; 0 when none was."""
    squared_error: Tensor
    """(2,): squared error of each model, summed over width, mean over tokens."""


class Rule(NamedTuple):
    """How a step selects and what it weighs."""

    variant: str
    k: float
    aux_alpha: float
    aux_k: int
    l1_weight: float
    hint: float
    bf16: bool


def training_step(
    weights: Weights, x: Tensor, rule: Rule, dead: Tensor, *, sparse: bool, bf16_enc: Tensor | None = None
) -> Step:
    """Loss and gradients of one batch. x (B, D) normalised; dead (F,) bool; bf16_enc: enc in bfloat16."""
    step = sparse_step if sparse else dense_step
    return step(weights, x, rule, dead, bf16_enc)


def select(pre: Tensor, norms: Tensor, rule: Rule) -> tuple[SparseCodes, float]:
    """The active pairs of a training batch: pre (B, F), norms (F,)."""
    if rule.variant == "l1":
        row, latent = (pre > 0).nonzero(as_tuple=True)
        return SparseCodes(row, latent, pre[row, latent].float()), 0.0
    selection = pre * norms.to(pre.dtype)
    B, F = pre.shape
    if rule.variant == "topk":
        value, latent = selection.topk(min(round(rule.k), F), dim=1)
        keep = torch.zeros_like(selection, dtype=torch.bool).scatter_(1, latent, value > 0)
        row, latent = keep.nonzero(as_tuple=True)
        smallest = float(selection[row, latent].min()) if len(row) else 0.0
    else:
        flat, smallest = largest(selection, round(rule.k * B), rule.hint)
        row, latent = flat // F, flat % F
    return SparseCodes(row, latent, pre[row, latent].float()), smallest


def encode_dense(x: Tensor, weights: Weights, rule: Rule, bf16_enc: Tensor | None = None) -> Tensor:
    """(B, D) -> pre-activations (B, F), in float32 or, where the rule says so, bfloat16."""
    if rule.bf16:
        enc = weights.enc.bfloat16() if bf16_enc is None else bf16_enc
        return torch.addmm(weights.b_enc.bfloat16(), x.bfloat16(), enc.T)
    return torch.addmm(weights.b_enc, x, weights.enc.T)


def dense_step(weights: Weights, x: Tensor, rule: Rule, dead: Tensor, bf16_enc: Tensor | None = None) -> Step:
    """The plain implementation: autograd through (B, F) tensors. Clear, and five times the arithmetic."""
    leaves = Weights(*(part.detach().requires_grad_() for part in weights))
    with torch.enable_grad():
        pre = encode_dense(x, leaves, rule)
        codes, smallest = select(pre.detach(), weights.norms(), rule)
        mask = torch.zeros_like(pre).index_put_((codes.row, codes.latent), torch.ones((), dtype=pre.dtype))
        f = (pre * mask).float()
        residual = x - (f @ leaves.dec + leaves.b_dec)
        loss = residual.square().sum(1).mean()
        if rule.variant == "l1":
            loss = loss + rule.l1_weight * (f * leaves.norms()).sum(1).mean()
        aux = _aux_loss(leaves, x, residual.detach(), rule, dead)
        (loss + rule.aux_alpha * aux).backward()
    fired = torch.zeros_like(dead).index_fill_(0, codes.latent, True)
    grads = Weights(*(torch.zeros_like(p) if p.grad is None else p.grad for p in leaves))
    squared = residual.detach().square().unflatten(1, (2, -1)).sum(-1).mean(0)
    return Step(loss.detach(), aux.detach(), grads, fired, len(codes.row) / len(x), smallest, squared)


@torch.no_grad()
def sparse_step(
    weights: Weights, x: Tensor, rule: Rule, dead: Tensor, bf16_enc: Tensor | None = None
) -> Step:
    """The fast implementation: the same loss, its gradients over active pairs only."""
    B = len(x)
    pre = encode_dense(x, weights, rule, bf16_enc)
    norms = weights.norms()
    codes, smallest = select(pre, norms, rule)
    residual = x - (sparse_decode(codes, weights.dec, B) + weights.b_dec)
    loss = residual.square().sum(1).mean()

    grad_out = residual.mul(-2 / B)  # dL/dx_hat
    order = latent_order(codes.latent, len(weights.dec))
    row, latent, value = (part[order] for part in codes)
    F = len(weights.dec)
    grad_dec = weighted_bags(row, latent, value, grad_out, F)
    grad_f = pair_dots(grad_out, weights.dec, codes.row, codes.latent)
    if rule.variant == "l1":
        total = torch.zeros_like(norms).index_add_(0, codes.latent, codes.value)
        loss = loss + rule.l1_weight * (total * norms).sum() / B
        grad_f += rule.l1_weight / B * norms[codes.latent]
        directions = torch.nn.functional.normalize(weights.dec.unflatten(1, (2, -1)), dim=-1).flatten(1)
        grad_dec += directions * (rule.l1_weight / B * total)[:, None]
    grad_enc = weighted_bags(row, latent, grad_f[order], x, F)
    grad_b_enc = torch.zeros_like(norms).index_add_(0, codes.latent, grad_f)
    grads = Weights(grad_enc, grad_b_enc, grad_dec, grad_out.sum(0))

    aux = loss.new_zeros(())
    if bool(dead.any()) and rule.aux_alpha > 0:
        aux = _add_aux_gradients(weights, x, residual, rule, dead, grads)
    fired = torch.zeros_like(dead).index_fill_(0, codes.latent, True)
    squared = residual.square().unflatten(1, (2, -1)).sum(-1).mean(0)
    return Step(loss, aux, grads, fired, len(codes.row) / B, smallest, squared)


def _aux_loss(weights: Weights, x: Tensor, residual: Tensor, rule: Rule, dead: Tensor) -> Tensor:
    """AuxK (Gao et al. 2024, arXiv 2406.04093): the dead latents' best k_aux a token explain the residual."""
    index = dead.nonzero().squeeze(1)
    if not len(index) or rule.aux_alpha <= 0:
        return x.new_zeros(())
    enc, b_enc, dec = weights.enc[index], weights.b_enc[index], weights.dec[index]
    return aux_loss_on(enc, b_enc, dec, x, residual, rule)


def aux_loss_on(enc: Tensor, b_enc: Tensor, dec: Tensor, x: Tensor, residual: Tensor, rule: Rule) -> Tensor:
    """enc, dec (A, D) and b_enc (A,) of the dead latents; x, residual (B, D)."""
    f = (x @ enc.T + b_enc).relu()
    if rule.aux_k < f.shape[1]:
        norms = dec.detach().unflatten(1, (2, -1)).norm(dim=-1).sum(1)
        kept = (f.detach() * norms).topk(rule.aux_k, dim=1, sorted=False).indices
        f = f * torch.zeros_like(f).scatter_(1, kept, 1.0)
    error = (residual - f @ dec).square().sum()
    variance = (residual - residual.mean(0)).square().sum()
    return error / variance.clamp_min(torch.finfo(variance.dtype).tiny)


def _add_aux_gradients(
    weights: Weights, x: Tensor, residual: Tensor, rule: Rule, dead: Tensor, grads: Weights
) -> Tensor:
    """The gradients of AuxK, on the dead latents' rows only."""
    index = dead.nonzero().squeeze(1)
    with torch.enable_grad():
        enc, b_enc, dec = (
            part[index].detach().requires_grad_() for part in (weights.enc, weights.b_enc, weights.dec)
        )
        aux = aux_loss_on(enc, b_enc, dec, x, residual, rule)
        found = torch.autograd.grad(rule.aux_alpha * aux, (enc, b_enc, dec))
    for total, part in zip((grads.enc, grads.b_enc, grads.dec), found, strict=True):
        total.index_add_(0, index, part)
    return aux.detach()


def global_norm(parts: Iterable[Tensor]) -> Tensor:
    """The l2 norm of all of them together."""
    return torch.stack([part.norm() for part in parts]).norm()
