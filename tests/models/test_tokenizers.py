"""Whether two models' tokenizers mean the same: only what is read counts."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
from tiny_models import VOCABULARY, changed_in_layer, save, tiny_llama, tiny_tokenizer
from tokenizers import AddedToken, normalizers, processors
from transformers import PreTrainedTokenizerFast

from mneme._util.errors import PairError
from mneme.models import load_pair, pair_models
from mneme.models.tokenizers import check_tokenizers


def adding(template: str) -> PreTrainedTokenizerFast:
    """The tiny tokenizer, adding special tokens to every text."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def with_added(*tokens: str, special: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens])
    return tokenizer


@pytest.mark.parametrize("template", ["$A </s>", "<s> $A", "<s> $A </s>"])
def test_a_tune_that_adds_eos_or_bos_to_every_text_is_compared(template: str, tmp_path: Path) -> None:
    base = save(tiny_llama(), tmp_path / "base", tiny_tokenizer())
    tuned = save(changed_in_layer(tiny_llama(), 2), tmp_path / "tuned", adding(template))
    assert load_pair(base, tuned, device="cpu").first_changed_layer == 2
    assert load_pair(tuned, base, device="cpu").first_changed_layer == 2


def test_special_tokens_may_be_renamed_or_left_out() -> None:
    check_tokenizers(with_added("<reserved_0>"), with_added("<|im_start|>"), "base", "tuned")
    check_tokenizers(with_added("<pad>"), tiny_tokenizer(), "base", "tuned")


def test_a_token_that_text_is_made_of_keeps_its_id() -> None:
    with pytest.raises(PairError, match=r"1 tokens of the base .*'<think>'"):
        check_tokenizers(with_added("<think>", special=False), tiny_tokenizer(), "base", "tuned")
    with pytest.raises(PairError, match="256 tokens of the base"):
        check_tokenizers(tiny_tokenizer(), tiny_tokenizer(first=9), "base", "tuned")


def test_the_same_vocabulary_cut_otherwise_is_refused() -> None:
    lower = tiny_tokenizer()
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(PairError, match="cut the same text into different tokens"):
        check_tokenizers(tiny_tokenizer(), lower, "base", "tuned")


def test_added_tokens_without_an_embedding_are_left_to_be_text() -> None:
    tokenizer = with_added("<pad>")
    tokenizer.pad_token = "<pad>"
    given = copy.deepcopy(tokenizer)
    pair = pair_models(tiny_llama(), changed_in_layer(tiny_llama(), 1), tokenizer)
    assert len(pair.tokenizer) == VOCABULARY
    assert pair.tokenizer.pad_token != "<pad>"
    assert (
        pair.tokenizer("<pad>", add_special_tokens=False)["input_ids"]
        == tiny_tokenizer()("<pad>", add_special_tokens=False)["input_ids"]
    )
    assert tokenizer.get_vocab() == given.get_vocab()
