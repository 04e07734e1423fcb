"""Token ids as readable text, one by one.

Decoding a token alone drops its leading space (SentencePiece) or gives half a character (byte-level BPE).
Here each is decoded behind an ordinary token, whose text is then cut off; bytes that are no character by
themselves are written as <0xE2>. What comes out is always valid UTF-8, and mostly joins to the original text.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from transformers import PreTrainedTokenizerBase


class TokenTexts:
    """Texts of a tokenizer's ids; each id is decoded once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._known: dict[int, str] = {}
        self._before = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self._cut = len(self._decode([self._before])[0])

    def texts(self, ids: Iterable[int] | np.ndarray) -> list[str]:
        """The text of each id, leading spaces kept."""
        wanted = [int(i) for i in ids]
        new = sorted(set(wanted) - self._known.keys())
        for token, text in zip(new, self._decode([[*self._before, i] for i in new]), strict=True):
            self._known[token] = text[self._cut :]
        for token in new:
            if "\ufffd" in self._known[token]:
                self._known[token] = self._bytes_shown(token)
        return [self._known[i] for i in wanted]

    def _decode(self, sequences: list[list[int]]) -> list[str]:
        # One at a time: batch decoding pads, and some tokenizers have no padding token.
        decode = self._tokenizer.decode
        return [
            str(decode(s, skip_special_tokens=False, clean_up_tokenization_spaces=False)) for s in sequences
        ]

    def _bytes_shown(self, token: int) -> str:
        """A piece of a multi-byte character, its bytes in hexadecimal."""
        name = str(self._tokenizer.convert_ids_to_tokens(token))
        if any(char not in _BYTE_OF for char in name):  # <0xE2> already, or a real U+FFFD
            return name.encode("utf-8", "replace").decode()
        raw = bytes(_BYTE_OF[char] for char in name)
        return "".join(
            f"<0x{ord(char) - 0xDC00:02X}>" if 0xDC80 <= ord(char) <= 0xDCFF else char
            for char in raw.decode("utf-8", "surrogateescape")
        )


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins of the 256 bytes (Radford et al. 2019), inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTE_OF = _byte_alphabet()
