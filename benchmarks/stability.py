"""Would another training find the same latents? Independent seeds from each start, on the demo's activations.

    python benchmarks/stability.py [--activations FOLDER] [--inits kmeans data random] [--seeds 2] [--latents 4096]
                                   [--k 32] [--epochs 6] [--learning-rate 1.6e-3] [--halves]

A latent is found again when its match in the other seed's dictionary (one to one, Hungarian) has an encoder and a
decoder cosine of at least 0.7. Seeds draw their own start and order of batches. Called are the latents that the first
of two dictionaries calls changed. --halves: also dictionaries of the even and of the odd documents, each with a start
of its own. Explained variance, L0 and dead share are of 32,768 of the tokens, by the rule of inference; the start's
share (of its directions: k-means) is of the training's processor time, start included. Without --activations the
demo's are harvested first. Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from common import floor, print_result

from mneme._util.progress import NULL_PROGRESS
from mneme._util.vocabulary import CHANGED
from mneme.attribution.stability import MATCH, match_latents
from mneme.attribution.stream import attribute
from mneme.crosscoder import Crosscoder, CrosscoderConfig
from mneme.crosscoder.start import start_directions
from mneme.crosscoder.trainer import Trainer
from mneme.harvest import ActivationCache, harvest
from mneme.harvest.chosen_documents import ChosenDocuments
from mneme.harvest.protocols import Source

FOUND_AGAIN, CALLED, HALVES, EXPLAINED, LIVE, NOT_START = 0.40, 0.40, 0.40, 0.839, 0.98, 0.85
_BATCH, _BATCHES = 8192, 4


def demo_activations(folder: str) -> ActivationCache:
    """What the demo trains on."""
    from mneme.config import make_config
    from mneme.run.context import RunContext
    from mneme.run.demo import demo_settings

    context = RunContext(make_config(demo_settings(quick=False)), Path(folder), NULL_PROGRESS)
    return harvest(context.pair, context.corpus, context.config.harvest, Path(folder) / "activations")


class Trained(NamedTuple):
    """A dictionary; (F,) bool each: whether a latent fired, whether it is called changed."""

    crosscoder: Crosscoder
    live: np.ndarray
    called: np.ndarray


def train(cache: Source, config: CrosscoderConfig) -> tuple[Crosscoder, float, float]:
    """The dictionary, and processor seconds of its first directions and of all of its training."""
    spent = 0.0

    def timed(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal spent
        begin = time.process_time()
        found = start_directions(*args, **kwargs)
        spent = time.process_time() - begin
        return found

    begin = time.process_time()
    with mock.patch("mneme.crosscoder.trainer.start_directions", timed):
        trainer = Trainer(cache, config, None)
    for _ in trainer.steps():
        pass
    return trainer.result(), spent, time.process_time() - begin


def quality(crosscoder: Crosscoder, cache: ActivationCache) -> tuple[float, float, np.ndarray]:
    """Explained variance (of the model that is explained less), L0, and (F,) whether a latent fired."""
    fired, error, power, n = torch.zeros(crosscoder.n_latents), torch.zeros(2), torch.zeros(2), 0
    for x in itertools.islice(cache.batches(_BATCH, shuffle=True, seed=5), _BATCHES):
        codes = crosscoder.encode_sparse(x)
        wanted = crosscoder.normalise(x)
        found = crosscoder.normalise(crosscoder.decode_sparse(codes, len(x)))
        error += (wanted - found).square().sum((0, 2))
        power += wanted.square().sum((0, 2))
        fired += torch.bincount(codes.latent, minlength=crosscoder.n_latents)
        n += len(x)
    return float((1 - error / power).min()), float(fired.sum() / n), (fired > 0).numpy()


def found_again(trained: list[Trained]) -> dict[str, float]:
    """Shares of live latents: by encoder and decoder, by decoder alone, means over pairs of seeds; of all called ones,
    where there are any.
    """
    shares, called = [], []
    for one, other in itertools.combinations(trained, 2):
        match = match_latents(one.crosscoder, other.crosscoder, one.live)
        by_decoder = match.decoder_cosine >= MATCH
        shares.append((match.persists[one.live].mean(), by_decoder[one.live].mean()))
        called.append(match.persists[one.called])
    both, decoder = np.mean(shares, axis=0).tolist()
    of_called = np.concatenate(called)
    found: dict[str, float] = {"found_again": both, "decoder_alone": decoder}
    return found | ({"called_found_again": float(of_called.mean())} if len(of_called) else {})


def changed(crosscoder: Crosscoder, cache: ActivationCache) -> np.ndarray:
    """(F,): whether a latent is called changed."""
    verdict = attribute(crosscoder, cache, None).latents.sort_values("latent")["verdict"]
    return np.isin(verdict.to_numpy(dtype=object), CHANGED)


def measure(cache: ActivationCache, config: dict[str, Any], seeds: int) -> dict[str, float]:
    """One start: means over its seeds."""
    trained, rows = [], []
    for seed in range(seeds):
        crosscoder, start, whole = train(cache, CrosscoderConfig(**config, seed=seed))
        explained, l0, live = quality(crosscoder, cache)
        called = changed(crosscoder, cache)
        trained.append(Trained(crosscoder, live, called))
        rows.append((explained, l0, 1 - live.mean(), called.sum(), start, start / whole))
    names = ("explained_variance", "l0", "dead_share", "called", "start_seconds", "start_share")
    return found_again(trained) | dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def on_halves(cache: ActivationCache, config: dict[str, Any]) -> dict[str, float]:
    """Dictionaries of the even and of the odd documents, each with a start of its own."""
    documents = np.unique(cache.document)
    trained = []
    for half in (0, 1):
        part = ChosenDocuments(cache, documents[half::2])
        crosscoder = train(part, CrosscoderConfig(**config, seed=half))[0]
        live = quality(crosscoder, cache)[2]
        trained.append(Trained(crosscoder, live, np.zeros_like(live)))
    found = found_again(trained)
    return {"found_again": found["found_again"], "decoder_alone": found["decoder_alone"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--activations", help="folder of a finished harvest")
    parser.add_argument("--inits", nargs="+", default=["kmeans", "data", "random"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--latents", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--learning-rate", type=float, default=1.6e-3)
    parser.add_argument("--halves", action="store_true")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error("--seeds must be at least 2: one dictionary has none to be found again in")
    config = {
        "n_latents": options.latents, "k": options.k, "epochs": options.epochs, "learning_rate": options.learning_rate,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cache = ActivationCache(options.activations) if options.activations else demo_activations(folder)
        next(iter(cache.batches(1, shuffle=True)))  # read into memory, which is no part of a start
        found = {init: measure(cache, {**config, "init": init}, options.seeds) for init in options.inits}
        on = options.inits if options.halves else []
        halves = {init: on_halves(cache, {**config, "init": init}) for init in on}
    columns = sorted({name for row in found.values() for name in row})
    print(f"{'':8}" + "".join(f"{name:>20}" for name in columns))
    for init, row in found.items():
        print(f"{init:8}" + "".join(f"{row.get(name, float('nan')):20.3f}" for name in columns))
    init = CrosscoderConfig().init
    best = found.get(init, {})
    floors = {
        "found again": floor(best.get("found_again"), FOUND_AGAIN),
        "called found again": floor(best.get("called_found_again"), CALLED),
        "decoders found again on halves": floor(halves.get(init, {}).get("decoder_alone"), HALVES),
        "explained variance": floor(best.get("explained_variance"), EXPLAINED),
        "live": floor(1 - best["dead_share"] if best else None, LIVE),
        "time that is not the start's": floor(1 - best["start_share"] if best else None, NOT_START),
    }
    results = {"settings": config, "seeds": options.seeds, "inits": found}
    results["halves"] = halves or "not measured: --halves does"
    print_result("stability", results, floors)


if __name__ == "__main__":
    main()
