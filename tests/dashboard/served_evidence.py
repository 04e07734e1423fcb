"""Serve FOLDER/one with stand-ins for Streamlit and for `mneme evidence`: FOLDER PORT."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from mneme.cli import server

PAGE = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
JOB = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def stop(*_):
    (folder / "stopped").write_text("asked")
    raise SystemExit(130)
signal.signal(signal.SIGTERM, stop)
(folder / "started").write_text(f"{os.getpid()} {os.nice(0)}.")
time.sleep(600)
"""
_popen = subprocess.Popen


def stand_in(command: list[str], **rest: Any) -> Any:
    """The process that stands in for the one asked for."""
    if "evidence" in command:
        return _popen([sys.executable, "-c", JOB, command[-1]], **rest)
    return _popen([sys.executable, "-c", PAGE, sys.argv[2]], cwd=rest["cwd"])


server.subprocess.Popen = stand_in  # type: ignore[misc, assignment]
sys.exit(server.serve_dashboard(Path(sys.argv[1]), run="one", port=int(sys.argv[2]), evidence=True))
