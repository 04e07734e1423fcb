"""How fast the stages beside training are on a GPU, at the size of an 8B model: what docs/scaling.md plans with.

    python benchmarks/large_gpu.py [--tokens 100000] [--rounds 2]

harvest      two models of Llama 3 8B's shape with random bfloat16 weights, layer 14 of 32. Against a bare hook on the
             layer, as in harvest.py: unrelated models, models that share 10 layers, and behaviour measured.
attribution  the pass over 2 x 4,096 wide activations with F = 131,072 latents, of which about 100 fire at a token, and
             what encoding alone takes; then, once, from the sums to verdicts.

By wall clock, everything included (disk too), in turn in one process. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from common import print_result
from harvest import WORDS, bare_hook, changed_from, text, token_batches
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mneme._util.progress import NULL_PROGRESS
from mneme.attribution.config import AttributionConfig
from mneme.attribution.geometry import make_geometry
from mneme.attribution.held_activations import MemoryCache
from mneme.attribution.pass_sums import AttributionSums
from mneme.attribution.stream import _read, finalize
from mneme.crosscoder import CodeCache, Crosscoder, CrosscoderConfig
from mneme.harvest import HarvestConfig, harvest
from mneme.harvest.limits import within_limits
from mneme.models import pair_models

D, F, K = 4096, 131_072, 100
LLAMA_8B = {
    "vocab_size": 128_256,
    "hidden_size": D,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500_000.0,
}


def random_llama(device: torch.device) -> LlamaForCausalLM:
    """Of the 8B shape, made on the device."""
    with device:
        model = LlamaForCausalLM._from_config(LlamaConfig(**LLAMA_8B), dtype=torch.bfloat16)
    return model.requires_grad_(False).eval()


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token a word of harvest.py's text."""
    vocabulary = {word: i for i, word in enumerate(["<s>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def in_turn(ways: dict[str, Callable[[], object]], n: int, rounds: int) -> dict[str, float]:
    """Tokens a second of each, the median over rounds; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds + 1):
        for name, way in ways.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            way()
            torch.cuda.synchronize()
            if round_ > 0:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: n / statistics.median(times) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"{name:44}{rate:10,.0f} tokens/s", flush=True)
    return rates


def measure_harvest(device: torch.device, tokens: int, rounds: int) -> dict[str, float]:
    base, tokenizer = random_llama(device), word_tokenizer()
    pairs = {n: pair_models(base, changed_from(base, n), tokenizer) for n in (0, 10)}
    corpus = text(tokens)
    config = HarvestConfig(layer=14, max_tokens=tokens, behaviour_share=0.0)
    config = within_limits(config, pairs[0])
    measured = replace(config, behaviour_share=HarvestConfig().behaviour_share)
    batches = [ids.to(device) for ids in token_batches(pairs[0], corpus, config)]
    with tempfile.TemporaryDirectory() as folder:
        number = iter(range(10**6))

        def run(n: int, config: HarvestConfig) -> Callable[[], object]:
            return lambda: harvest(pairs[n], corpus, config, Path(folder) / str(next(number)))

        ways = {
            "bare hook": lambda: bare_hook(pairs[0], batches),
            "harvest, unrelated": run(0, config),
            "harvest, changed at 10": run(10, config),
            "harvest, unrelated, behaviour measured": run(0, measured),
        }
        return in_turn(ways, tokens, rounds)


@torch.no_grad()
def measure_attribution(device: torch.device, tokens: int, rounds: int) -> dict[str, float]:
    generator = torch.Generator(device).manual_seed(0)
    crosscoder = Crosscoder(CrosscoderConfig(n_latents=F, k=K), D).to(device)
    unit = torch.nn.functional.normalize(torch.randn(F, D, generator=generator, device=device), dim=1)
    crosscoder.W_dec.copy_(unit.expand(2, F, D))
    crosscoder.W_enc.copy_(unit.T.expand(2, D, F))
    crosscoder.mean.zero_()
    crosscoder.scale.fill_(1)
    del unit
    x = torch.randn(tokens, 1, D, generator=generator, device=device).expand(tokens, 2, D)
    x = (x + 0.1 * torch.randn(tokens, 2, D, generator=generator, device=device)).bfloat16()
    crosscoder.threshold.fill_(0)
    some = crosscoder.encode_sparse(x[:256])
    selection = some.value * crosscoder.decoder_norms().sum(0)[some.latent]
    crosscoder.threshold.copy_(selection.topk(K * 256).values[-1])
    cache = MemoryCache(x.cpu(), np.arange(tokens) // 256)
    config, geometry = AttributionConfig(), make_geometry(crosscoder)

    def encode() -> None:
        for part in cache.batches(config.batch_size):
            crosscoder.encode_sparse(part)

    def run_pass(folder: str) -> AttributionSums:
        state = AttributionSums(geometry, config)
        _read(crosscoder, cache, Path(folder) / "codes", state, NULL_PROGRESS)
        return state

    with tempfile.TemporaryDirectory() as folder:
        rates = in_turn({"encoding": encode, "pass": lambda: run_pass(folder)}, tokens, rounds)
        state = run_pass(folder)
        start = time.perf_counter()
        finalize(state, crosscoder, CodeCache(Path(folder) / "codes"))
        rates["conclude_seconds"] = time.perf_counter() - start
    print(f"{'to verdicts':44}{rates['conclude_seconds']:10.1f} s, whatever the number of tokens")
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--tokens", type=int, default=100_000, help="of the harvest; attribution reads a fifth"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--parts", nargs="+", default=["harvest", "attribution"])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no GPU: nothing is measured")
        print_result("large_gpu", {"not_measured": "this machine has no GPU"}, {})
        return
    device = torch.device("cuda")
    results: dict[str, object] = {"tokens": options.tokens, "rounds": options.rounds}
    if "harvest" in options.parts:
        rates = measure_harvest(device, options.tokens, options.rounds)
        results["harvest_tokens_per_second"] = rates
        torch.cuda.empty_cache()
    if "attribution" in options.parts:
        rates = measure_attribution(device, options.tokens // 5, options.rounds)
        results["attribution"] = rates
    print_result("large_gpu", results, {})


if __name__ == "__main__":
    main()
