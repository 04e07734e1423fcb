"""What the environment says of the labelling server: what can't be is told in one line that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mneme._util.errors import LabelError
from mneme.interpret.clients.factory import identity
from mneme.interpret.clients.response_cache import Prompt
from mneme.interpret.clients.server import check_server, server_chat
from mneme.interpret.explainers.explain import explain
from mneme.interpret.explainers.names import check_demanded
from mneme.interpret.label_config import LabelConfig

from .chat_server import serving
from .server_modes import GOOD, always

SECRET = "sk-secret-key-1234"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("OPENAI_", "SSL_CERT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OPENAI_MODEL", "m")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OPENAI_API_KEY", f"{SECRET}\n", "holds a line break (character 19 of 19)"),
        ("OPENAI_API_KEY", f"{SECRET}\r\n", "holds a line break"),
        ("OPENAI_API_KEY", f" {SECRET}", "holds white space"),
        ("OPENAI_API_KEY", f"“{SECRET}”", "stands in quotation marks"),
        ("OPENAI_API_KEY", f'"{SECRET}"', "stands in quotation marks"),
        ("OPENAI_API_KEY", f"{SECRET}”", "holds a curly quotation mark"),
        ("OPENAI_API_KEY", f"{SECRET}\x00x".replace("\x00", "\x07"), "holds a control character"),
        ("OPENAI_API_KEY", f"{SECRET}é", "holds a character that is not ASCII"),
        ("OPENAI_ORG_ID", "org\n", "holds a line break"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1\n", "holds a line break"),
        ("OPENAI_BASE_URL", "‘http://127.0.0.1:9/v1’", "stands in quotation marks"),
        ("OPENAI_BASE_URL", "127.0.0.1:9/v1", "must begin with http:// or https://"),
        ("OPENAI_BASE_URL", "localhost", "must begin with http:// or https://"),
        ("OPENAI_BASE_URL", "ftp://host/v1", "must begin with http:// or https://"),
        ("OPENAI_BASE_URL", "http:///v1", "names no host"),
        ("OPENAI_BASE_URL", "http://host:port/v1", "is no address"),
        ("OPENAI_BASE_URL", "http://host:99999/v1", "is no address"),
        ("OPENAI_BASE_URL", "http://[::1/v1", "is no address"),
        ("OPENAI_BASE_URL", "http://host/v1/chat/completions", "ends with /chat/completions"),
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "names a SOCKS proxy"),
        ("https_proxy", "socks5h://127.0.0.1:1080", "names a SOCKS proxy"),
        ("HTTP_PROXY", "ftp://127.0.0.1:1", "must begin with http://"),
        ("HTTP_PROXY", "“http://127.0.0.1:1”", "stands in quotation marks"),
        ("HTTP_PROXY", "http://127.0.0.1:1\n", "holds a line break"),
        ("HTTP_PROXY", "http://", "names no host"),
        ("HTTPS_PROXY", "http://host:port", "is no address"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "names a place that is not there"),
    ],
)
def test_what_can_not_be_is_told_by_its_name_before_any_work(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)  # no package for SOCKS
    monkeypatch.setenv(name, value)
    for use in (
        lambda: server_chat(),
        lambda: check_server("m"),
        lambda: identity("m"),
        lambda: check_demanded(LabelConfig()),
        lambda: check_demanded(LabelConfig(llm="on")),
    ):
        with pytest.raises(LabelError) as found:
            use()
        assert str(found.value).startswith(f"{name} {told}") and "\n" not in str(found.value)
        assert SECRET not in str(found.value)
    check_demanded(LabelConfig(llm="off"))  # nobody asks a server


@pytest.mark.parametrize(
    "value", ["*", "::1", "10.0.0.0/8", "“localhost”", "a b\n", "host:99999", "http://x:y"]
)
def test_any_list_of_hosts_without_a_proxy_is_taken(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", value)
    server_chat()


def test_a_dead_proxy_is_told_and_no_proxy_leads_past_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = {j: Prompt("Name it.", str(j)) for j in range(9)}
    with serving(always(GOOD)) as dead:
        pass
    with serving(always(GOOD)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):  # the later ones count before the earlier ones
            monkeypatch.setenv(name, dead.url.removesuffix("/v1"))
            with pytest.raises(LabelError, match=f"through the proxy that {name} names.*NO_PROXY"):
                check_server("m")
            run = explain(questions, server_chat(), tmp_path, wait=0.01)
            assert run.labels.empty and run.failures.reason.str.contains(f"proxy that {name} names").all()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        check_server("m")
        assert len(explain(questions, server_chat(), tmp_path).labels) == 9
    assert not dead.requests


def test_the_proxy_is_asked_where_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def proxy(number: int, request: object) -> object:
        return (407, {"Proxy-Authenticate": "Basic"}, "{}")

    with serving(proxy) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", "http://labels.invalid/v1")
        monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
        run = explain({1: Prompt("Name it.", "x")}, server_chat(), tmp_path, wait=0.01)
        assert server.paths == ["http://labels.invalid/v1/chat/completions"]
    assert run.failures.reason[0].startswith("the proxy that HTTP_PROXY names asks for a password")


def test_the_identity_of_kept_replies_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity("m") == server_chat().identity == "http://127.0.0.1:9/v1/\0m\0temperature=0\x00300"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert identity("m") == "https://api.openai.com/v1/\0m\0temperature=0\x00300"
