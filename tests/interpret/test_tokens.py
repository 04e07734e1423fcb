from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mneme.interpret.tokens import TokenTexts

TEXT = "The naïve café — 数学 and 🦠\n\tdef f(x):  return x"


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>"])
    tokenizer.train_from_iterator(["The cafe and the return of the def"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


@pytest.fixture(scope="module")
def sentence_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", *bytes_])
    tokenizer.train_from_iterator(["a The cafe and the return of the def"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def test_pieces_keep_spaces_and_show_lone_bytes(byte_level) -> None:
    texts = TokenTexts(byte_level)
    ids = byte_level(TEXT)["input_ids"]
    pieces = texts.texts(ids)
    assert " and" in pieces and "\n" in "".join(pieces)
    assert "<0xF0>" in pieces and "\ufffd" not in "".join(pieces)
    plain = byte_level("The cafe and  return\n")["input_ids"]
    assert "".join(texts.texts(plain)) == "The cafe and  return\n"


def test_leading_spaces_of_sentencepiece_are_kept(sentence_piece) -> None:
    texts = TokenTexts(sentence_piece)
    ids = sentence_piece("The return 数")["input_ids"]
    pieces = texts.texts(ids)
    assert "".join(pieces[:-3]).strip() == "The return" and " return" in "".join(pieces)
    assert pieces[-3:] == ["<0xE6>", "<0x95>", "<0xB0>"]


def test_every_piece_of_the_vocabulary_is_valid_text(byte_level, sentence_piece) -> None:
    for tokenizer in (byte_level, sentence_piece):
        for piece in TokenTexts(tokenizer).texts(range(len(tokenizer))):
            piece.encode("utf-8")
