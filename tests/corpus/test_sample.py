"""A corpus sampled from a model: balanced, clean, without near-copies, resumable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import zstandard
from tiny_models import tiny_llama, tiny_tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mneme._util.errors import CorpusError
from mneme.corpus import sample
from mneme.corpus.quality import Deduplicator, clean, is_degenerate
from mneme.corpus.sample import SampleConfig, sample_corpus
from mneme.corpus.topics import Area, load_topics

AREAS = [Area(key, key, ("one", "two", "three"), ("essay", "news")) for key in ("a", "b", "c")]
# Random models write random bytes: few words, so the filters on words are wide open here.
CONFIG = SampleConfig(
    n_tokens=900,
    max_new_tokens=24,
    min_tokens=2,
    batch=2,
    max_repetition=1.0,
    max_similarity=1.0,
    max_rounds=40,
)


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny_llama(layers=1, width=8)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(autouse=True)
def writes_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bytes become words, so that there are word 4-grams; the drawing stays the model's."""
    real = sample._generate

    def generate(*args: object) -> list[str]:
        return [" ".join(f"w{byte}" for byte in text.encode()[:20]) for text in real(*args)]  # type: ignore[arg-type]

    monkeypatch.setattr(sample, "_generate", generate)


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in zstandard.decompress(path.read_bytes()).decode().splitlines()]


def test_every_area_gets_its_share_and_the_total_is_near_what_was_asked(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    config = SampleConfig(**{**vars(CONFIG), "n_tokens": 2400})
    documents = read(sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", config))
    tokens = {area.key: 0 for area in AREAS}
    for document in documents:
        tokens[document["topic"]] += len(tokenizer(document["text"], add_special_tokens=False)["input_ids"])
    assert all(700 < n < 900 for n in tokens.values()), tokens


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
    generate, calls = sample._generate, []

    def dies_at_the_third(*args: object) -> list[str]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*args)  # type: ignore[arg-type]

    out = tmp_path / "cut.jsonl.zst"
    monkeypatch.setattr(sample, "_generate", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        sample_corpus(model, tokenizer, AREAS, out, CONFIG)
    assert not out.exists()
    partial = tmp_path / "cut.jsonl.zst.partial"
    partial.write_text(partial.read_text() + '["half a li')  # as kill -9 leaves it
    monkeypatch.setattr(sample, "_generate", generate)
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
    strict = SampleConfig(**{**vars(CONFIG), "min_tokens": 1000, "max_rounds": 1})
    with pytest.raises(CorpusError, match="usable tokens"):
        sample_corpus(model, tokenizer, AREAS, tmp_path / "c.jsonl.zst", strict)
    assert not (tmp_path / "c.jsonl.zst").exists()


def test_the_nucleus_holds_the_likeliest_tokens_up_to_top_p() -> None:
    probability = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
    config = SampleConfig(temperature=1.0, top_p=0.7, top_k=3)
    kept = sample._Nucleus(config)(torch.zeros(1, 1), probability.log()).softmax(-1)
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no areas"),
        ("[a]\nname = 'x'\n", "needs topics"),
        ("[a]\ntopics = ['x']\nforms = ['limerick']\n", "limerick"),
        ("not toml", "can't be read"),
    ],
)
def test_a_bad_topics_file_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "topics.toml").write_text(content)
    with pytest.raises(CorpusError, match=message):
        load_topics(tmp_path / "topics.toml")


def test_a_missing_topics_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="can't be read"):
        load_topics(tmp_path / "none.toml")


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
