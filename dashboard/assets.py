"""Streamlit's own files, served from memory; and the first page says at once which of them it will need.

Streamlit's static files come through a thread each, about 75 of them before anything is drawn, and the browser learns
only from the first elements what code they need. Here a file is read once, and the page names the code of its first
elements in its head, so that it is fetched while the rest starts. The code of the other pages' plots (4.7 MB) is named
when the first page has been there for a while. All this changes when bytes arrive, never which; beside it the page gets
history.js, top.js and page.css.
"""

from __future__ import annotations

import json
import mimetypes
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import file_util

FIRST = ("Metric", "BidiComponent", "Html", "Selectbox")
"""Pieces of Streamlit's front end that the Overview shows; one that another version calls otherwise is left out."""
LATER = ("PlotlyChart",)
"""Pieces that other pages need."""
_ELSEWHERE = ("/_stcore/", "/media/", "/component/", "/static/", "/app/")
_HERE = Path(__file__).resolve().parent
_IMPORT = re.compile(rb"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")
_YEAR = "public, immutable, max-age=31536000"  # the names hold a hash, as Streamlit itself says of them


class _File(NamedTuple):
    body: bytes
    kind: str


class Assets:
    """ASGI middleware before Streamlit's own; what it doesn't know it passes on.

    folder: of index.html and static/.
    """

    def __init__(self, app: ASGIApp, folder: str | Path | None = None) -> None:
        self.app = app
        self.folder = Path(folder or file_util.get_static_dir())
        self._files: dict[str, _File] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        await (self.app if response is None else response)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if path in self._known:
            found = self._files.get(path)
            if found is None:
                file = self.folder / path[1:]
                kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
                found = self._files[path] = _File(file.read_bytes(), kind)
            return Response(found.body, media_type=found.kind, headers={"Cache-Control": _YEAR})
        wanted = "text/html" in Request(scope).headers.get("accept", "")
        if wanted and (path == "/" or not path.endswith("/")) and not f"{path}/".startswith(_ELSEWHERE):
            return Response(self._page, media_type="text/html", headers={"Cache-Control": "no-cache"})
        return None

    @cached_property
    def _known(self) -> frozenset[str]:
        """Paths that are served: a listing of the folder, so that no path of a request is ever opened."""
        files = (self.folder / "static").rglob("*")
        return frozenset("/" + f.relative_to(self.folder).as_posix() for f in files if f.is_file())

    @cached_property
    def _page(self) -> bytes:
        """index.html with our scripts and styles, and links to the code of FIRST and, later, LATER."""
        page = (self.folder / "index.html").read_bytes()
        first = [name for name in self._needed(FIRST) if name.encode() not in page]
        later = [name for name in self._needed(LATER) if name.encode() not in page and name not in first]
        links = "".join(
            f'<link rel="modulepreload" fetchpriority="low" crossorigin href="./static/js/{name}">\n'
            for name in first
        )
        script = _read("history.js") + _read("top.js")
        script += f"window.mnemeLater = {json.dumps(later)};\n" + _read("later.js")
        added = f"<script>{script}</script>\n<style>{_read('page.css')}</style>\n"
        return page.replace(b"<head>", b"<head>" + added.encode(), 1).replace(
            b"</head>", links.encode() + b"</head>", 1
        )

    def _needed(self, pieces: tuple[str, ...]) -> list[str]:
        scripts = self.folder / "static" / "js"
        found: dict[str, None] = {}
        waiting = [file.name for piece in pieces for file in sorted(scripts.glob(f"{piece}.*.js"))]
        while waiting:
            name = waiting.pop(0)
            if name not in found and (scripts / name).is_file():
                found[name] = None
                waiting += [each.decode() for each in _IMPORT.findall((scripts / name).read_bytes())]
        return list(found)


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
