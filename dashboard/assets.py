"""Streamlit's own files, served from memory; and the first page says at once which of them it will need.

Streamlit's static files come through a thread each, about 75 of them before anything is drawn, and the browser learns
only from the first elements that it needs the code of plots (4.7 MB) and tables. Here a file is read once, and the page
names that code in its head, so that it is fetched while the rest starts. Both change when bytes arrive, never which;
beside them the page gets history.js.
"""

from __future__ import annotations

import mimetypes
import re
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import file_util

FIRST = ("PlotlyChart", "Metric", "Selectbox", "Html", "DataFrame")
"""Pieces of Streamlit's front end that the Overview shows; one that another version calls otherwise is left out."""
_ELSEWHERE = ("/_stcore/", "/media/", "/component/", "/static/", "/app/")
_HISTORY = Path(__file__).resolve().parent / "history.js"
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
        """index.html with history.js, and links to the code of FIRST and to what that imports."""
        page = (self.folder / "index.html").read_bytes()
        links = "".join(
            f'<link rel="modulepreload" fetchpriority="low" crossorigin href="./static/js/{name}">\n'
            for name in self._needed()
            if name.encode() not in page
        )
        script = f"<script>{_HISTORY.read_text(encoding='utf-8')}</script>\n"
        return page.replace(b"<head>", b"<head>" + script.encode(), 1).replace(
            b"</head>", links.encode() + b"</head>", 1
        )

    def _needed(self) -> list[str]:
        scripts = self.folder / "static" / "js"
        found: dict[str, None] = {}
        waiting = [file.name for first in FIRST for file in sorted(scripts.glob(f"{first}.*.js"))]
        while waiting:
            name = waiting.pop(0)
            if name not in found and (scripts / name).is_file():
                found[name] = None
                waiting += [each.decode() for each in _IMPORT.findall((scripts / name).read_bytes())]
        return list(found)
