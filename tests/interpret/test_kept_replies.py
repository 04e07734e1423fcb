"""Replies that were paid for: a damaged one is never taken for a reply, and never thrown away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mneme.interpret.clients.response_cache import CachedResponse, ResponseCache

RECEIPT = CachedResponse("llm:x", "be brief", "what is it?", '{"label": "rivers"}', False, 12, 5, 0.2, 1)


def test_a_reply_is_kept_as_it_was(tmp_path: Path) -> None:
    ResponseCache(tmp_path).keep("k", RECEIPT)
    assert ResponseCache(tmp_path).get("k") == RECEIPT
    assert ResponseCache(tmp_path).get("other") is None
    assert [file.name for file in tmp_path.iterdir()] == ["k.json"]


def test_a_reply_kept_by_an_earlier_version_is_one(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(json.dumps(RECEIPT._asdict()))
    assert ResponseCache(tmp_path).get("k") == RECEIPT


@pytest.mark.parametrize("change", [("rivers", "ravens"), ('"attempts": 1', '"attempts": 7'), ("}", "")])
def test_a_damaged_reply_is_put_aside_and_not_deleted(
    tmp_path: Path, change: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ResponseCache(tmp_path).keep("k", RECEIPT)
    file = tmp_path / "k.json"
    damaged = file.read_text().replace(*change)
    file.write_text(damaged)
    assert ResponseCache(tmp_path).get("k") is None
    assert (tmp_path / "k.json.damaged").read_text() == damaged and not file.exists()
    assert [r.levelname for r in caplog.records] == ["WARNING"] and "k.json.damaged" in caplog.text
    ResponseCache(tmp_path).keep("k", RECEIPT)
    assert ResponseCache(tmp_path).get("k") == RECEIPT


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "null", "[" * 100_000, '{"reply": ' + "9" * 5000 + "}", "\ud800", '{"method": 1}', "NaN"],
)
def test_no_kept_file_stops_the_next_run(tmp_path: Path, text: str) -> None:
    for name in ("k.json", "k.asked"):
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    assert ResponseCache(tmp_path).get("k") is None
    found = ResponseCache(tmp_path).marked("k")
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("reply", 3),
        ("reply", None),
        ("refused", "no"),
        ("prompt_tokens", "9"),
        ("attempts", None),
        ("seconds", []),
    ],
)
def test_a_reply_of_an_earlier_version_with_a_field_of_another_kind_is_put_aside(
    tmp_path: Path, field: str, value: object
) -> None:
    (tmp_path / "k.json").write_text(json.dumps({**RECEIPT._asdict(), field: value}))
    assert ResponseCache(tmp_path).get("k") is None and (tmp_path / "k.json.damaged").exists()


def test_tokens_that_an_earlier_version_kept_below_zero_count_as_none(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(json.dumps({**RECEIPT._asdict(), "prompt_tokens": -1_000_000}))
    found = ResponseCache(tmp_path).get("k")
    assert found is not None and found.prompt_tokens == 0
