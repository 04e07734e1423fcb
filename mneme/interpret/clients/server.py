"""`Chat` by an OpenAI-compatible server: hosted, vLLM, llama.cpp, Ollama.

Where the server is and with what key comes from the environment only: OPENAI_BASE_URL, OPENAI_API_KEY, and
OPENAI_MODEL where no model is named. Neither address nor key is stored or shown.

Servers differ in what a request may hold. The first form has instructions as `system`, `max_tokens` and temperature 0;
what a server refuses is put otherwise, and remembered: `max_completion_tokens`, no temperature, instructions before
the question.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any

from mneme._util.errors import LabelError
from mneme._util.settings import suggest
from mneme.interpret.clients.base import REPLY_TOKENS, Part, Reply, ReplyError
from mneme.interpret.clients.bounds import bounded_client, within
from mneme.interpret.clients.completion import InsideError, read_completion, unreadable
from mneme.interpret.clients.environment import named_server
from mneme.interpret.clients.server_errors import inside_error, lost, status_error

if TYPE_CHECKING:
    import openai  # a second to import, and most runs ask no server

_SHORTEST_KEY = 8  # characters: a shorter one is no secret, and may stand in any text
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


class ServerChat:
    """A model behind an OpenAI-compatible server."""

    most_at_once: int | None = None

    def __init__(
        self,
        client: openai.OpenAI,
        model: str,
        *,
        reply_tokens: int = REPLY_TOKENS,
        seconds: float | None = None,
    ) -> None:
        """`seconds`: the most that one reply may take; by default the client's time-out of one read."""
        # The client's own retries would be paid for and not counted.
        self._client = client.with_options(max_retries=0)
        self.model, self.method, self.reply_tokens = model, f"llm:{model}", reply_tokens
        self.identity = _identity(client, model, reply_tokens)
        self._seconds = seconds or (client.timeout if isinstance(client.timeout, int | float) else 60.0)
        self._refused: set[Part] = set()

    def reply(self, system: str, user: str) -> Reply:
        while True:
            without = frozenset(self._refused)
            try:
                reply = self._ask(system, user, without)
            except ReplyError as error:
                if error.refused is None or error.refused in without:
                    raise
                self._refused.add(error.refused)
                continue
            if _repeats(reply.text, self._client.api_key):
                raise ReplyError("the reply repeats the key: it is not kept", maybe_paid=True)
            return reply

    def _ask(self, system: str, user: str, without: frozenset[Part]) -> Reply:
        """One request, without what the server refuses."""
        import openai

        url = str(self._client.base_url)
        try:
            body = within(self._seconds, lambda: self._send(self._request(system, user, without)))
            return read_completion(body, system + user, self.reply_tokens)
        except InsideError as error:
            raise inside_error(error.error, self._client.api_key) from None
        except openai.APIStatusError as error:
            raise status_error(error, self._client.api_key) from error
        except (openai.APITimeoutError, TimeoutError) as error:
            raise lost("the server did not answer in time", error, url) from error
        except openai.APIConnectionError as error:
            if isinstance(error.__cause__, ReplyError):
                raise error.__cause__ from None
            raise lost("the server can't be reached", error, url) from error
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            raise unreadable() from error

    def _request(self, system: str, user: str, without: frozenset[Part]) -> dict[str, Any]:
        # A server that knows this header bills a question once, however often it is sent.
        once = "\0".join((self.identity, system, user, *sorted(without)))
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        if "system" in without:
            messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
        request = {
            "model": self.model,
            "messages": messages,
            "max_completion_tokens" if "max_tokens" in without else "max_tokens": self.reply_tokens,
            "extra_headers": {"Idempotency-Key": hashlib.sha256(once.encode()).hexdigest()},
        }
        return request if "temperature" in without else request | {"temperature": 0}

    def _send(self, request: dict[str, Any]) -> bytes:
        return self._client.chat.completions.with_raw_response.create(**request).http_response.content


def server_chat(
    model: str | None = None, *, timeout: float = 60.0, reply_tokens: int = REPLY_TOKENS
) -> ServerChat:
    """The server that the environment names. Raises LabelError, naming the fix, where it names none.

    `timeout`: seconds that one reply may take.
    """
    model = model or os.environ.get("OPENAI_MODEL")
    if named_server() == (None, None):
        raise LabelError(
            "no labelling server is set: give OPENAI_BASE_URL or OPENAI_API_KEY in the environment, or label"
            " with --local FOLDER or --offline"
        )
    if not model:
        raise LabelError(
            "no labelling model is set: name one with --model, or OPENAI_MODEL in the environment"
        )
    return ServerChat(_client(timeout), model, reply_tokens=reply_tokens, seconds=timeout)


def check_server(model: str, *, timeout: float = 10.0) -> None:
    """Look whether the server can be reached, takes the key and has the model, as far as it tells.

    Raises LabelError, naming the fix. No reply is asked for: this costs nothing.
    """
    import openai

    client = server_chat(model, timeout=timeout)._client
    url = str(client.base_url)
    try:
        known = within(timeout, lambda: [found.id for found in client.models.list().data])
    except (openai.APIConnectionError, TimeoutError) as error:
        if isinstance(error.__cause__, ReplyError):
            raise error.__cause__ from None
        told = lost("the labelling server can't be reached: start it, or correct OPENAI_BASE_URL", error, url)
        raise LabelError(str(told)) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise LabelError("the labelling server refuses the key: correct OPENAI_API_KEY") from error
    except (openai.OpenAIError, AttributeError, TypeError, ValueError, RecursionError):
        return  # many servers have no list of models
    if known and model not in known:
        names = [str(name) for name in known[:20]]
        raise LabelError(f"the labelling server has no model {model}: {suggest(model, names)}")


def named_model() -> str | None:
    """The model that the environment names, where it names a server too."""
    named = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")
    return os.environ.get("OPENAI_MODEL") or None if named else None


def server_identity(model: str, reply_tokens: int = REPLY_TOKENS) -> str:
    """`Chat.identity` of the environment's server with this model."""
    return _identity(_client(60.0), model, reply_tokens)


def _client(timeout: float) -> openai.OpenAI:
    """A client of the environment's server. Raises LabelError, naming the variable, for one that can't be."""
    import openai

    base_url, key = named_server()
    try:
        # Local servers ask for no key, the client for some text.
        return openai.OpenAI(
            api_key=key or "none",
            base_url=base_url,
            timeout=timeout,
            max_retries=0,
            http_client=bounded_client(timeout),
        )
    except (openai.OpenAIError, ImportError, OSError, ValueError) as error:
        raise LabelError(
            f"no connection can be set up ({type(error).__name__}): look at OPENAI_BASE_URL, the proxies"
            " (HTTPS_PROXY, ALL_PROXY, NO_PROXY) and SSL_CERT_FILE in the environment"
        ) from error


def _identity(client: openai.OpenAI, model: str, reply_tokens: int) -> str:
    """Of the first form of a request: which one a server takes follows from the server."""
    return "\0".join((str(client.base_url), model, "temperature=0", str(reply_tokens)))


def _repeats(text: str, key: str) -> bool:
    """Whether a reply holds the key, also written with JSON's escapes."""
    if len(key) < _SHORTEST_KEY:
        return False
    return key in text or key in _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
