"""The crosscoder's training step restated with plain float64 loops: what both kernels are checked against."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np


class Plain(NamedTuple):
    """Parameters as float64 arrays: enc (F, D), b_enc (F,), dec (F, D), b_dec (D,), with D = 2 d."""

    enc: np.ndarray
    b_enc: np.ndarray
    dec: np.ndarray
    b_dec: np.ndarray


def selection_values(p: Plain, x: np.ndarray) -> np.ndarray:
    """s[i, j] = relu(x_i . enc_j + b_j) (|dec_j base| + |dec_j tuned|). -> (B, F)."""
    d = p.dec.shape[1] // 2
    s = np.zeros((len(x), len(p.enc)))
    for i, j in itertools.product(range(len(x)), range(len(p.enc))):
        f = max(0.0, sum(x[i, c] * p.enc[j, c] for c in range(2 * d)) + p.b_enc[j])
        s[i, j] = f * (math.sqrt(sum(p.dec[j, :d] ** 2)) + math.sqrt(sum(p.dec[j, d:] ** 2)))
    return s


def batchtopk_pairs(p: Plain, x: np.ndarray, k: int) -> set[tuple[int, int]]:
    """The k B largest positive selection values of the batch."""
    s = selection_values(p, x)
    pairs = sorted(itertools.product(*map(range, s.shape)), key=lambda pair: -s[pair])[: k * len(x)]
    return {pair for pair in pairs if s[pair] > 0}


def topk_pairs(p: Plain, x: np.ndarray, k: int) -> set[tuple[int, int]]:
    """The k largest positive selection values of each token."""
    s = selection_values(p, x)
    return {(i, int(j)) for i in range(len(x)) for j in np.argsort(-s[i])[:k] if s[i, j] > 0}


def l1_pairs(p: Plain, x: np.ndarray) -> set[tuple[int, int]]:
    """All that fire."""
    return {(int(i), int(j)) for i, j in np.argwhere(selection_values(p, x) > 0)}


def dead_pairs(p: Plain, x: np.ndarray, dead: list[int], aux_k: int) -> set[tuple[int, int]]:
    """For AuxK: of each token, the aux_k dead latents with the largest selection values."""
    s = selection_values(p, x)
    kept = [sorted(dead, key=lambda j: -s[i, j])[:aux_k] for i in range(len(x))]
    return {(i, j) for i, latents in enumerate(kept) for j in latents if s[i, j] > 0}


def reconstruct(p: Plain, x: np.ndarray, pairs: set[tuple[int, int]], bias: bool = True) -> np.ndarray:
    """sum over the pairs of f_ij dec_j (+ b_dec). -> (B, D)."""
    out = np.tile(p.b_dec if bias else np.zeros_like(p.b_dec), (len(x), 1))
    for i, j in pairs:
        out[i] += (x[i] @ p.enc[j] + p.b_enc[j]) * p.dec[j]
    return out


def squared_loss(p: Plain, x: np.ndarray, pairs: set[tuple[int, int]]) -> float:
    """Squared error summed over models and width, mean over tokens."""
    return float(sum(np.sum(row**2) for row in x - reconstruct(p, x, pairs)) / len(x))


def l1_penalty(p: Plain, x: np.ndarray, pairs: set[tuple[int, int]]) -> float:
    """sum_j f_j (|d_j^b| + |d_j^t|), mean over tokens."""
    s = selection_values(p, x)
    return sum(s[pair] for pair in pairs) / len(x)


def aux_loss(p: Plain, x: np.ndarray, pairs: set[tuple[int, int]], residual: np.ndarray) -> float:
    """Squared error of the dead latents' reconstruction of the (fixed) residual, over its variance."""
    error = residual - reconstruct(p, x, pairs, bias=False)
    return float(np.sum(error**2) / np.sum((residual - residual.mean(0)) ** 2))


def numeric_gradients(loss, p: Plain, step: float = 1e-6) -> Plain:
    """Central differences of loss(p) to every parameter."""
    grads = []
    for which, part in enumerate(p):
        grad = np.zeros_like(part)
        for index in np.ndindex(part.shape):
            ends = []
            for sign in (1, -1):
                moved = part.copy()
                moved[index] += sign * step
                ends.append(loss(p._replace(**{Plain._fields[which]: moved})))
            grad[index] = (ends[0] - ends[1]) / (2 * step)
        grads.append(grad)
    return Plain(*grads)
