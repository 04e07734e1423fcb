"""Start the dashboard: Streamlit on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from mneme._util.bundle import bundle_folder
from mneme._util.errors import PortInUseError

ADDRESS = "127.0.0.1"
_PATIENCE_S = 30.0
_NICE = 15


def check_port(port: int) -> None:
    """Raises PortInUseError when something already listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise PortInUseError(
                f"port {port} of {ADDRESS} can't be used: choose another with --port (or make demo PORT=...)"
            ) from error


def serve_dashboard(
    runs: Path,
    *,
    run: str | None = None,
    port: int = 8501,
    headless: bool = True,
    evidence: bool = False,
) -> int:
    """Serve the runs of a folder until stopped; returns the server's exit code.

    evidence: test the run meanwhile (`mneme evidence`), once the page is up; it ends with the server, and the next call
    goes on with it.
    """
    check_port(port)
    home = bundle_folder()
    environment = {**os.environ, "MNEME_RUNS": str(runs.resolve())}
    if run is not None:
        environment["MNEME_RUN"] = run
    chosen = {"server.address": ADDRESS, "server.port": port, "server.headless": headless}
    command = [sys.executable, "-m", "streamlit", "run", str(home / "dashboard" / "app.py")]
    command += settings_flags(home / ".streamlit" / "config.toml", chosen)
    # The theme is read from .streamlit/config.toml in the folder that Streamlit is started in.
    process = subprocess.Popen(command, env=environment, cwd=home)
    before = signal.signal(signal.SIGTERM, _stop)  # or the server would be left behind, and keep the port
    tested = None
    try:
        if evidence and run is not None and _is_up(port, process):
            tested = _start_evidence(runs / run)
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0
    finally:
        if tested is not None:
            _end(tested)
        signal.signal(signal.SIGTERM, before)


def _is_up(port: int, server: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers; False where it ended instead, or did not come."""
    deadline = time.monotonic() + _PATIENCE_S
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            if probe.connect_ex((ADDRESS, port)) == 0:
                return True
        time.sleep(0.2)
    return False


def _start_evidence(run: Path) -> subprocess.Popen[bytes]:
    """`mneme evidence RUN`, behind everything else on the machine; what it says goes to RUN/evidence.log."""
    with (run / "evidence.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mneme", "evidence", str(run)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.nice(_NICE),
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop it as Ctrl-C does, which keeps what is done; by force where it doesn't hear."""
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop(number: int, frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C."""
    raise KeyboardInterrupt


def settings_flags(file: Path, chosen: Mapping[str, Any]) -> list[str]:
    """Streamlit's flags for the settings of config.toml, but its theme, and for `chosen`, which win.

    Flags hold whatever the user's environment and own configuration of Streamlit say: no usage statistics are sent.
    """
    sections = tomllib.loads(file.read_text(encoding="utf-8"))
    settings = {
        f"{section}.{key}": value
        for section, values in sections.items()
        if section != "theme"
        for key, value in values.items()
    }
    return [f"--{key}={_flag(value)}" for key, value in {**settings, **chosen}.items()]


def _flag(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
