"""What a server's errors mean: whether to ask again, when, in which other form, or not any more.

Of the server's own words only `param` and `code` are told, where they are names: its messages may repeat the key.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mneme.interpret.clients.base import Part, ReplyError
from mneme.interpret.clients.environment import proxy_in_use

if TYPE_CHECKING:
    import openai

_AGAIN = {408, 409, 425, 429}  # and every 5xx
_FATAL = {401, 402, 403, 404, 407}  # key, money, model or proxy: no other question will fare better
_OF_THE_REQUEST = {400, 422}
_OF_THE_QUESTION = {"content_filter", "context_length_exceeded", "string_above_max_length"}
_NAME = re.compile(r"[\w.\[\]:-]{1,60}")
_NO_TEMPERATURE = re.compile(
    r"temperature\W.{0,80}(support|only|deprecated|allowed)|unsupported.{0,40}temperature", re.I | re.S
)
_NO_SYSTEM = re.compile(
    r"(system|developer).{0,20}(role|message|prompt|instruction).{0,40}(not|n't|un) ?(be )?(support|enabled|allow)"
    r"|not support.{0,20}(system|developer)|only user and assistant|roles must alternate",
    re.I | re.S,
)


def status_error(error: openai.APIStatusError, secret: str | None) -> ReplyError:
    """For an answer that is an error. `secret`: the key."""
    body = error.body if isinstance(error.body, Mapping) else {"message": error.message}
    status = error.status_code
    told = _told(body, secret)
    reason = f"the server answered {status}{told}"
    if body.get("code") == "insufficient_quota":
        return ReplyError(f"{reason}: the account's quota is used up", fatal=True)
    if status == 407 and (proxy := proxy_in_use(str(error.request.url))):
        return ReplyError(
            f"the proxy that {proxy} names asks for a password: put USER:PASSWORD@ into it", fatal=True
        )
    if (status in _OF_THE_REQUEST or status == 500) and (part := _refused(body)):
        return ReplyError(f"{reason}: it does not take {part}", refused=part)
    again = status in _AGAIN or status >= 500
    return ReplyError(
        reason,
        again=again,
        wait=_retry_after(error.response.headers) if again else None,
        fatal=status in _FATAL,
        systematic=status in _OF_THE_REQUEST and body.get("code") not in _OF_THE_QUESTION,
    )


def inside_error(error: object, secret: str | None) -> ReplyError:
    """For an error that was sent with status 200."""
    body = error if isinstance(error, Mapping) else {}
    code = body.get("code")
    status = code if isinstance(code, int) and not isinstance(code, bool) else 0
    return ReplyError(
        f"the server answered 200 with an error{_told(body, secret)}",
        again=status in _AGAIN or status >= 500,
        fatal=status in _FATAL,
        refused=_refused(body),
        systematic=code not in _OF_THE_QUESTION,
    )


def lost(reason: str, error: Exception, url: str) -> ReplyError:
    """For a question that got no answer; `error.__cause__` is the HTTP client's."""
    cause = type(error.__cause__).__name__  # by name: the client may be given transports of several libraries
    never_sent = cause in {"ConnectError", "ConnectTimeout", "ProxyError"}
    proxy = proxy_in_use(url) if never_sent else None
    if proxy is not None:
        reason = f"the server can't be reached through the proxy that {proxy} names: correct it, or put the server's"
        reason += " host into NO_PROXY"
    return ReplyError(reason, again=True, maybe_paid=not never_sent, unreachable=never_sent)


def _told(body: Mapping[str, object], secret: str | None) -> str:
    """' (param x, code y)'."""
    words = []
    for name in ("param", "code"):
        word = str(body.get(name)) if isinstance(body.get(name), str | int) else ""
        if _NAME.fullmatch(word) and not (secret and (secret in word or word in secret)):
            words.append(f"{name} {word}")
    return f" ({', '.join(words)})" if words else ""


def _refused(body: Mapping[str, object]) -> Part | None:
    """The part of the request that an error is about."""
    param, message = str(body.get("param") or ""), str(body.get("message") or "")[:4000]
    if param == "max_tokens" or ("max_completion_tokens" in message and param != "max_completion_tokens"):
        return "max_tokens"
    if param == "temperature" or _NO_TEMPERATURE.search(message):
        return "temperature"
    if (param.startswith("messages") and "role" in param) or _NO_SYSTEM.search(message):
        return "system"
    return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: Retry-After gives them, or a date."""
    given = headers.get("retry-after", "").strip()
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None
