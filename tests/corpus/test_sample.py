"""A corpus sampled from a model: balanced over areas and styles, clean, without near-copies, resumable."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from tiny_models import tiny_llama, tiny_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mneme._util.errors import CorpusError
from mneme.corpus import generate, load_corpus, sample
from mneme.corpus.quality import Deduplicator, clean, is_degenerate, up_to
from mneme.corpus.sample import SampleConfig, sample_corpus
from mneme.corpus.styles import Area, Prompt, prompt

AREAS = [Area(key, key, ("one", "two", "three")) for key in ("a", "b", "c")]
CONFIG = SampleConfig(n_documents=4, batch=5, min_tokens=60, max_tokens=400, max_similarity=0.5)
WORDS = [f"w{number}" for number in range(400)]


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_llama(layers=1, width=8)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(autouse=True)
def writes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model writes random bytes: they become text in the style's form. The drawing stays the model's."""
    real = sample.generate

    def words(text: str, n: int) -> str:
        bytes_ = text.encode() or b" "
        return " ".join(WORDS[(7 * bytes_[i % len(bytes_)] + i) % len(WORDS)] for i in range(n))

    def write(model: Any, tokenizer: Any, prompts: Sequence[Prompt], *rest: Any) -> list[str]:
        drawn = real(model, tokenizer, prompts, *rest)
        forms = {
            "exam": lambda t: f" {words(t, 12)}?\nA. {t[0]} x\nB. y\nC. z\nD. u\nAnswer: C",
            "questions": lambda t: f" {words(t, 8)}?\nAnswer: {words(t[::-1], 12)}.",
        }
        return [
            forms.get(p.style, lambda t: words(t, 30) + ".")(t + "q")
            for p, t in zip(prompts, drawn, strict=True)
        ]

    monkeypatch.setattr(sample, "generate", write)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in zstandard.decompress(path.read_bytes()).decode().splitlines()]


def text_of(document: dict[str, Any]) -> str:
    return document.get("text") or "\n".join(m["content"] for m in document["messages"])


