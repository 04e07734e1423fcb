"""What the server adds to Streamlit: files from memory, links to code that is needed soon, one visit before all."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit import file_util

from dashboard import warm
from dashboard.assets import FIRST, LATER, Assets

STATIC = Path(file_util.get_static_dir())


@pytest.fixture
def client() -> TestClient:
    """Assets before an app that says that it was asked."""

    async def asked(request: object) -> PlainTextResponse:
        return PlainTextResponse("passed on")

    routes = [Route("/{path:path}", asked)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Assets)]))


def test_a_file_is_served_as_it_is_and_may_be_kept(client: TestClient) -> None:
    for file in [
        next((STATIC / "static" / "js").glob("*.js")),
        next((STATIC / "static" / "css").glob("*.css")),
    ]:
        for _ in range(2):
            found = client.get(f"/{file.relative_to(STATIC).as_posix()}")
            assert found.content == file.read_bytes()
            assert "immutable" in found.headers["cache-control"]
            assert found.headers["content-type"].startswith(("text/javascript", "text/css"))


def test_the_page_names_the_code_it_needs_first(client: TestClient) -> None:
    page = client.get("/latents?run=x", headers={"accept": "text/html,*/*"})
    assert page.headers["cache-control"] == "no-cache"
    plain = (STATIC / "index.html").read_text()
    added = re.compile('<link rel="modulepreload" fetchpriority="low"[^>]*>\n')
    for own in ("history.js", "later.js", "page.css"):
        assert page.text.count((Path(warm.__file__).parent / own).read_text()) == 1
    ours = re.compile(r"<head><script>.*?</style>\n", re.DOTALL)
    assert added.sub("", ours.sub("<head>", page.text, count=1)) == plain
    links = "".join(added.findall(page.text))
    (later,) = re.findall(r"mnemeLater = (\[.*\]);", page.text)
    for names, there in ((FIRST, links), (LATER, later)):
        for name in names:
            (file,) = (STATIC / "static" / "js").glob(f"{name}.*.js")
            assert there.count(file.name) == 1 and page.text.count(file.name) == 1, (
                "this Streamlit names its pieces otherwise: FIRST or LATER is out of date"
            )


@pytest.mark.parametrize(
    "path",
    [
        "/static/js/none.js",
        "/static/..%2f..%2fetc/passwd",
        "/static/%2e%2e%2findex.html",
        "/_stcore/health",
        "/media/x",
    ],
)
def test_everything_else_is_streamlits(client: TestClient, path: str) -> None:
    assert client.get(path, headers={"accept": "text/html"}).text == "passed on"
    assert client.post("/", headers={"accept": "text/html"}).status_code == 405, "only GET is answered"


@pytest.mark.parametrize("fault", [RuntimeError("stopped"), TimeoutError()])
def test_a_visit_that_fails_is_told_and_stops_no_server(
    fault: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert lived(monkeypatch, fault)
    assert "was not warmed up" in caplog.text and type(fault).__name__ in caplog.text


def test_a_mistake_in_the_visit_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError):
        lived(monkeypatch, AttributeError("another Streamlit"))


def lived(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> bool:
    """Whether the server answers after a visit that ends with this fault."""

    async def broken(runtime: object) -> None:
        raise fault

    async def life() -> bool:
        async with warm.warming(None):
            return True

    monkeypatch.setattr(warm, "visit", broken)
    monkeypatch.setattr(warm.Runtime, "instance", lambda: None)
    return asyncio.run(life())
