"""How fast the harvest is, beside the least it could cost.

Bare hook: a forward hook on the layer that keeps its output and raises, so that nothing after it runs; both
models, the same token batches, nothing stored. Harvest: `mneme.harvest.extract` whole: tokenising, the check
of shared layers, nnsight's traces, norms, sink removal, bfloat16 shards with checksums on disk.

    unrelated    the tuned model differs from its first layer on: everything runs twice
    changed at N the first N layers run once (5 is the bundled pair; of 30 layers read after 14), and of layer N what is
                 before its mlp.down_proj, the only weight that differs

Peak memory is the whole process's while a variant runs, three tuned models and one base in it.
Interleaved in one process, one round after another; ratios are medians over the rounds. Beside wall time the
processor time is compared: it tells more where neighbours use the same cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from common import floor, forget_peak, peak_since_gb, print_result, resident_gb
from transformers import PreTrainedModel

from mneme.corpus import Corpus, load_corpus
from mneme.harvest import HarvestConfig, harvest
from mneme.harvest.limits import within_limits
from mneme.harvest.plan import make_plan, shard_batches
from mneme.models import ModelPair, load_model, load_tokenizer, pair_models
from mneme.models.delta import sharing_copy

LAYER = 14
WORDS = [
    "river",
    "energy",
    "market",
    "history",
    "protein",
    "music",
    "winter",
    "engine",
    "theory",
    "garden",
    "law",
    "planet",
    "bread",
    "signal",
]


class StopHere(Exception):  # noqa: N818
    """Raised by the hook: nothing after the layer runs."""


def changed_from(model: PreTrainedModel, layer: int) -> PreTrainedModel:
    """A sharing copy with another mlp.down_proj at `layer`."""
    tuned = sharing_copy(model)
    linear = tuned.model.layers[layer].mlp.down_proj
    noise = torch.randn(linear.weight.shape, generator=torch.Generator().manual_seed(0))
    weight = linear.weight.float() + 0.1 * linear.weight.float().std() * noise.to(linear.weight.device)
    linear.weight = torch.nn.Parameter(weight.to(linear.weight.dtype), requires_grad=False)
    return tuned


def text(n_tokens: int) -> Corpus:
    """Documents of 20 to 250 words, so that batches are of uneven lengths."""
    generator = torch.Generator().manual_seed(0)
    texts = []
    while sum(t.count(" ") for t in texts) < n_tokens:
        length = int(torch.randint(20, 250, (), generator=generator))
        picked = torch.randint(len(WORDS), (length,), generator=generator)
        texts.append(" ".join(WORDS[i] for i in picked))
    return load_corpus(texts)


def bare_hook(pair: ModelPair, batches: list[torch.Tensor]) -> None:
    """Both models up to the layer, as little as it can be."""
    for ids in batches:
        for wrapped in (pair.base, pair.tuned):
            model, kept = wrapped._module, []

            def hook(module: torch.nn.Module, args: tuple, output: torch.Tensor, kept: list = kept) -> None:
                kept.append(output)
                raise StopHere

            handle = model.model.layers[LAYER].register_forward_hook(hook)
            try:
                with torch.no_grad():
                    model(input_ids=ids, use_cache=False)
            except StopHere:
                pass
            finally:
                handle.remove()


def token_batches(pair: ModelPair, corpus: Corpus, config: HarvestConfig) -> list[torch.Tensor]:
    """The token ids that the harvest of these settings runs on."""
    plan = make_plan(corpus, pair.tokenizer, config)
    return [
        torch.zeros(len(batch), 1 + batch[0].length, dtype=torch.long)
        for shard in range(len(plan.shards))
        for batch in shard_batches(plan, shard, config)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=12_000, help="tokens of text a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    base, tokenizer = load_model("bundled:base"), load_tokenizer("bundled:base")
    pairs = {n: pair_models(base, changed_from(base, n), tokenizer) for n in (0, 5, 10)}
    corpus = text(options.tokens)
    config = HarvestConfig(layer=LAYER, max_tokens=options.tokens, behaviour_share=0.0)
    config = within_limits(config, pairs[0])
    batches = token_batches(pairs[0], corpus, config)
    measured = replace(config, behaviour_share=HarvestConfig().behaviour_share)

    with tempfile.TemporaryDirectory() as folder:
        number = iter(range(10**6))

        def run(pair: ModelPair, config: HarvestConfig) -> None:
            harvest(pair, corpus, config, Path(folder) / str(next(number)))

        variants: dict[str, Callable[[], None]] = {
            "bare hook": lambda: bare_hook(pairs[0], batches),
            "harvest, unrelated": lambda: run(pairs[0], config),
            "harvest, changed at 5": lambda: run(pairs[5], config),
            "harvest, changed at 10": lambda: run(pairs[10], config),
            "harvest, changed at 5, behaviour measured": lambda: run(pairs[5], measured),
        }
        bare_hook(pairs[0], batches)  # weights are packed for the processor at first use
        models_gb = resident_gb()
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        cpu: dict[str, list[float]] = {name: [] for name in variants}
        peaks: dict[str, float | None] = dict.fromkeys(variants)
        for _ in range(options.rounds):
            for name, function in variants.items():
                forget_peak()
                started, spent = time.perf_counter(), time.process_time()
                function()
                seconds[name].append(time.perf_counter() - started)
                cpu[name].append(time.process_time() - spent)
                peaks[name] = max(filter(None, (peaks[name], peak_since_gb())), default=None)

    tokens = options.tokens
    print(f"{'':42}{'tokens/s':>10}{'of bare hook':>14}{'by CPU time':>14}{'peak GB':>10}")
    results: dict[str, dict[str, float | None] | float] = {}
    ratios = {}
    for name, times in seconds.items():
        ratios[name] = statistics.median(b / t for b, t in zip(seconds["bare hook"], times, strict=True))
        rate = tokens / statistics.median(times)
        by_cpu = statistics.median(b / t for b, t in zip(cpu["bare hook"], cpu[name], strict=True))
        results[name] = {
            "tokens_per_second": round(rate, 1),
            "of_bare_hook": round(ratios[name], 3),
            "of_bare_hook_by_cpu_time": round(by_cpu, 3),
            "peak_gb": peaks[name],
        }
        peak = "unknown" if peaks[name] is None else f"{peaks[name]:.2f}"
        print(f"{name:42}{rate:10.0f}{ratios[name]:14.2f}{by_cpu:14.2f}{peak:>10}", flush=True)
    results["tokens"], results["rounds"] = tokens, options.rounds
    results["models_gb"] = round(models_gb, 2)
    floors = {
        "unrelated_of_bare_hook": floor(ratios["harvest, unrelated"], 0.9),
        "shared_10_of_15_layers_of_bare_hook": floor(ratios["harvest, changed at 10"], 1.4),
    }
    print_result("harvest", results, floors)


if __name__ == "__main__":
    main()
