"""Start the dashboard: Streamlit on this machine only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from mneme.errors import MnemeError, PortInUseError

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
    app = app_file()
    environment = {**os.environ, "MNEME_RUNS": str(runs.resolve())}
    if run is not None:
        environment["MNEME_RUN"] = run
    command = [sys.executable, "-m", "streamlit", "run", str(app)]
    command += [f"--server.address={ADDRESS}", f"--server.port={port}"]
    command += [f"--server.headless={'true' if headless else 'false'}"]
    # Streamlit reads .streamlit/config.toml (theme, privacy) beside the folder it is started in.
    process = subprocess.Popen(command, env=environment, cwd=app.parent.parent)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        return 0


def app_file() -> Path:
    """The dashboard's entry file, beside this package."""
    file = Path(__file__).resolve().parent.parent / "dashboard" / "serve.py"
    if not file.exists():
        raise MnemeError(f"{file} is missing: install mneme from its repository (make setup)")
    return file
