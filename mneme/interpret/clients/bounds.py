"""What a labelling server may not do: take longer than it is given, send without end, or lead to another host."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from mneme.interpret.clients.base import ReplyError

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")

MOST_BYTES = 16 * 2**20
"""Of one answer."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises. Raises TimeoutError after so many seconds; its thread is then left behind.

    A client's time-outs are for each read: a server that sends a byte now and then never meets them.
    """
    done: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((True, work()))
        except BaseException as error:
            done.put((False, error))

    threading.Thread(target=run, daemon=True, name="mneme-label-request").start()
    try:
        good, found = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(found, BaseException) and not good:
        raise found
    return found  # type: ignore[return-value]  # what work returned


def bounded_client(seconds: float) -> httpx2.Client:
    """An HTTP client as the openai package makes one, by the environment's proxies; its answers are bounded.

    Raises ReplyError, from a request, for an answer over `MOST_BYTES`, one that is compressed (we ask for none: a few
    bytes of it may stand for gigabytes), and one that redirects to another host.
    """
    import httpx2
    import openai

    class Bounded(httpx2.SyncByteStream):
        def __init__(self, inner: httpx2.SyncByteStream) -> None:
            self.inner, self.end = inner, time.monotonic() + seconds

        def __iter__(self) -> Iterator[bytes]:
            size = 0
            for chunk in self.inner:
                size += len(chunk)
                if size > MOST_BYTES:
                    raise ReplyError(
                        f"the server's answer is longer than {MOST_BYTES:,} bytes", maybe_paid=True
                    )
                if time.monotonic() > self.end:
                    raise httpx2.ReadTimeout("the answer never ends")
                yield chunk

        def close(self) -> None:
            self.inner.close()

    def check(response: httpx2.Response) -> None:
        if response.has_redirect_location and not _same_host(response):
            raise ReplyError(
                "the server redirects to another host: give that host's address as OPENAI_BASE_URL, if you trust it",
                fatal=True,
            )
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ReplyError("the server's answer is compressed, which nobody asked for", maybe_paid=True)
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = Bounded(response.stream)

    return openai.DefaultHttpxClient(
        event_hooks={"response": [check]}, headers={"Accept-Encoding": "identity"}, timeout=seconds
    )


def _same_host(response: httpx2.Response) -> bool:
    """Whether a redirect stays on its host and port, or goes from plain HTTP to HTTPS there."""
    import httpx2

    here = response.url
    try:
        there = here.join(response.headers["location"])
    except (httpx2.InvalidURL, ValueError):
        return False
    ports = {"http": 80, "https": 443}
    origins = [(url.scheme, url.host, url.port or ports.get(url.scheme)) for url in (here, there)]
    upgraded = origins[0] == ("http", here.host, 80) and origins[1] == ("https", here.host, 443)
    return origins[0] == origins[1] or upgraded
