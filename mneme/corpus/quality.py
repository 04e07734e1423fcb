"""Which generated text is fit for a corpus: boilerplate goes, repetition and near-copies are refused."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

N_GRAM = 4  # words

_OPENING = re.compile(
    r"^\s*(?:(?:sure|certainly|absolutely|of course|great|okay)\b[^\n.!:]*[.!:,]\s*"
    r"|(?:here(?:'s| is| are)|below (?:is|are))\b[^\n:]{0,120}:\s*"
    r"|i(?:'d| would) be (?:happy|glad|delighted)[^\n.!:]*[.!:]\s*)+",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"\[[^\]\n]{0,40}\b(?:name|your|address|date|city|insert|e-?mail|phone|company)\b[^\]\n]{0,40}\]", re.I
)
_ABOUT_ITSELF = re.compile(
    r"\b(?:as an ai|language model|ai assistant|smollm|hugging ?face|i(?:'m| am) sorry|chatbot|-(?:focused|powered) ai"
    r"|i(?:'m| am) (?:here to help|designed to|not able to|unable to|not equipped)|an ai\b"
    r"|i (?:can't|cannot) (?:assist|help|provide|fulfill))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)|```\s*$")


def clean(generation: str) -> str | None:
    """The text without openings ("Sure, here is ...:"), lines with blanks, or a last half sentence.

    None when it speaks about the model itself or refuses: that is no text of its topic.
    """
    if _ABOUT_ITSELF.search(generation):
        return None
    text = _OPENING.sub("", generation.strip())
    text = "\n".join(line.rstrip() for line in text.split("\n") if not _PLACEHOLDER.search(line)).strip()
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    if ends and ends[-1] >= 0.6 * len(text):
        text = text[: ends[-1]]
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def up_to(text: str, n: int, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text, or as many of its whole sentences (else lines) as fit into n tokens; None where none fits."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) <= n:
        return text
    head = str(tokenizer.decode(ids[:n], skip_special_tokens=True))
    ends = [match.end() for match in _SENTENCE_END.finditer(head)] or [head.rfind("\n")]
    return head[: ends[-1]].rstrip() if ends[-1] > 0 else None


def is_degenerate(text: str, max_repetition: float) -> bool:
    """Whether more than `max_repetition` of its word 4-grams are repeats of earlier ones."""
    grams = _grams(text)
    if not grams:
        return True
    return 1 - len(set(grams)) / len(grams) > max_repetition


class Deduplicator:
    """Refuses a text that another resembles: Jaccard similarity of their sets of word 4-grams."""

    def __init__(self, max_similarity: float) -> None:
        self.max_similarity = max_similarity
        self._holders: dict[str, list[int]] = {}  # gram -> the texts that hold it
        self._sizes: list[int] = []

    def is_new(self, text: str) -> bool:
        """Whether no text seen so far is nearer than the limit; a new text is remembered."""
        grams = set(_grams(text))
        shared: Counter[int] = Counter()
        for gram in grams:
            shared.update(self._holders.get(gram, ()))
        for other, n in shared.items():
            if n / (len(grams) + self._sizes[other] - n) > self.max_similarity:
                return False
        for gram in grams:
            self._holders.setdefault(gram, []).append(len(self._sizes))
        self._sizes.append(len(grams))
        return True


def _grams(text: str) -> list[str]:
    words = re.findall(r"\w+", text.lower())
    return [" ".join(words[i : i + N_GRAM]) for i in range(len(words) - N_GRAM + 1)]
