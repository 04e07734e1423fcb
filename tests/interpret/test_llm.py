from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pandas as pd
import pytest

from mneme.errors import LabelError
from mneme.interpret.labels.config import LabelConfig
from mneme.interpret.labels.llm import (
    Server,
    choose_server,
    label_with_model,
    most_changed,
    server_from_environment,
)
from mneme.interpret.labels.prompt import Question, read_answer

from .chat_server import completion, serving

GOOD = json.dumps({"label": "names of rivers", "sentence": "Rivers.", "role": "detects", "confidence": 0.9})


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def questions(n: int) -> list[Question]:
    return [Question(j, "Name it.", json.dumps({"examples": [f"text {j}"]})) for j in range(n)]


def ask(server, http, folder: Path, n: int = 6, *, timeout: float = 5, retries: int = 2, **options):
    client = openai.OpenAI(
        api_key="sk-secret", base_url=server.url, http_client=http, timeout=timeout, max_retries=retries
    )
    return label_with_model(questions(n), Server(client, "m"), folder, **options)


def test_every_latent_gets_its_label_in_order(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path)
    assert run.labels.latent.tolist() == [0, 1, 2, 3, 4, 5] and run.failures.empty
    assert set(run.labels.method) == {"llm:m"} and set(run.labels.label) == {"names of rivers"}
    assert run.n_asked == 6 and run.n_tokens == 600
    assert json.loads(run.labels.detail[0])["confidence"] == 0.9


def test_a_busy_server_is_asked_again_after_the_time_it_names(http, tmp_path) -> None:
    def busy_once(number, body):
        return (429, {"Retry-After": "1"}, "{}") if number == 0 else GOOD

    with serving(busy_once) as server:
        run = ask(server, http, tmp_path, 1)
        assert server.times[1] - server.times[0] >= 1
    assert len(run.labels) == 1 and run.failures.empty


def test_all_kinds_of_failure_are_listed_and_none_is_lost(http, tmp_path) -> None:
    def mixed(number, body):
        latent = int(body["messages"][1]["content"].split("text ")[1].split('"')[0])
        if latent == 1:
            return 500, {}, "{}"
        if latent == 2:
            return "no JSON here"
        if latent == 3:
            time.sleep(1.2)
        if latent == 4:
            return GOOD[:-12]  # truncated
        return GOOD

    with serving(mixed) as server:
        run = ask(server, http, tmp_path, timeout=0.5, retries=0)
    assert run.labels.latent.tolist() == [0, 5]
    assert dict(zip(run.failures.latent, run.failures.reason, strict=True)) == {
        1: "the server answered 500",
        2: "the reply is not JSON",
        3: "the server did not answer in time",
        4: "the reply is not JSON",
    }


def test_a_second_run_pays_only_for_what_is_missing(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD if "text 3" not in str(body) else "?") as server:
        ask(server, http, tmp_path)
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path)
        assert len(server.requests) == 1 and "text 3" in str(server.requests[0])
    assert len(run.labels) == 6 and run.n_cached == 5 and run.n_tokens == 100


def test_a_reply_that_is_no_label_is_kept_and_paid_for_twice_at_most(http, tmp_path) -> None:
    with serving(lambda n, body: "no label") as server:
        for paid in (1, 2, 2):
            run = ask(server, http, tmp_path, 1)
            assert len(server.requests) == paid and run.failures.reason.tolist() == ["the reply is not JSON"]
    (kept,) = tmp_path.glob("*.json")
    assert json.loads(kept.read_text())["reply"] == "no label"


def test_a_refusal_is_told_as_one_from_the_kept_reply_too(http, tmp_path) -> None:
    refusal = json.loads(completion(""))
    refusal["choices"][0]["message"]["refusal"] = "I won't"
    with serving(lambda n, body: (200, {}, json.dumps(refusal))) as server:
        for paid in (1, 2, 2):
            assert ask(server, http, tmp_path, 1).failures.reason.tolist() == ["the model refused"]
            assert len(server.requests) == paid


