"""Two models, one tokenizer: whether the base's ids mean the same to the tuned model.

Only what is read counts: the harvest cuts text with the base's tokenizer, without special tokens, and puts one BOS in
front. A tune may add an EOS to every text, rename reserved tokens or give itself new ones.
"""

from __future__ import annotations

import copy
import json

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from mneme._util.errors import PairError

_SAMPLE = "Two models, one text: naïve café, 数学, 3.14 * r**2, `def f(x):`\n\tDoes it read the same?  Yes!"


def check_tokenizers(
    base: PreTrainedTokenizerBase, tuned: PreTrainedTokenizerBase, base_id: str, tuned_id: str
) -> None:
    """Every token that the base's tokenizer makes of text keeps its id, and a sample is cut alike. PairError."""
    known = tuned.get_vocab()
    special = {token.content for token in base.added_tokens_decoder.values() if token.special}
    moved = [
        token
        for token, index in base.get_vocab().items()
        if token not in special and known.get(token) != index
    ]
    ids = [tokenizer(_SAMPLE, add_special_tokens=False)["input_ids"] for tokenizer in (base, tuned)]
    if moved:
        raise PairError(
            f"{base_id} and {tuned_id} have different vocabularies ({len(moved)} tokens of the base have another id or"
            f" none, first {moved[0]!r}): compare a model with its own fine-tune"
        )
    if ids[0] != ids[1]:
        raise PairError(
            f"{base_id} and {tuned_id} cut the same text into different tokens: give both the same tokenizer, or"
            " compare a model with its own fine-tune"
        )


def fitted(tokenizer: PreTrainedTokenizerBase, rows: int) -> PreTrainedTokenizerBase:
    """The tokenizer without added tokens that have no embedding; itself where there are none.

    Libraries add tokens that the model never had (GPT-2's <|endoftext|> to any vocabulary of its kind). They are in no
    text that was meant, but a text that spells one out would ask for a row that isn't there.
    """
    beyond = {token.content for i, token in tokenizer.added_tokens_decoder.items() if i >= rows}
    if not beyond or not hasattr(tokenizer, "backend_tokenizer"):
        return tokenizer
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["added_tokens"] = [token for token in settings["added_tokens"] if token["id"] < rows]
    lesser = copy.deepcopy(tokenizer)
    lesser._tokenizer = Tokenizer.from_str(json.dumps(settings))
    for name, token in tokenizer.special_tokens_map.items():
        if isinstance(token, str) and token in beyond:
            setattr(lesser, name, None)
    return lesser