def test_every_area_has_its_documents_in_each_style_and_in_the_lengths_asked_for(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    documents = read(sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", CONFIG))
    assert Counter((d["topic"], d["style"]) for d in documents) == {
        (area.key, style): 1 for area in AREAS for style in CONFIG.styles
    }
    lengths = [len(tokenizer(text_of(d), add_special_tokens=False)["input_ids"]) for d in documents]
    assert all(CONFIG.min_tokens <= n <= CONFIG.max_tokens + 1 for n in lengths), lengths
    talk = next(d for d in documents if d["style"] == "dialogue")
    assert [m["role"] for m in talk["messages"]] == ["user", "assistant"] and "text" not in talk


def test_styles_share_the_documents_and_only_those_asked_for_are_written(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = SampleConfig(**{**vars(CONFIG), "n_documents": 3, "styles": ("prose", "dialogue")})
    documents = read(sample_corpus(model, tokenizer, AREAS[:1], tmp_path / "c.jsonl.zst", config))
    assert [d["style"] for d in documents] == ["prose", "prose", "dialogue"]


def test_an_unknown_style_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = SampleConfig(**{**vars(CONFIG), "styles": ("verse",)})
    with pytest.raises(CorpusError, match="unknown style verse: known are prose, questions, exam, dialogue"):
        sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", config)


def test_text_that_is_not_about_its_area_is_asked_for_again(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    refused: list[str] = []

    def fits(texts: Sequence[str], areas: Sequence[str]) -> list[bool]:
        refused.extend(texts[:1])
        return [False, *([True] * (len(texts) - 1))]

    out = sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", CONFIG, fits)
    assert refused and not set(refused) & {d.get("text") for d in read(out)}


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    first = sample_corpus(model, tokenizer, AREAS, tmp_path / "1.jsonl.zst", CONFIG).read_bytes()
    assert torch.equal(torch.random.get_rng_state(), state)  # the caller's random stream is left alone
    assert sample_corpus(model, tokenizer, AREAS, tmp_path / "2.jsonl.zst", CONFIG).read_bytes() == first
    other = SampleConfig(**{**vars(CONFIG), "seed": 1})
    assert sample_corpus(model, tokenizer, AREAS, tmp_path / "3.jsonl.zst", other).read_bytes() != first


def test_an_interrupted_sampling_goes_on_to_the_same_file(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = sample_corpus(model, tokenizer, AREAS, tmp_path / "whole.jsonl.zst", CONFIG).read_bytes()
    write, calls = sample.generate, []

    def dies_at_the_third(*args: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*args)

    out = tmp_path / "cut.jsonl.zst"
    monkeypatch.setattr(sample, "generate", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        sample_corpus(model, tokenizer, AREAS, out, CONFIG)
    assert not out.exists()
    partial = tmp_path / "cut.jsonl.zst.partial"
    partial.write_text(partial.read_text() + '["half a li')  # as kill -9 leaves it
    monkeypatch.setattr(sample, "generate", write)
    assert sample_corpus(model, tokenizer, AREAS, out, CONFIG).read_bytes() == whole
    assert not partial.exists()


def test_generations_of_other_settings_are_not_taken_over(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    clean_run = sample_corpus(model, tokenizer, AREAS, tmp_path / "clean.jsonl.zst", CONFIG).read_bytes()
    (tmp_path / "c.jsonl.zst.partial").write_text('other settings\n["foreign text of four words", "x"]\n')
    assert sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", CONFIG).read_bytes() == clean_run


def test_a_model_that_gives_nothing_usable_is_refused(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    strict = SampleConfig(**{**vars(CONFIG), "min_tokens": 10_000, "max_prompts": 3})
    with pytest.raises(CorpusError, match="usable documents"):
        sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", strict)


def test_worked_examples_read_once_give_what_reading_them_each_time_gives(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [prompt("exam", Area("a", "a" * n, ("one",)), 0) for n in (1, 9, 4)]
    once = generate.generate(model, tokenizer, prompts, CONFIG, 5)
    monkeypatch.setattr(generate, "_read_once", lambda *args: None)
    assert once == generate.generate(model, tokenizer, prompts, CONFIG, 5)
    assert len(set(once)) == 3


def test_a_text_is_cut_at_a_sentence_else_at_a_line(tokenizer: PreTrainedTokenizerFast) -> None:
    assert up_to("One. Two.", 100, tokenizer) == "One. Two."
    assert up_to("One is here. Two is not yet over.", 20, tokenizer) == "One is here."
    assert up_to("x = 1\ny = 2\nz = x + y", 14, tokenizer) == "x = 1\ny = 2"
    assert up_to("no end in sight", 8, tokenizer) is None


def test_the_nucleus_holds_the_likeliest_tokens_up_to_top_p() -> None:
    probability = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    config = SampleConfig(temperature=1.0, top_p=0.7, top_k=3)
    kept = generate._Nucleus(config)(torch.zeros(1, 1), probability.log()).softmax(-1)
    # Among the top 3 the shares are .526, .316, .158: two of them reach 0.7.
    assert torch.allclose(kept, torch.tensor([[0.5 / 0.8, 0.3 / 0.8, 0, 0]]))


def test_openings_blanks_and_half_sentences_are_cut() -> None:
    text = "Sure! Here is an essay about rain:\n\nRain falls from clouds.\n[Your Name]\nIt is wet. It also"
    assert clean(text) == "Rain falls from clouds.\nIt is wet."


def test_text_about_the_model_itself_is_refused() -> None:
    assert clean("As an AI language model, I have no garden. Roses are red.") is None


def test_repeated_text_is_degenerate_and_plain_text_is_not() -> None:
    assert is_degenerate("the cat sat on the mat and " * 10, 0.2)
    assert not is_degenerate("Rain falls from clouds when drops of water grow too heavy to stay there.", 0.2)


def test_a_near_copy_is_no_new_text() -> None:
    seen = Deduplicator(max_similarity=0.3)
    words = [f"word{i}" for i in range(40)]
    assert seen.is_new(" ".join(words))
    assert not seen.is_new(" ".join([*words[:38], "other", "end"]))
    assert seen.is_new(" ".join(reversed(words)))


def test_jaccard_similarity_is_that_of_the_sets_of_four_grams() -> None:
    # 8 words: grams 1-5; the copy shares the first 4 of its 5 grams: 4 / 6.
    first, second = "a b c d e f g h", "a b c d e f g x"
    near, far = Deduplicator(0.66), Deduplicator(0.67)
    near.is_new(first)
    far.is_new(first)
    assert not near.is_new(second)
    assert far.is_new(second)


def test_a_kill_while_a_half_line_is_dropped_loses_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sample._Partial(tmp_path / "c.partial", "these settings")
    kept.read()
    kept.append(["a text"])
    kept.path.write_text(kept.path.read_text() + '["half a li')  # as kill -9 leaves it

    def killed(path: Path, text: str, **_: object) -> int:
        path.write_bytes(text[: len(text) // 2].encode())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", killed)
        kept.read()
    assert kept.read() == [["a text"]]


def test_a_sampled_file_is_a_corpus_whose_topics_are_the_areas(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    out = sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", CONFIG)
    found = load_corpus(str(out)).documents
    assert [d.topic for d in found] == [area.key for area in AREAS for _ in range(4)]
    assert found[3].text.startswith("User: ")  # dialogue, laid out as conversations are
