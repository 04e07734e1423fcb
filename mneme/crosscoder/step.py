"""One training step: loss and gradients of a batch.

Two implementations stand behind `training_step`: `dense_step`, plain autograd over (B, F) tensors, and
`sparse_step`, gradients written out over the active pairs only. They give the same numbers (tests: 1e-5
relative in float32). The sparse one needs 4dF FLOP a token for the encoder, which can't be avoided, and 16dk
for all the rest; dense autograd does 20dF.

Letters: B tokens of this rank, d width, D = 2d, F latents, n active pairs, A dead latents.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mneme.crosscoder.codes import SparseCodes
from mneme.crosscoder.grid import ONE_RANK, Grid
from mneme.crosscoder.kernels import (
    affine,
    as_gathered,
    bag_totals,
    latent_order,
    residual_and_dots,
    sum_of_squares,
    weighted_bags,
)


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
        found: Tensor = self.dec.unflatten(1, (2, -1)).norm(dim=-1).sum(1)
        return found


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
    """Active latents per token."""
    smallest: float
    """Smallest selection value kept; 0 when none was."""
    squared_error: Tensor
    """(2,): squared error of each model, summed over width, mean over tokens."""


class Rule(NamedTuple):
    """How a step selects and what it weighs."""

    variant: str
    k: float
    auxk_alpha: float
    aux_k: int
    l1_weight: float
    hint: float
    bf16: bool


def training_step(
    weights: Weights,
    x: Tensor,
    rule: Rule,
    dead: Tensor,
    *,
    sparse: bool,
    grid: Grid = ONE_RANK,
) -> Step:
    """Loss and gradients of one batch. x (B, D) normalised; dead (F,) bool.

    With several ranks x is this rank's share, all shares of one size; what comes back is the whole batch's.
    """
    step = (sparse_step if sparse else dense_step)(weights, x, rule, dead, grid)
    return _over_ranks(step, grid)


def _over_ranks(step: Step, grid: Grid) -> Step:
    """Means over all ranks' tokens of what `step` has of this rank's."""
    if grid.n_ranks == 1:
        return step
    grads = Weights(*map(grid.mean, step.grads))
    l0 = grid.total(step.loss.new_tensor(step.l0))
    means = grid.mean(torch.stack([step.loss, step.aux_loss, l0, *step.squared_error]))
    return Step(means[0], means[1], grads, grid.fired(step.fired), float(means[2]), step.smallest, means[3:])


def select(pre: Tensor, norms: Tensor, rule: Rule, grid: Grid = ONE_RANK) -> tuple[SparseCodes, float]:
    """The active pairs of a training batch and the smallest value kept: pre (B, F), norms (F,)."""
    if rule.variant == "l1":
        row, latent = (pre > 0).nonzero(as_tuple=True)
        return SparseCodes(row, latent, pre[row, latent].float()), 0.0
    B, F = pre.shape
    if rule.variant == "topk":
        selection = pre * norms.to(pre.dtype)
        row, latent = grid.top_of_rows(selection, round(rule.k)).nonzero(as_tuple=True)
        least = float(selection[row, latent].min()) if len(row) else torch.inf
        least = grid.smallest(least, pre.device)
        smallest = least if least < torch.inf else 0.0
    else:
        flat, smallest = grid.largest_products(pre, norms, round(rule.k * B * grid.n_parts), rule.hint)
        row, latent = flat // F, flat % F
        return SparseCodes(row, latent, pre.reshape(-1)[flat].float()), smallest
    return SparseCodes(row, latent, pre[row, latent].float()), smallest


def encode_dense(x: Tensor, weights: Weights, rule: Rule) -> Tensor:
    """(B, D) -> pre-activations (B, F), in float32 or, where the rule says so, bfloat16."""
    if rule.bf16:
        return affine(x.bfloat16(), weights.enc.bfloat16(), weights.b_enc.bfloat16())
    return affine(x, weights.enc, weights.b_enc)


def dense_step(weights: Weights, x: Tensor, rule: Rule, dead: Tensor, grid: Grid) -> Step:
    """The plain implementation: autograd through (B, F) tensors. Clear, and five times the arithmetic."""
    leaves = Weights(*(part.detach().requires_grad_() for part in weights))
    with torch.enable_grad():
        pre = encode_dense(x, leaves, rule)
        codes, smallest = select(pre.detach(), weights.norms().detach(), rule, grid)
        one = torch.ones((), dtype=pre.dtype, device=pre.device)
        f = pre * torch.zeros_like(pre).index_put_((codes.row, codes.latent), one)
        x_hat = (f @ leaves.dec.to(f.dtype)).float()
        residual = x - (grid.joined(x_hat) + leaves.b_dec)
        loss = residual.square().sum(1).mean()
        if rule.variant == "l1":
            loss = loss + rule.l1_weight * grid.joined((f * leaves.norms()).sum(1).mean())
        aux = _aux_loss(leaves, x, residual.detach(), rule, dead, grid)
        (loss + rule.auxk_alpha * aux).backward()
    fired = torch.zeros_like(dead).index_fill_(0, codes.latent, True)
    grads = Weights(*(torch.zeros_like(p) if p.grad is None else p.grad for p in leaves))
    squared = residual.detach().square().unflatten(1, (2, -1)).sum(-1).mean(0)
    return Step(loss.detach(), aux.detach(), grads, fired, len(codes.row) / len(x), smallest, squared)


@torch.no_grad()
def sparse_step(weights: Weights, x: Tensor, rule: Rule, dead: Tensor, grid: Grid) -> Step:
    """The fast implementation: the same loss, its gradients over active pairs only."""
    B = len(x)
    pre = encode_dense(x, weights, rule)
    norms = weights.norms()
    codes, smallest = select(pre, norms, rule, grid)
    dec = as_gathered(weights.dec, rule.bf16)
    residual, dots = residual_and_dots(codes, x, dec, weights.b_dec, grid)
    squared = residual.square().unflatten(1, (2, -1)).sum(-1).mean(0)
    loss = squared.sum()

    to_x_hat = -2 / B  # dL/dx_hat = to_x_hat * residual
    grad_f = dots.mul_(to_x_hat)
    F = len(norms)
    order = latent_order(codes.latent, F)
    row, latent, value = (part[order] for part in codes)
    grad_dec = weighted_bags(row, latent, value * to_x_hat, as_gathered(residual, rule.bf16), F)
    if rule.variant == "l1":
        total = bag_totals(latent, value, F)
        loss = loss + rule.l1_weight * grid.total((total * norms).sum()) / B
        grad_f += rule.l1_weight / B * norms[codes.latent]
        directions = torch.nn.functional.normalize(weights.dec.unflatten(1, (2, -1)), dim=-1).flatten(1)
        grad_dec += directions * (rule.l1_weight / B * total)[:, None]
    grad_f = grad_f[order]
    grad_enc = weighted_bags(row, latent, grad_f, as_gathered(x, rule.bf16), F)
    grad_b_enc = bag_totals(latent, grad_f, F)
    grads = Weights(grad_enc, grad_b_enc, grad_dec, residual.sum(0).mul_(to_x_hat))

    aux = loss.new_zeros(())
    if rule.auxk_alpha > 0 and grid.any(dead.any()):
        aux = _add_aux_gradients(weights, x, residual, rule, dead, grads, grid)
    fired = torch.zeros_like(dead).index_fill_(0, codes.latent, True)
    return Step(loss, aux, grads, fired, len(codes.row) / B, smallest, squared)


def _aux_loss(weights: Weights, x: Tensor, residual: Tensor, rule: Rule, dead: Tensor, grid: Grid) -> Tensor:
    """AuxK (Gao et al. 2024, arXiv 2406.04093): the dead latents' best k_aux a token explain the residual."""
    if rule.auxk_alpha <= 0 or not grid.any(dead.any()):
        return x.new_zeros(())
    index = dead.nonzero().squeeze(1)
    enc, b_enc, dec = weights.enc[index], weights.b_enc[index], weights.dec[index]
    return aux_loss_on(enc, b_enc, dec, x, residual, rule, grid)


