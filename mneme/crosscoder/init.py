"""Before the first step: the normaliser and the initial weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mneme._util.errors import ActivationError
from mneme.crosscoder.grid import ONE_RANK, Grid
from mneme.crosscoder.step import Weights

MEDIAN_SAMPLE = 8192  # tokens the geometric median is found on
_SCALE_SAMPLE = 512  # tokens the length of the first weights is found on


def fit_normaliser(batches: Iterable[Tensor], grid: Grid = ONE_RANK) -> tuple[Tensor, Tensor]:
    """Mean (2, d) and scale (2,) so that (x - mean) / scale has mean 0 and E||x||^2 = d, for each model.

    With several ranks each gives its share of the batches; all get the statistics of the whole.

    Sums are float64 whatever the batches' precision: bfloat16 sums stop growing after a few hundred tokens.
    Raises ActivationError for NaN, infinite, constant or no activations.
    """
    n = 0
    for batch in batches:
        x = batch.double()
        if n == 0:
            # Sums of (x - first mean): the variance of activations far from zero would cancel otherwise.
            shift = x.mean(0)
            grid.from_first([shift])
            total, squares = torch.zeros_like(shift), torch.zeros(2, dtype=torch.float64, device=x.device)
        x = x - shift
        n += len(x)
        total += x.sum(0)
        squares += x.square().sum(dim=(0, 2))
    if n == 0:
        raise ActivationError("there are no activations to train on: give a longer corpus")
    n = int(grid.sum(torch.tensor(n, device=total.device)))
    mean = grid.sum(total) / n
    variance = grid.sum(squares) / n - mean.square().sum(1)  # E||x - mean||^2
    if not bool(torch.isfinite(variance).all()):
        raise ActivationError(
            "the activations hold NaN or infinity: check the models, or set another harvest.dtype"
        )
    if bool((variance <= 0).any()):
        raise ActivationError("the activations are constant: check the models and the corpus")
    scale = (variance / mean.shape[1]).sqrt()
    return (mean + shift).float(), scale.float()


def fit_scale(batches: Iterable[Tensor]) -> Tensor:
    """Scale (2,) so that x / scale has a mean norm of sqrt(d), for each model; nothing is subtracted.

    The rule of published crosscoders that do not centre their inputs. Raises ActivationError as above.
    """
    n, total, d = 0, torch.zeros(2, dtype=torch.float64), 1
    for batch in batches:
        n, d = n + len(batch), batch.shape[2]
        total += batch.double().norm(dim=2).sum(0).cpu()
    if n == 0 or not bool((torch.isfinite(total) & (total > 0)).all()):
        raise ActivationError("the activations are absent, zero, NaN or infinite: check models and corpus")
    found: Tensor = (total / n / d**0.5).float()
    return found


def geometric_median(points: Tensor, steps: int = 100, tolerance: float = 1e-6) -> Tensor:
    """The point with the least sum of distances to (N, D) points, by Weiszfeld's iteration. -> (D,)."""
    points = points.double()
    guess = points.mean(0)
    for _ in range(steps):
        weights = 1 / (points - guess).norm(dim=1).clamp_min(1e-12)
        better = (weights[:, None] * points).sum(0) / weights.sum()
        moved = float((better - guess).norm())
        guess = better
        if moved <= tolerance * (1 + float(guess.norm())):
            break
    return guess.float()


def random_directions(n_latents: int, d: int, generator: torch.Generator, own: slice = slice(None)) -> Tensor:
    """(F, 2d) unit rows, the same in both decoders; own: the latents that are wanted, of all n_latents."""
    half = torch.nn.functional.normalize(torch.randn(n_latents, d, generator=generator)[own], dim=1)
    return torch.cat([half, half], dim=1) / 2**0.5


def initial_weights(directions: Tensor, bias: Tensor) -> Weights:
    """Decoders along the directions, the encoder their transpose; directions (F, 2d) unit rows, bias (2d,).

    Pre-activations start centred on the bias: enc (x - b_dec).
    """
    both = directions * 2**0.5  # each model's half at unit length, where the halves are equally long
    return Weights(both.clone(), -(both @ bias), both.clone(), bias)


def start_bias(sample: Tensor) -> Tensor:
    """(2d,): the geometric median of each model's normalised activations; sample (n, 2, d)."""
    return torch.cat([geometric_median(sample[:MEDIAN_SAMPLE, m]) for m in range(2)])


def scaled_start(weights: Weights, x: Tensor, k: int | None, grid: Grid = ONE_RANK) -> Weights:
    """The weights at the length at which the first reconstruction is as near as one factor brings it.

    k latents of directions drawn at random overlap: with unit directions their sum is several times too long (an
    explained variance of -3 on the bundled pair, 0.5 with the factor), and a short training spends a tenth of its
    steps on shrinking it. Encoder and decoder take a root of the factor each, and stay each other's transpose: all of
    it in one of them finds fewer of a planted pair's changes (docs/method.md).

    x: (B, 2d) normalised, the same on all ranks. k: active latents per token; None: all that fire.
    """
    x = x[:_SCALE_SAMPLE]
    f = (x @ weights.enc.T + weights.b_enc).relu()
    if k is not None:
        f = f * grid.top_of_rows(f, k)
    x_hat = grid.total(f @ weights.dec)
    factor = (x_hat * (x - weights.b_dec)).sum() / x_hat.square().sum()
    if not bool(torch.isfinite(factor)) or float(factor) <= 0:  # where nothing fires
        return weights
    root = factor.sqrt()
    return Weights(weights.enc * root, weights.b_enc * root, weights.dec * root, weights.b_dec)
