"""One visit of nobody before the server answers: modules are imported and the run is open when somebody comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import Runtime, SessionClient

LONGEST = 30.0
"""Seconds after which the server answers anyway."""


class _Nobody(SessionClient):
    """Keeps nothing of what is drawn; knows when the script has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def write_forward_msg(self, msg: ForwardMsg) -> None:
        if msg.WhichOneof("type") == "script_finished":
            self.ended.set()


@asynccontextmanager
async def warming(app: Any) -> AsyncIterator[None]:
    """The server's life: first the visit, then everybody else's. That it fails only costs the first visitor time."""
    try:
        await visit(Runtime.instance())
    except (RuntimeError, TimeoutError):  # the runtime stopped, or the page took too long: both are told
        logging.getLogger(__name__).warning("the dashboard was not warmed up", exc_info=True)
    yield


async def visit(runtime: Runtime) -> None:
    """Run the app's first page once in a session that is closed again."""
    client = _Nobody()
    session = runtime.connect_session(client, {})
    try:
        request = BackMsg()
        request.rerun_script.query_string = ""
        runtime.handle_backmsg(session, request)
        await asyncio.wait_for(client.ended.wait(), LONGEST)
    finally:
        runtime.close_session(session)
