"""A corpus without a data set: the base model writes it.

mneme reads a pair on ordinary text that has nothing to do with the tuning data. Where no such text is at
hand, the base model itself can write it: every area of a topics file is asked for in turn, in several forms
of text (encyclopedia entry, letter, news report, ...), until each area holds its share of the tokens. So the
corpus is balanced over areas, and no benchmark's text is in it.

    topics.toml -> prompts -> batches of generations -> cleaned, filtered, deduplicated -> jsonl.zst

Raw generations are appended to `OUT.partial` batch by batch; the filter is replayed over them at a restart,
so a killed run goes on where it stood and ends with the same file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import zstandard
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import CorpusError
from mneme._util.files import replacing, write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.corpus.quality import Deduplicator, clean, is_degenerate
from mneme.corpus.topics import FORMS, Area, load_topics


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How a corpus is sampled."""

    n_tokens: int = dataclasses.field(
        default=108_000, metadata={"doc": "size of the corpus, in tokens of the model's tokenizer"}
    )
    seed: int = dataclasses.field(default=0, metadata={"doc": "seed of the sampling"})
    temperature: float = dataclasses.field(
        default=0.8, metadata={"doc": "divides the logits; 1 = as trained"}
    )
    top_p: float = dataclasses.field(default=0.95, metadata={"doc": "nucleus: share of probability kept"})
    top_k: int = dataclasses.field(
        default=200,
        metadata={"doc": "tokens the nucleus is looked for in (sorting them all is slow on a CPU)"},
    )
    max_new_tokens: int = dataclasses.field(default=190, metadata={"doc": "longest document, in tokens"})
    min_tokens: int = dataclasses.field(
        default=40, metadata={"doc": "shorter documents are dropped, in tokens"}
    )
    batch: int = dataclasses.field(default=50, metadata={"doc": "documents generated at a time"})
    max_repetition: float = dataclasses.field(
        default=0.2, metadata={"doc": "largest share of repeated word 4-grams in a document, in [0, 1]"}
    )
    max_similarity: float = dataclasses.field(
        default=0.3,
        metadata={"doc": "largest Jaccard similarity of word 4-grams between documents, in [0, 1]"},
    )
    max_rounds: int = dataclasses.field(
        default=4, metadata={"doc": "times an area's topics are gone through before it is given up"}
    )


class Prompt(NamedTuple):
    """What one document is asked for with."""

    area: str
    text: str


def sample_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    topics: str | Path | Sequence[Area],
    out: str | Path,
    config: SampleConfig | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Path:
    """Let `model` write a corpus of about `config.n_tokens` tokens, balanced over the areas of `topics`.

    Writes `out` (jsonl.zst, one {"text", "topic"} a line, topic = the area's key; in the order of the areas)
    and returns its path. The same call after an interruption goes on; the result is the same for the same
    model, settings and thread count.

    Raises CorpusError when the topics can't be read or the model gives too little usable text.
    """
    config = config or SampleConfig()
    out = Path(out)
    areas = load_topics(topics) if isinstance(topics, str | Path) else list(topics)
    collection = _Collection(areas, tokenizer, config)
    partial = _Partial(out.with_name(out.name + ".partial"), _fingerprint(model, areas, config))
    with progress.task("corpus", total=config.n_tokens, unit="tokens") as task:
        batches = iter(partial.read())
        number = 0
        while prompts := collection.next_prompts():
            texts = next(batches, None)
            if texts is None:
                texts = _generate(model, tokenizer, [p.text for p in prompts], config, number)
                partial.append(texts)
            task.advance(sum(collection.add(p, text) for p, text in zip(prompts, texts, strict=True)))
            number += 1
    documents = collection.documents()
    if sum(collection.tokens.values()) < config.n_tokens / 2:
        raise CorpusError(
            f"the model gave only {sum(collection.tokens.values())} usable tokens of {config.n_tokens}:"
            " use an instruction-tuned model, or raise max_rounds"
        )
    _write(out, documents)
    partial.path.unlink()
    return out


