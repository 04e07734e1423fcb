"""A labelling server in each of its modes: the label is kept, or its failure is listed; no run crashes, ever."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from mneme.interpret.clients.asking import Budget
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.clients.server import server_chat
from mneme.interpret.explainers.explain import LabelRun, explain
from mneme.interpret.explainers.prompt import read_explanation

from .chat_server import ChatServer, completion, serving
from .server_modes import (
    FAILED,
    GOOD,
    LABELLED,
    always,
    body,
    error,
    refuses,
    wants_new_parameters,
    whole,
)

KEY = "sk-a-very-secret-key"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(
    server: ChatServer,
    folder: Path,
    n: int = 3,
    *,
    timeout: float = 60,
    reply_tokens: int = 300,
    **options: Any,
) -> LabelRun:
    prompts = {j: Prompt("Name it.", json.dumps({"examples": [f"text {j}"]})) for j in range(n)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.url)
        chat = server_chat("m", timeout=timeout, reply_tokens=reply_tokens)
    return explain(prompts, chat, folder, **{"wait": 0.01, "concurrency": 1, **options})


def reasons(run: LabelRun) -> list[str]:
    return run.failures.reason.unique().tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("mode", LABELLED)
def test_a_good_label_is_kept_whatever_stands_around_it(mode: str, tmp_path: Path) -> None:
    with serving(LABELLED[mode]) as server:
        run = ask(server, tmp_path)
        assert set(run.labels.label) == {"names of rivers"} and reasons(run) == []
        assert 0 < run.usage.tokens < 1000 and run.usage.unsure == 0
        again = ask(server, tmp_path)
        assert len(server.requests) == 3 and again.labels.equals(run.labels)


@pytest.mark.parametrize("mode", FAILED)
def test_what_is_no_label_is_a_failure_with_its_reason(mode: str, tmp_path: Path) -> None:
    behaviour, reason = FAILED[mode]
    with serving(behaviour) as server:
        for _ in range(2):  # a kept reply stops no later run
            run = ask(server, tmp_path, 1)
            assert run.labels.empty and reasons(run) == [reason]


def test_confidences_are_read_and_never_cost_a_label() -> None:
    found = {
        given: read_explanation(GOOD.replace("0.9", given)).confidence
        for given in ("0.25", '"0.25"', '"25%"', "25", '" 25 % "', "1", "7", "-1", "101", '"%"', "true", "null")
    }  # fmt: skip
    assert found == {
        "0.25": 0.25, '"0.25"': 0.25, '"25%"': 0.25, "25": 0.25, '" 25 % "': 0.25, "1": 1.0,
        "7": None, "-1": None, "101": None, '"%"': None, "true": None, "null": None,
    }  # fmt: skip


def test_what_a_server_refuses_is_put_otherwise_and_remembered(tmp_path: Path) -> None:
    with serving(wants_new_parameters) as server:
        run = ask(server, tmp_path, 4)
        assert len(run.labels) == 4 and len(server.requests) == 6  # two refusals, once
        bills = [headers["idempotency-key"] for headers in server.headers]
        last = server.requests[-1]
    assert last["max_completion_tokens"] == 300 and not {"max_tokens", "temperature"} & set(last)
    assert len(set(bills)) == 6  # another request is never billed under the number of one before


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (None, "System role not supported"),
        (None, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (None, "Only user and assistant roles are supported!"),
        (None, "Developer instruction is not enabled for models/g-1"),
        (
            "messages[0].role",
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        ),
    ],
)
@pytest.mark.parametrize("status", [400, 500])
def test_instructions_go_before_the_question_where_no_system_role_is_taken(
    tmp_path: Path, param: str | None, message: str, status: int
) -> None:
    def behaviour(number: int, request: dict[str, Any]) -> Any:
        roles = [said["role"] for said in request["messages"]]
        return GOOD if roles == ["user"] else error(status, message, param=param)

    with serving(behaviour) as server:
        assert len(ask(server, tmp_path, 2).labels) == 2 and len(server.requests) == 3
        said = server.requests[-1]["messages"][0]["content"]
    assert said.startswith("Name it.\n\n") and "text 1" in said


def test_the_same_refusal_again_and_again_stops_the_run_in_the_servers_own_names(tmp_path: Path) -> None:
    behaviour = refuses(param="model", message=f"no {KEY}", unless=lambda request: False)
    with serving(behaviour) as server:
        run = ask(server, tmp_path, 20)
        assert len(server.requests) == 3
    told = "the server answered 400 (param model, code unsupported_parameter)"
    assert reasons(run) == [told, f"not asked: {told}"] and len(run.failures) == 20


def test_a_refusal_of_one_question_stops_no_other(tmp_path: Path) -> None:
    with serving(always(error(400, "no", code="content_filter"))) as server:
        assert len(ask(server, tmp_path, 6).failures) == len(server.requests) == 6


def test_words_of_the_server_that_hold_the_key_are_not_told(tmp_path: Path) -> None:
    with serving(always(error(400, KEY, param=f"x.{KEY}", code=f"{KEY}\n"))) as server:
        assert reasons(ask(server, tmp_path, 1)) == ["the server answered 400"]


def test_a_reply_that_was_all_thought_is_told_and_asked_of_few(tmp_path: Path) -> None:
    spent = {"prompt_tokens": 90, "completion_tokens": 2000}
    thinks = whole(body("", usage=spent, finish="length", reasoning_content="Hm."))
    with serving(thinks) as server:
        run = ask(server, tmp_path, 20, reply_tokens=2000)
        assert len(server.requests) == 3 and server.requests[0]["max_tokens"] == 2000
        assert reasons(run)[0] == "empty reply: its 2,000 tokens were used up, raise labels.max_tokens"
    with serving(whole(body("<think>Hm", usage="null", finish="length"))) as server:
        assert "raise labels.max_tokens" in reasons(ask(server, tmp_path / "b", 1))[0]


def test_a_count_below_zero_gives_no_budget_back(tmp_path: Path) -> None:
    """Each once gave a million tokens back: all ten questions were sent."""
    sent = []
    for mode in ("plain", "usage negative"):
        with serving(LABELLED[mode]) as server:
            run = ask(server, tmp_path / mode, 10, budget=Budget(620))
            sent.append(len(server.requests))
        assert run.failures.reason.str.contains("budget of tokens").sum() == 10 - sent[-1]
    assert sent[0] == 3 and sent[1] < 10  # counted by the server, and estimated, which is less here


def _dripping(stop: threading.Event, *, headers: bool) -> Any:
    """Writes a byte now and then, for ever."""

    def behave(number: int, request: dict[str, Any]) -> Any:
        def write(handler: Any) -> None:
            handler.wfile.write(
                b"HTTP/1.1 200 OK\r\n" + (b"" if headers else b"Content-Length: 9999\r\n\r\n")
            )
            while not stop.wait(0.05):
                handler.wfile.write(b"X" if headers else b" ")
                handler.wfile.flush()

        return write

    return behave


@pytest.mark.parametrize("headers", [True, False])
def test_an_answer_that_drips_is_late_as_a_whole(tmp_path: Path, headers: bool) -> None:
    stop = threading.Event()
    with serving(_dripping(stop, headers=headers)) as server:
        began = time.monotonic()
        run = ask(server, tmp_path, 2, timeout=0.5, concurrency=2)
        took = time.monotonic() - began
        stop.set()
    assert reasons(run) == ["the server did not answer in time"] and took < 60


def _sends(*chunks: bytes, headers: bytes = b"") -> Any:
    def write(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n")
        for chunk in chunks:
            handler.wfile.write(chunk)
        handler.close_connection = True

    return lambda number, request: write


def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    with serving(_sends(*[b" " * 2**20] * 40)) as server:
        assert reasons(ask(server, tmp_path, 1)) == ["the server's answer is longer than 16,777,216 bytes"]


def test_an_answer_that_is_compressed_is_refused(tmp_path: Path) -> None:
    with serving(_sends(b"\x1f\x8b", headers=b"Content-Encoding: gzip\r\n")) as server:
        assert reasons(ask(server, tmp_path, 1)) == [
            "the server's answer is compressed, which nobody asked for"
        ]
        assert server.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_host_is_refused(tmp_path: Path, status: int) -> None:
    with serving(always(GOOD)) as other:
        with serving(
            lambda n, request: (status, {"Location": f"{other.url}/chat/completions"}, "")
        ) as server:
            run = ask(server, tmp_path, 5)
            assert len(server.requests) == 1
        assert not other.requests and reasons(run)[0].startswith("the server redirects to another host")


def test_a_redirect_on_the_same_host_is_followed(tmp_path: Path) -> None:
    with serving(lambda n, request: (307, {"Location": "/other"}, "") if n == 0 else GOOD) as server:
        assert len(ask(server, tmp_path, 1).labels) == 1
        assert server.paths == ["/v1/chat/completions", "/other"]


@pytest.mark.parametrize("repeated", [KEY, "".join(f"\\u{ord(c):04x}" for c in KEY)])
def test_a_reply_that_repeats_the_key_is_not_kept(tmp_path: Path, repeated: str) -> None:
    with serving(always(GOOD.replace("names of rivers", repeated))) as server:
        run = ask(server, tmp_path, 2)
    assert run.labels.empty and reasons(run) == ["the reply repeats the key: it is not kept"]
    assert not any(tmp_path.iterdir()) and run.usage.unsure == 2


def test_a_server_that_can_not_be_reached_is_tried_for_one_question(tmp_path: Path) -> None:
    with serving(always(GOOD)) as server:
        pass
    run = ask(server, tmp_path, 20)
    told = "the server can't be reached"
    assert reasons(run) == [told, f"not asked: {told}"] and run.usage.tokens == 0


def test_a_reply_that_is_cut_off_says_so(tmp_path: Path) -> None:
    found = json.loads(completion(GOOD[:-5]))
    found["usage"]["completion_tokens"] = 300
    with serving(whole(json.dumps(found))) as server:
        (reason,) = reasons(ask(server, tmp_path, 1))
    assert re.fullmatch(
        r"the reply is not JSON: its 300 tokens were used up, raise labels\.max_tokens", reason
    )
