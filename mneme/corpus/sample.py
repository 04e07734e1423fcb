"""A corpus without a data set: the base model writes it, for the categories of a taxonomy.

mneme reads a pair on ordinary text that has nothing to do with the tuning data. Where no such text is at hand,
the base model itself can write it: every area (a category) is asked for in turn, in every style (styles.py),
until each holds its share of documents. So the corpus is balanced over categories, each document's category is
known, and no benchmark's text is in it.

    areas x styles -> prompts -> batches of generations -> read, filtered, deduplicated -> jsonl.zst

Raw generations are appended to `OUT.partial` batch by batch; the filter is replayed over them at a restart,
so a killed run goes on where it stood and ends with the same file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mneme._util.errors import CorpusError
from mneme._util.files import replacing, write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.corpus.generate import generate
from mneme.corpus.quality import Deduplicator, is_degenerate, up_to
from mneme.corpus.styles import STYLES, Area, Prompt, prompt, read

Fits = Callable[[Sequence[str], Sequence[str]], Sequence[bool]]
"""Whether texts are about their areas: (texts, keys of areas) -> a truth value each."""


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How a corpus is sampled."""

    n_documents: int = dataclasses.field(
        default=16, metadata={"doc": "documents per area, over all styles in equal parts"}
    )
    styles: tuple[str, ...] = dataclasses.field(
        default=STYLES, metadata={"doc": "styles of text: prose, questions, exam, dialogue"}
    )
    min_tokens: int = dataclasses.field(default=55, metadata={"doc": "shortest document, in tokens"})
    max_tokens: int = dataclasses.field(default=95, metadata={"doc": "longest document, in tokens"})
    seed: int = dataclasses.field(default=0, metadata={"doc": "seed of the sampling"})
    temperature: float = dataclasses.field(
        default=0.7, metadata={"doc": "divides the logits; 1 = as trained"}
    )
    top_p: float = dataclasses.field(default=0.95, metadata={"doc": "nucleus: share of probability kept"})
    top_k: int = dataclasses.field(
        default=200,
        metadata={"doc": "tokens the nucleus is looked for in (sorting them all is slow on a CPU)"},
    )
    batch: int = dataclasses.field(default=50, metadata={"doc": "pieces of text generated at a time"})
    max_repetition: float = dataclasses.field(
        default=0.2, metadata={"doc": "largest share of repeated word 4-grams in a document, in [0, 1]"}
    )
    max_similarity: float = dataclasses.field(
        default=0.3,
        metadata={"doc": "largest Jaccard similarity of word 4-grams between documents, in [0, 1]"},
    )
    max_prompts: int = dataclasses.field(
        default=64, metadata={"doc": "prompts per area and style before it is given up"}
    )


def sample_corpus(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    areas: Sequence[Area],
    out: str | Path,
    config: SampleConfig | None = None,
    fits: Fits | None = None,
    progress: Progress = NULL_PROGRESS,
) -> Path:
    """Let `model` write `config.n_documents` documents for each area, in each style its share.

    Writes `out` (jsonl.zst, a document a line, in the order of areas and styles: {"text" or "messages", "topic",
    "style"}, topic = the area's key) and returns its path. `fits` drops pieces that are not about their area. The
    same call after an interruption goes on; the result is the same for the same model, settings and thread count.

    Raises CorpusError when a style is unknown or the model gives less than half of the text.
    """
    config = config or SampleConfig()
    if unknown := set(config.styles) - set(STYLES):
        raise CorpusError(f"unknown style {', '.join(sorted(unknown))}: known are {', '.join(STYLES)}")
    out = Path(out)
    collection = _Collection(list(areas), tokenizer, config, fits)
    partial = _Partial(out.with_name(out.name + ".partial"), _fingerprint(model, areas, config))
    with progress.task("corpus", total=collection.wanted, unit="documents") as task:
        batches = iter(partial.read())
        number = 0
        while prompts := collection.next_prompts():
            texts = next(batches, None)
            if texts is None:
                texts = generate(model, tokenizer, prompts, config, number)
                partial.append(texts)
            task.advance(collection.add(prompts, texts))
            number += 1
    documents = collection.documents()
    if len(documents) < collection.wanted / 2:
        raise CorpusError(
            f"the model gave only {len(documents)} usable documents of {collection.wanted}:"
            " use an instruction-tuned model, or raise max_prompts"
        )
    _write(out, documents)
    partial.path.unlink()
    return out