_KILLED = """
import sys, openai, json
from pathlib import Path
from mneme.interpret.labels.llm import Server, label_with_model
from mneme.interpret.labels.prompt import Question
questions = [Question(j, "Name it.", json.dumps({"examples": [f"text {j}"]})) for j in range(20)]
client = openai.OpenAI(api_key="k", base_url=sys.argv[1], max_retries=0)
label_with_model(questions, Server(client, "m"), Path(sys.argv[2]), concurrency=1)
"""


def test_a_killed_run_loses_no_answer_and_pays_for_none_twice(http, tmp_path) -> None:
    def slow(number, body):
        time.sleep(0.05)
        return GOOD

    with serving(slow) as server:
        process = subprocess.Popen([sys.executable, "-c", _KILLED, server.url, str(tmp_path)])
        while len(list(tmp_path.glob("*.json"))) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.kill()  # SIGKILL
        process.wait()
        before = len(server.requests)
        assert 5 <= before < 20
        run = ask(server, http, tmp_path, 20)
        asked = [body["messages"][1]["content"] for body in server.requests]
    assert len(run.labels) == 20 and run.failures.empty
    # The request that was on its way when the process died can't be known to be paid; no other is sent twice.
    assert len(asked) - len(set(asked)) <= 1 and run.n_cached >= 5


def test_a_damaged_kept_answer_is_asked_for_again(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        ask(server, http, tmp_path, 1)
        for file in tmp_path.glob("*.json"):
            file.write_text('{"label": "half')
        assert ask(server, http, tmp_path, 1).n_asked == 1


def test_the_budget_stops_the_asking(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path, concurrency=1, max_tokens=520)
        assert len(server.requests) == 3  # 100 used each, about 309 reserved before each
    assert len(run.failures) == 3 and run.failures.reason.str.contains("budget").all()


def test_a_refused_key_is_tried_once_and_never_shown(http, tmp_path) -> None:
    with serving(lambda n, body: (401, {}, '{"error": "bad key sk-secret"}')) as server:
        run = ask(server, http, tmp_path, concurrency=1)
        assert len(server.requests) == 1
    assert len(run.failures) == 6 and "sk-secret" not in run.failures.to_csv()
    assert run.failures.reason[5] == "not asked: the server answered 401"
    assert not any(tmp_path.iterdir())


def test_no_server_there(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        pass
    run = ask(server, http, tmp_path, 2, retries=0)
    assert set(run.failures.reason) == {"the server can't be reached"}


@pytest.mark.parametrize(
    "reply",
    [None, "", "{}", '{"label": 3}', '{"label": " \\u0000 "}', '["label"]', json.dumps({"label": "w " * 13})],
)
def test_replies_that_are_no_label_are_refused(reply) -> None:
    with pytest.raises(LabelError):
        read_answer(reply)


def test_a_label_is_one_printable_line() -> None:
    answer = read_answer('Sure!\n```json\n{"label": "a\\n\\u202eb", "confidence": 7, "role": "boss"}\n```')
    assert answer.label == "a b" and answer.confidence is None and answer.role == "mixed"


def test_the_environment_names_the_server(monkeypatch) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert server_from_environment() is None
    with pytest.raises(LabelError, match="OPENAI_MODEL"):
        choose_server(LabelConfig(llm="on"))
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert server_from_environment() is None
    monkeypatch.setenv("OPENAI_MODEL", "m")
    assert choose_server(LabelConfig(llm="off")) is None
    server = choose_server(LabelConfig())
    assert server is not None and server.model == "m"
    server.client.close()


def test_the_most_severe_changed_latents_come_first() -> None:
    latents = pd.DataFrame(
        {
            "latent": [0, 1, 2, 3],
            "verdict": ["unchanged", "amplified", "suppressed", "amplified"],
            "severity": [9.0, 0.1, np.nan, 0.7],
        }
    )
    assert most_changed(latents, 2).tolist() == [3, 1]
