"""`mneme dashboard RUN` starts on a degenerate run and its first page is answered; what pages draw: other tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from degenerate.conftest import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_the_dashboard_of_a_run_answers(runs: Path, kind: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["dashboard", str(runs / kind), "--port", str(port)]
    with (tmp_path / "said").open("w") as said:
        server = subprocess.Popen([sys.executable, "-m", "mneme", *words], stdout=said, stderr=said)
        try:
            page = answered(f"http://127.0.0.1:{port}/", server)
        finally:
            # SIGINT, as Ctrl-C sends it, is ignored by what runs in the background of a script
            heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN and kind != KINDS[0]
            server.send_signal(signal.SIGINT if heard else signal.SIGTERM)
            code = server.wait(60)
    with socket.socket() as again:  # the server is gone too
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", port))
    told = (tmp_path / "said").read_text()
    assert page.status_code == 200 and "<title>" in page.text, told
    assert code == 0 and "Traceback" not in told, told


def answered(url: str, server: subprocess.Popen[bytes]) -> httpx.Response:
    """The first answer there, within two minutes."""
    end = time.monotonic() + 120
    while True:
        try:
            return httpx.get(url, timeout=30)
        except httpx.TransportError:
            assert server.poll() is None and time.monotonic() < end
            time.sleep(0.2)
