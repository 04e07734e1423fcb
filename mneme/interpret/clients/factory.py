"""A client by its name: 'local:SPEC' is a model in this process, anything else the server's model of that name."""

from __future__ import annotations

from mneme.interpret.clients.base import LOCAL, REPLY_TOKENS, Chat, local_identity
from mneme.interpret.clients.server import server_chat, server_identity


def identity(name: str, *, reply_tokens: int = REPLY_TOKENS) -> str:
    """`Chat.identity` of `open_chat(name)`, without loading a model."""
    if name.startswith(LOCAL):
        return local_identity(name.removeprefix(LOCAL), reply_tokens)
    return server_identity(name, reply_tokens)


def open_chat(name: str, *, timeout: float = 60.0, reply_tokens: int = REPLY_TOKENS) -> Chat:
    """'local:SPEC' (hub id, folder, bundled:base) in this process, else the server's model of that name.

    `timeout`: seconds that one reply of the server may take; `reply_tokens`: the longest reply.
    Raises LabelError or ModelError, naming the fix.
    """
    if name.startswith(LOCAL):
        from mneme.interpret.clients.local import LocalChat

        return LocalChat(name.removeprefix(LOCAL), reply_tokens=reply_tokens)
    return server_chat(name, timeout=timeout, reply_tokens=reply_tokens)
