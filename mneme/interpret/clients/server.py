"""`Chat` by an OpenAI-compatible server: hosted, vLLM, llama.cpp, Ollama.

Where the server is and with what key comes from the environment only: OPENAI_BASE_URL, OPENAI_API_KEY, and
OPENAI_MODEL where no model is named. Neither address nor key is stored or shown.
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mneme._util.errors import LabelError
from mneme._util.settings import suggest
from mneme.interpret.clients.base import CHARACTERS, REPLY_TOKENS, Reply, ReplyError

if TYPE_CHECKING:
    import openai  # a second to import, and most runs ask no server

_AGAIN = {408, 409, 425, 429}  # and every 5xx
_FATAL = {401, 403, 404}  # key or model: no other question will fare better


class ServerChat:
    """A model behind an OpenAI-compatible server."""

    most_at_once: int | None = None

    def __init__(self, client: openai.OpenAI, model: str, *, reply_tokens: int = REPLY_TOKENS) -> None:
        # The client's own retries would be paid for and not counted.
        self._client = client.with_options(max_retries=0)
        self.model, self.method, self.reply_tokens = model, f"llm:{model}", reply_tokens
        self.identity = _identity(client, model, reply_tokens)

    def reply(self, system: str, user: str) -> Reply:
        import openai

        # A server that knows this header bills a question once, however often it is sent.
        once = hashlib.sha256("\0".join((self.identity, system, user)).encode()).hexdigest()
        try:
            found = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
                temperature=0,
                max_tokens=self.reply_tokens,
                extra_headers={"Idempotency-Key": once},
            )
            return _read(found, system + user)
        except openai.APIStatusError as error:
            raise _status_error(error) from error
        except openai.APITimeoutError as error:
            raise _lost("the server did not answer in time", error) from error
        except openai.APIConnectionError as error:
            raise _lost("the server can't be reached", error) from error
        except (openai.OpenAIError, AttributeError, TypeError, ValueError, IndexError) as error:
            raise ReplyError("the server's answer can't be read", maybe_paid=True) from error


def server_chat(model: str | None = None, *, timeout: float = 60.0, http_client: Any = None) -> ServerChat:
    """The server that the environment names. Raises LabelError, naming the fix, where it names none."""
    import openai

    model = model or os.environ.get("OPENAI_MODEL")
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if not (base_url or key):
        raise LabelError(
            "no labelling server is set: give OPENAI_BASE_URL or OPENAI_API_KEY in the environment, or label"
            " with --local FOLDER or --offline"
        )
    if not model:
        raise LabelError(
            "no labelling model is set: name one with --model, or OPENAI_MODEL in the environment"
        )
    # Local servers ask for no key, the client for some text.
    client = openai.OpenAI(
        api_key=key or "none", base_url=base_url, timeout=timeout, max_retries=0, http_client=http_client
    )
    return ServerChat(client, model)


def check_server(model: str, *, timeout: float = 10.0, http_client: Any = None) -> None:
    """Look whether the server can be reached, takes the key and has the model, as far as it tells.

    Raises LabelError, naming the fix. No reply is asked for: this costs nothing.
    """
    import openai

    client = server_chat(model, timeout=timeout, http_client=http_client)._client
    try:
        known = [found.id for found in client.models.list().data]
    except openai.APIConnectionError as error:
        raise LabelError(
            "the labelling server can't be reached: start it, or correct OPENAI_BASE_URL"
        ) from error
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise LabelError("the labelling server refuses the key: correct OPENAI_API_KEY") from error
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        return  # many servers have no list of models
    if known and model not in known:
        raise LabelError(f"the labelling server has no model {model}: {suggest(model, known[:20])}")


def named_model() -> str | None:
    """The model that the environment names, where it names a server too."""
    named = os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")
    return os.environ.get("OPENAI_MODEL") or None if named else None


def server_identity(model: str, reply_tokens: int = REPLY_TOKENS) -> str:
    """`Chat.identity` of the environment's server with this model."""
    import openai

    client = openai.OpenAI(api_key="none", base_url=os.environ.get("OPENAI_BASE_URL"))
    return _identity(client, model, reply_tokens)


def _identity(client: openai.OpenAI, model: str, reply_tokens: int) -> str:
    return "\0".join((str(client.base_url), model, "temperature=0", str(reply_tokens)))


def _read(found: Any, asked: str) -> Reply:
    message = found.choices[0].message if found.choices else None
    text = (message.content or "") if message else ""
    if not isinstance(text, str):
        raise TypeError("content is no text")
    # Near enough where a server does not count.
    usage = found.usage
    prompt = usage.prompt_tokens if usage else len(asked) // CHARACTERS
    reply = usage.completion_tokens if usage else len(text) // CHARACTERS
    return Reply(text, int(prompt), int(reply), bool(getattr(message, "refusal", None)))


def _lost(reason: str, error: Exception) -> ReplyError:
    # By name: the client may be given transports of several libraries.
    never_sent = type(error.__cause__).__name__ in {"ConnectError", "ConnectTimeout"}
    return ReplyError(reason, again=True, maybe_paid=not never_sent)


def _status_error(error: openai.APIStatusError) -> ReplyError:
    status = error.status_code
    reason = f"the server answered {status}"
    if error.code == "insufficient_quota":
        return ReplyError(f"{reason}: the account's quota is used up", fatal=True)
    again = status in _AGAIN or status >= 500
    wait = _retry_after(error.response.headers) if again else None
    return ReplyError(reason, again=again, wait=wait, fatal=status in _FATAL)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds: Retry-After gives them, or a date."""
    given = headers.get("retry-after", "").strip()
    try:
        return max(float(given), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(given).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return None