def aux_loss_on(
    enc: Tensor, b_enc: Tensor, dec: Tensor, x: Tensor, residual: Tensor, rule: Rule, grid: Grid
) -> Tensor:
    """enc, dec (A, D) and b_enc (A,) of the dead latents; x, residual (B, D).

    The mean of this over the ranks is the whole batch's error over the whole batch's variance.
    """
    norms = dec.detach().unflatten(1, (2, -1)).norm(dim=-1).sum(1)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=rule.bf16 and x.device.type != "cpu"):
        f = (x @ enc.T + b_enc).relu()
        f = f * grid.top_of_rows(f.detach() * norms, rule.aux_k)
        x_hat = (f @ dec).float()
    error = (residual - grid.joined(x_hat)).square().sum()
    variance = grid.mean((residual - grid.mean(residual.mean(0))).square().sum())
    return error / variance.clamp_min(torch.finfo(variance.dtype).tiny)


def _add_aux_gradients(
    weights: Weights, x: Tensor, residual: Tensor, rule: Rule, dead: Tensor, grads: Weights, grid: Grid
) -> Tensor:
    """The gradients of AuxK, on the dead latents' rows only."""
    index = dead.nonzero().squeeze(1)
    with torch.enable_grad():
        enc, b_enc, dec = (
            part[index].detach().requires_grad_() for part in (weights.enc, weights.b_enc, weights.dec)
        )
        aux = aux_loss_on(enc, b_enc, dec, x, residual, rule, grid)
        found = torch.autograd.grad(rule.auxk_alpha * aux, (enc, b_enc, dec))
    for total, part in zip((grads.enc, grads.b_enc, grads.dec), found, strict=True):
        total.index_add_(0, index, part)
    return aux.detach()


def global_norm(grads: Weights, grid: Grid = ONE_RANK) -> Tensor:
    """The l2 norm of all of them together."""
    enc, b_enc, dec, b_dec = map(sum_of_squares, grads)
    return (grid.total(enc + b_enc + dec) + b_dec).sqrt()
