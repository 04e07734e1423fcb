"""A tiny model of each family of decoders is read as a plain pass reads it, adapters too; `make conformance`: all."""

from __future__ import annotations

import re

import peft
import pytest
import transformers

from conformance import adapters
from conformance.__main__ import TABLE
from conformance.architectures import ARCHITECTURES, tiny_model
from conformance.checks import examine

# One of each way to be built: attention and its variants, mixtures, state spaces, hybrids, shared keys and values.
FAMILIES = (
    "llama",
    "gpt2",
    "gemma2",
    "gemma4_text",
    "gpt_neox",
    "bloom",
    "mpt",
    "opt",
    "openai-gpt",
    "phi",
    "cohere2",
    "qwen3_moe",
    "deepseek_v3",
    "lfm2",
    "rwkv",
    "mamba",
    "git",
    "roberta",
)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_read_as_it_runs(kind: str) -> None:
    verdict = examine(kind)
    assert verdict.status == "read" and verdict.ok, verdict
    expected = 0 if kind == "gemma4_text" else 2  # its last layers take keys and values from earlier ones
    assert verdict.n_shared == expected


@pytest.mark.parametrize("kind", adapters.KINDS)
def test_an_adapter_of_any_kind_is_merged_into_what_it_computes_or_refused(kind: str) -> None:
    merges = [adapters.merge(kind, base) for base in adapters.BASES]
    assert all(merge.ok for merge in merges), [(merge, merge.wrong) for merge in merges]
    if kind.startswith("LORA"):
        assert {merge.status for merge in merges} == {"merged"}
    if kind in ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"):  # virtual tokens are no weights
        assert {merge.status for merge in merges} == {"refused"}


def test_the_table_is_of_what_is_registered() -> None:
    """`make conformance` makes it anew, with the versions it names."""
    text = TABLE.read_text(encoding="utf-8")
    lock = (TABLE.parents[1] / "requirements.lock").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^(transformers|peft)==([\w.]+)", lock, flags=re.MULTILINE))
    assert f"transformers {locked['transformers']}, PEFT {locked['peft']}" in text, (
        "a new lock: `make conformance`"
    )
    if (transformers.__version__, peft.__version__) != (locked["transformers"], locked["peft"]):
        pytest.skip("other versions than the lock's are installed: they may have other architectures")
    rows = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    assert rows >= {*ARCHITECTURES, *adapters.KINDS}
    assert "off by" not in text and "merged: " not in text


def test_two_of_the_bases_have_a_tie() -> None:
    """Without one, an adapter of an end has nothing to spill over to."""
    tied = [base for base in adapters.BASES if tiny_model(base).config.get_text_config().tie_word_embeddings]
    assert tied == ["gpt2", "gemma2"]
