"""A causal language model in this process as explainer: any folder with a chat template."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.architectures import tiny_model
from tiny_models import save, tiny_llama, tiny_tokenizer
from transformers import PreTrainedModel

from mneme._util.errors import ModelError
from mneme.interpret.clients.base import ReplyError
from mneme.interpret.clients.factory import open_chat
from mneme.interpret.clients.local import LocalChat
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.explainers.explain import explain

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_llama()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    path = tmp_path_factory.mktemp("models") / "small-one"
    save(model, path, tokenizer)
    return path


def test_it_answers_greedily_and_counts_its_tokens(folder, model) -> None:
    assert open_chat(f"local:{folder}").method == "local:small-one"
    chat = LocalChat(str(folder), reply_tokens=8)
    one, again = (chat.reply("a b", "c d e") for _ in range(2))
    assert one == again and one.prompt_tokens > 0 and 0 < one.reply_tokens <= chat.reply_tokens


def test_a_reply_that_is_no_label_is_a_failure(folder, tmp_path) -> None:
    chat = LocalChat(str(folder), reply_tokens=8)
    run = explain({3: Prompt("a", "b"), 1: Prompt("c", "d")}, chat, tmp_path)
    assert run.labels.empty and run.failures.latent.tolist() == [3, 1]
    assert set(run.failures.method) == {"local:small-one"}


def test_a_prompt_longer_than_the_model_reads_is_told_not_cut(folder, model) -> None:
    longest = model.config.max_position_embeddings
    with pytest.raises(ReplyError, match=f"too long for a model of {longest}"):
        LocalChat(str(folder)).reply("a", "b " * longest)


@pytest.mark.parametrize(("kind", "longest"), [("mpt", 128), ("roberta", 126)])
def test_what_a_model_reads_is_not_only_what_its_config_calls_so(
    kind: str, longest: int, tmp_path: Path
) -> None:
    """MPT calls it max_seq_len and ends there or fails; RoBERTa's table begins two rows late."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    chat = LocalChat(save(tiny_model(kind), tmp_path / kind, tokenizer), reply_tokens=8)
    fits = longest - chat.reply_tokens - len("a  ")
    assert chat.reply("a", "b" * fits).prompt_tokens == longest - chat.reply_tokens
    with pytest.raises(ReplyError, match=f"too long for a model of {longest}"):
        chat.reply("a", "b" * (fits + 1))


def test_a_model_of_several_streams_may_write_labels(tmp_path: Path) -> None:
    """mneme reads no such pair, but asks any that writes."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    chat = LocalChat(save(tiny_model("gemma3n_text"), tmp_path / "model", tokenizer), reply_tokens=4)
    assert chat.reply("a", "b").reply_tokens > 0


def test_a_model_without_a_chat_template_is_refused(model, tmp_path) -> None:
    save(model, tmp_path / "plain", tiny_tokenizer())
    with pytest.raises(ModelError, match="chat template"):
        LocalChat(str(tmp_path / "plain"))