@dataclasses.dataclass
class _Cell:
    """The documents of one area in one style: those kept, and pieces too short to be one."""

    area: Area
    style: str
    wanted: int
    asked: int = 0
    kept: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    short: list[str] = dataclasses.field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.wanted - len(self.kept)


class _Collection:
    """The documents kept so far, and what is asked for next."""

    def __init__(
        self, areas: list[Area], tokenizer: PreTrainedTokenizerBase, config: SampleConfig, fits: Fits | None
    ) -> None:
        self.tokenizer, self.config, self.fits = tokenizer, config, fits
        share, rest = divmod(config.n_documents, len(config.styles))
        self.cells = {
            (area.key, style): _Cell(area, style, share + (number < rest))
            for area in areas
            for number, style in enumerate(config.styles)
        }
        self._duplicates = Deduplicator(config.max_similarity)

    @property
    def wanted(self) -> int:
        return sum(cell.wanted for cell in self.cells.values())

    def next_prompts(self) -> list[Prompt]:
        """A batch of prompts in one style, for the areas that miss most; empty at the end."""
        open_ = [c for c in self.cells.values() if c.missing > 0 and c.asked < self.config.max_prompts]
        if not open_:
            return []
        style = max(self.config.styles, key=lambda s: sum(c.missing for c in open_ if c.style == s))
        cells = sorted((c for c in open_ if c.style == style), key=lambda c: (c.asked - len(c.kept), c.asked))
        found: list[Prompt] = []
        while len(found) < self.config.batch and cells:
            for cell in cells[: self.config.batch - len(found)]:
                found.append(prompt(style, cell.area, cell.asked))
                cell.asked += 1
            cells = [c for c in cells if c.asked < self.config.max_prompts][: self.config.batch // 4]
        return found

    def add(self, prompts: Sequence[Prompt], generations: Sequence[str]) -> int:
        """Keep what is good of a batch; the number of documents it adds."""
        pieces = [read(p.style, text) for p, text in zip(prompts, generations, strict=True)]
        good = [
            (p, piece)
            for p, piece in zip(prompts, pieces, strict=True)
            if piece is not None and not is_degenerate(piece, self.config.max_repetition)
        ]
        if self.fits is not None and good:
            about = self.fits([piece for _, piece in good], [p.area for p, _ in good])
            good = [one for one, fit in zip(good, about, strict=True) if fit]
        return sum(self._keep(p, piece) for p, piece in good)

    def _keep(self, asked: Prompt, piece: str) -> bool:
        cell = self.cells[asked.area, asked.style]
        if cell.missing <= 0:
            return False
        if asked.style == "dialogue":
            spare = self.config.max_tokens - self._length(asked.text)
            answer = up_to(piece, spare, self.tokenizer)
            whole = None if answer is None else f"{asked.text}\n{answer}"
            document: dict[str, Any] = {
                "messages": [
                    {"role": "user", "content": asked.text},
                    {"role": "assistant", "content": answer},
                ]
            }
        else:
            whole = self._whole(cell, piece)
            document = {"text": whole}
        if (
            whole is None
            or self._length(whole) < self.config.min_tokens
            or not self._duplicates.is_new(whole)
        ):
            return False
        cell.kept.append(document | {"topic": cell.area.key, "style": cell.style})
        return True

    def _whole(self, cell: _Cell, piece: str) -> str | None:
        """A document of a piece, cut or joined with an earlier one so that it is long enough; None: kept for later."""
        cut = up_to(piece, self.config.max_tokens, self.tokenizer)
        if cut is None or cell.style == "prose" or self._length(cut) >= self.config.min_tokens:
            return cut if cell.style == "prose" or cut == piece else None
        for other in cell.short:
            joined = f"{other}\n\n{cut}"
            if other != cut and self.config.min_tokens <= self._length(joined) <= self.config.max_tokens:
                cell.short.remove(other)
                return joined
        cell.short.append(cut)
        return None

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def documents(self) -> list[dict[str, Any]]:
        return [document for cell in self.cells.values() for document in cell.kept]


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


def _write(out: Path, documents: list[dict[str, Any]]) -> None:
    """jsonl.zst, whole or not at all."""
    buffer = io.StringIO()
    for document in documents:
        buffer.write(json.dumps(document, ensure_ascii=False) + "\n")
    with replacing(out) as temporary:
        temporary.write_bytes(zstandard.ZstdCompressor(level=19).compress(buffer.getvalue().encode("utf-8")))
