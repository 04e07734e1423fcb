"""What labelling servers answer, mode by mode: the stub server (chat_server.py) behaves as one of these.

Each mode is a behaviour of `serving`. `GOOD` is a reply that passes the checks. Modes were collected from public bug
reports of programs that ask such servers.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .chat_server import Behaviour, completion

GOOD = json.dumps({"label": "names of rivers", "sentence": "Rivers.", "role": "detects", "confidence": 0.9})
DRAFT = json.dumps({"label": "a draft", "sentence": "Perhaps.", "role": "mixed", "confidence": 0.1})
_NO = object()


def changed(**fields: Any) -> str:
    """GOOD with other fields; a field that is `_NO` is left out."""
    found = {**json.loads(GOOD), **fields}
    return json.dumps({key: value for key, value in found.items() if value is not _NO})


def body(reply: Any = GOOD, *, usage: Any = None, finish: str = "stop", **message: Any) -> str:
    """A completion whose usage, end or message is unusual."""
    found = json.loads(completion(""))
    found["choices"][0]["message"] = {"role": "assistant", "content": reply, **message}
    found["choices"][0]["finish_reason"] = finish
    if usage == "missing":
        del found["usage"]
    elif usage is not None:
        found["usage"] = None if usage == "null" else usage
    return json.dumps(found)


def error(status: int, message: str = "no", **fields: Any) -> tuple[int, dict[str, str], str]:
    """An error as servers put it."""
    return status, {}, json.dumps({"error": {"message": message, "type": "invalid_request_error", **fields}})


def always(reply: Any) -> Behaviour:
    return lambda number, request: reply


def whole(text: str) -> Behaviour:
    """The whole body of the answer."""
    return lambda number, request: (200, {}, text)


LABELLED: dict[str, Behaviour] = {
    "plain": always(GOOD),
    "think": always(f"<think>Perhaps {DRAFT}? No.</think>\n\n{GOOD}"),
    "think without its beginning": always(f"Perhaps {DRAFT}? No. </think> {GOOD}"),
    "think twice": always(f"<think>{DRAFT}</think> hm <think>{{</think>{GOOD}"),
    "Thinking": always(f"<Thinking>{DRAFT}</Thinking>{GOOD}"),
    "draft first": always(f"Draft: {DRAFT}\nBetter: {GOOD}"),
    "code fence": always(f"```json\n{GOOD}\n```"),
    "fence and words": always(f"Sure, {{here}}:\n```\n{GOOD}\n```\nTell me {{more}}."),
    "something after it": always(f'{GOOD}\n{{"note": "done"}}'),
    "list content": whole(body([{"type": "text", "text": GOOD}])),
    "list of thought and text": whole(
        body([{"type": "thinking", "thinking": [{"type": "text", "text": DRAFT}]}, {"type": "text", "text": GOOD}])
    ),
    "reasoning apart": whole(body(reasoning_content=DRAFT)),
    "usage null": whole(body(usage="null")),
    "usage missing": whole(body(usage="missing")),
    "usage empty": whole(body(usage={})),
    "usage partial": whole(body(usage={"prompt_tokens": 90})),
    "usage as text": whole(body(usage={"prompt_tokens": "ninety", "completion_tokens": "10"})),
    "usage negative": whole(body(usage={"prompt_tokens": -1000000, "completion_tokens": -5})),
    "usage infinite": whole(body().replace('"prompt_tokens": 90', '"prompt_tokens": 1e999')),
    "usage not a number": whole(body().replace('"prompt_tokens": 90', '"prompt_tokens": NaN')),
    "usage a list": whole(body(usage=[1, 2])),
    "confidence in per cent": always(changed(confidence="85%")),
    "confidence of 85": always(changed(confidence=85)),
    "confidence in words": always(changed(confidence="high")),
    "confidence missing": always(changed(confidence=_NO)),
    "confidence null": always(changed(confidence=None)),
    "confidence of 400 digits": always(GOOD.replace("0.9", "9" * 400)),
    "confidence NaN": always(GOOD.replace("0.9", "NaN")),
    "lone surrogates": always(GOOD.replace("Rivers.", "Rivers \\ud800.")),
    "raw lone surrogates": whole(completion(GOOD).replace("Rivers.", "Rivers \\ud800.")),
    "no finish reason": whole(body(finish="")),
    "byte order mark": whole("\ufeff" + completion(GOOD)),
    "white space before": whole("\n\n  " + completion(GOOD)),
    "two choices": whole(completion(GOOD).replace('"choices": [', '"choices": [' + json.dumps(
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": GOOD}}) + ", ")),
    "unknown fields": whole(completion(GOOD).replace('"id": "x"', '"id": null, "x_groq": {"a": [1]}')),
}  # fmt: skip
"""Modes whose label is kept."""

FAILED: dict[str, tuple[Behaviour, str]] = {
    "nothing": (always(""), "empty reply"),
    "prose": (always("I would rather not."), "the reply is not JSON"),
    "a megabyte of braces": (always("{" * 1_000_000), "the reply is not JSON"),
    "a megabyte of braces and quotes": (always('{"' * 500_000), "the reply is not JSON"),
    "a megabyte of nested objects": (always('{"a":' * 200_000), "the reply is not JSON"),
    "a megabyte of nested braces": (always("{" * 500_000 + "}" * 500_000), "the reply is not JSON"),
    "braces five thousand deep": (always('{"a":' * 5000 + "1" + "}" * 5000), "the reply is not JSON"),
    "null content": (whole(body(None)), "empty reply"),
    "no choices": (whole(json.dumps({"choices": []})), "the server's answer can't be read"),
    "content a number": (whole(body(7)), "the server's answer can't be read"),
    "a list": (whole("[]"), "the server's answer can't be read"),
    "no JSON": (whole("<html>Sign in</html>"), "the server's answer can't be read"),
    "body nested": (whole("[" * 100_000), "the server's answer can't be read"),
    "body of digits": (whole('{"choices": ' + "9" * 10_000 + "}"), "the server's answer can't be read"),
    "error with status 200": (
        always((200, {}, error(200, "boom", code="server_error")[2])),
        "the server answered 200 with an error (code server_error)",
    ),
    "error of text with status 200": (always((200, {}, '{"error": "boom"}')), "the server answered 200 with an error"),
    "think that never ends": (always(f"<think>Perhaps {DRAFT}"), "the reply ends before the model's reasoning does"),
}  # fmt: skip
"""Modes whose label fails: the behaviour, and the reason that is listed."""


def refuses(*, param: str | None, message: str, unless: Callable[[dict[str, Any]], bool]) -> Behaviour:
    """400, naming a parameter, unless the request is as the server wants it."""

    def behave(number: int, request: dict[str, Any]) -> Any:
        return GOOD if unless(request) else error(400, message, param=param, code="unsupported_parameter")

    return behave


def wants_new_parameters(number: int, request: dict[str, Any]) -> Any:
    """As hosted reasoning models: no `max_tokens`, no temperature but 1, no instructions as `system`."""
    if "max_tokens" in request:
        hint = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return error(400, hint, param="max_tokens", code="unsupported_parameter")
    if request.get("temperature", 1) != 1:
        hint = "Unsupported value: 'temperature' does not support 0. Only the default (1) is supported."
        return error(400, hint, param="temperature", code="unsupported_value")
    return GOOD if request.get("max_completion_tokens") else error(400, "how long?")
