"""Start the dashboard: Streamlit on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from mneme._util.bundle import bundle_folder
from mneme._util.errors import PortInUseError

ADDRESS = "127.0.0.1"


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


def serve_dashboard(runs: Path, *, run: str | None = None, port: int = 8501, headless: bool = True) -> int:
    """Serve the runs of a folder until stopped; returns the server's exit code."""
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
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)


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