class _Collection:
    """The documents kept so far, and what is asked for next."""

    def __init__(self, areas: list[Area], tokenizer: PreTrainedTokenizerBase, config: SampleConfig) -> None:
        self.areas, self.tokenizer, self.config = areas, tokenizer, config
        self.tokens = {area.key: 0 for area in areas}
        self.kept: dict[str, list[str]] = {area.key: [] for area in areas}
        self._prompts = {area.key: _prompts(area, i, config.max_rounds) for i, area in enumerate(areas)}
        self._duplicates = Deduplicator(config.max_similarity)
        # Half a document short of its share an area is nearer to it than with one more.
        self._enough = config.n_tokens / len(areas) - config.max_new_tokens * 0.4

    def next_prompts(self) -> list[Prompt]:
        """A batch of prompts, one an area at most, those with least first; empty at the end."""
        if sum(self.tokens.values()) >= self.config.n_tokens:
            return []
        open_areas = [area for area in self.areas if self.tokens[area.key] < self._enough]
        open_areas.sort(key=lambda area: self.tokens[area.key])
        asked = (next(self._prompts[area.key], None) for area in open_areas)
        found = [prompt for prompt in asked if prompt is not None]
        for prompt in found[self.config.batch :]:
            self._prompts[prompt.area] = _chain(prompt, self._prompts[prompt.area])
        return found[: self.config.batch]

    def add(self, prompt: Prompt, generation: str) -> int:
        """Keep a generation if it's good; the number of tokens it adds."""
        text = clean(generation)
        if text is None or is_degenerate(text, self.config.max_repetition):
            return 0
        n = len(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if n < self.config.min_tokens or not self._duplicates.is_new(text):
            return 0
        self.tokens[prompt.area] += n
        self.kept[prompt.area].append(text)
        return n

    def documents(self) -> list[dict[str, str]]:
        return [{"text": text, "topic": area.key} for area in self.areas for text in self.kept[area.key]]


def _prompts(area: Area, offset: int, rounds: int) -> Iterator[Prompt]:
    """All prompts of an area: each round, its topics meet the forms shifted by one."""
    for number in range(rounds * len(area.topics)):
        form = area.forms[(offset + number + number // len(area.topics)) % len(area.forms)]
        topic = area.topics[number % len(area.topics)]
        yield Prompt(area.key, FORMS[form].format(topic=topic, area=area.name))


def _chain(first: Prompt, rest: Iterator[Prompt]) -> Iterator[Prompt]:
    yield first
    yield from rest


@torch.inference_mode()
def _generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    config: SampleConfig,
    number: int,
) -> list[str]:
    """One batch of generations, the prompt left out. Its random stream depends on the seed and its number."""
    if tokenizer.chat_template is None:  # a model that never saw a chat: a heading invites the text
        chats = [f"{prompt}\n\n" for prompt in prompts]
    else:
        chats = [
            str(
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
                )
            )
            for prompt in prompts
        ]
    rows = [tokenizer(chat, add_special_tokens=False)["input_ids"] for chat in chats]
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    longest = max(map(len, rows))  # T
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=model.device)  # (B, T)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed * 1_000_003 + number)
        output = model.generate(  # type: ignore[operator]  # GenerationMixin is not among its declared bases
            input_ids=ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            logits_processor=LogitsProcessorList([_Nucleus(config)]),
            max_new_tokens=config.max_new_tokens,
            pad_token_id=pad,
        )
    return tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)


class _Nucleus(LogitsProcessor):
    """Temperature and nucleus among the `top_k` likeliest tokens.

    transformers' own sorts the whole vocabulary for each token: on a CPU that takes longer than the model.
    """

    def __init__(self, config: SampleConfig) -> None:
        self.config = config

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores (B, V) -> (B, V), -inf outside the nucleus."""
        top, index = torch.topk(scores / self.config.temperature, min(self.config.top_k, scores.shape[-1]))
        probability = top.softmax(-1)
        outside = probability.cumsum(-1) - probability >= self.config.top_p  # the likeliest always stays
        return torch.full_like(scores, -torch.inf).scatter(-1, index, top.masked_fill(outside, -torch.inf))


class _Partial:
    """Raw generations on disk, a line a batch, under a line that says what they belong to."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path, self.fingerprint = path, fingerprint

    def read(self) -> list[list[str]]:
        """The finished batches of the same settings; what belongs to others, or is cut off, is dropped."""
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else [""]
        whole = lines[:-1]  # the last piece has no newline yet: a killed write
        if not whole or whole[0] != self.fingerprint:
            whole = [self.fingerprint]
        write_text(self.path, "".join(line + "\n" for line in whole))
        return [json.loads(line) for line in whole[1:]]

    def append(self, texts: list[str]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(texts, ensure_ascii=False) + "\n")


def _fingerprint(model: PreTrainedModel, areas: Sequence[Area], config: SampleConfig) -> str:
    """SHA-256 of all that decides the generations; of the weights, one small tensor stands for all."""
    first = next(p for p in model.parameters() if p.ndim == 1).detach().float().cpu().numpy()
    facts: list[Any] = [[list(a) for a in areas], dataclasses.asdict(config), model.config.to_dict()]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    digest.update(first.tobytes())
    return digest.hexdigest()


def _write(out: Path, documents: list[dict[str, str]]) -> None:
    """jsonl.zst, whole or not at all."""
    buffer = io.StringIO()
    for document in documents:
        buffer.write(json.dumps(document, ensure_ascii=False) + "\n")
    with replacing(out) as temporary:
        temporary.write_bytes(zstandard.ZstdCompressor(level=19).compress(buffer.getvalue().encode("utf-8")))
