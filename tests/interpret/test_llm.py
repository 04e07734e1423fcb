from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from mneme.interpret.clients.asking import Budget, Prices
from mneme.interpret.clients.response_cache import Prompt, ResponseCache
from mneme.interpret.clients.server import ServerChat
from mneme.interpret.explainers.explain import LabelRun, explain

from .chat_server import completion, serving

GOOD = json.dumps({"label": "names of rivers", "sentence": "Rivers.", "role": "detects", "confidence": 0.9})


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def questions(n: int) -> dict[int, Prompt]:
    return {j: Prompt("Name it.", json.dumps({"examples": [f"text {j}"]})) for j in range(n)}


def ask(server, http, folder: Path, n: int = 6, *, timeout: float = 5, **options) -> LabelRun:
    client = openai.OpenAI(api_key="sk-secret", base_url=server.url, http_client=http, timeout=timeout)
    return explain(questions(n), ServerChat(client, "m"), folder, **{"wait": 0.01, **options})


def about(body) -> int:
    """Which latent a request is about."""
    return int(body["messages"][1]["content"].split("text ")[1].split('"')[0])


def test_every_latent_gets_its_label_in_order(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path)
    assert run.labels.latent.tolist() == [0, 1, 2, 3, 4, 5] and run.failures.empty
    assert set(run.labels.method) == {"llm:m"} and set(run.labels.label) == {"names of rivers"}
    assert run.usage.asked == 6 and run.usage.prompt_tokens == 540 and run.usage.reply_tokens == 60
    assert json.loads(run.labels.detail[0])["confidence"] == 0.9


def test_a_busy_server_is_asked_again_after_the_time_it_names(http, tmp_path) -> None:
    def busy_once(number, body):
        return (429, {"Retry-After": "1"}, "{}") if number == 0 else GOOD

    with serving(busy_once) as server:
        run = ask(server, http, tmp_path, 1)
        assert server.times[1] - server.times[0] >= 1
    assert len(run.labels) == 1 and run.failures.empty


def test_a_server_that_asks_for_hours_is_left_for_another_day(http, tmp_path) -> None:
    with serving(lambda n, body: (429, {"Retry-After": "7200"}, "{}")) as server:
        run = ask(server, http, tmp_path, concurrency=1)
        assert len(server.requests) == 1
    assert run.failures.reason.str.contains("asks to wait 7,200 s").all() and len(run.failures) == 6


def test_all_kinds_of_failure_are_listed_and_none_is_lost(http, tmp_path) -> None:
    given_up = threading.Event()

    def mixed(number, body):
        latent = about(body)
        if latent == 1:
            return 500, {}, "{}"
        if latent == 2:
            return "no JSON here"
        if latent == 3:
            given_up.wait(60)
        if latent == 4:
            return GOOD[:-12]  # truncated
        if latent == 6:
            return 200, {}, completion(GOOD)[:40]  # the protocol itself cut off
        if latent == 7:
            return 400, {}, '{"error": {"message": "too long sk-secret"}}'
        return GOOD

    with serving(mixed) as server:
        run = ask(server, http, tmp_path, 8, timeout=1, concurrency=8)
        given_up.set()
        asked = [about(body) for body in server.requests]
    assert run.labels.latent.tolist() == [0, 5]
    assert dict(zip(run.failures.latent, run.failures.reason, strict=True)) == {
        1: "the server answered 500",
        2: "the reply is not JSON",
        3: "the server did not answer in time",
        4: "the reply is not JSON",
        6: "the server's answer can't be read",
        7: "the server answered 400",
    }
    assert [asked.count(j) for j in range(8)] == [1, 6, 1, 6, 1, 1, 1, 1]
    # A time-out or an answer that can't be read may be paid for: each counts.
    assert run.usage.asked == 4 and run.usage.unsure == 7


def test_a_second_run_pays_only_for_what_is_missing(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD if about(body) != 3 else "?") as server:
        ask(server, http, tmp_path)
    with serving(lambda n, body: GOOD, port=int(server.url.split(":")[2][:-3])) as server:
        run = ask(server, http, tmp_path)
        assert [about(body) for body in server.requests] == [3]
    assert len(run.labels) == 6 and run.usage.cached == 5 and run.usage.tokens == 100


def test_another_server_model_or_prompt_is_another_question(http, tmp_path) -> None:
    keys = set()
    for url, model, longest in (
        ("http://a", "m", 300),
        ("http://b", "m", 300),
        ("http://a", "n", 300),
        ("http://a", "m", 9),
    ):
        client = openai.OpenAI(api_key="k", base_url=url, http_client=http)
        chat = ServerChat(client, model, reply_tokens=longest)
        keys |= {Prompt(s, u).key(chat.identity) for s, u in (("a", "b"), ("a", "c"), ("c", "b"))}
    assert len(keys) == 12


def test_a_receipt_holds_prompt_and_raw_reply(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path, 1)
    response = ResponseCache(tmp_path).get(json.loads(run.labels.detail[0])["receipt"])
    assert response is not None and response.reply == GOOD and response.method == "llm:m"
    assert (response.system, response.user) == questions(1)[0]


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
from mneme.interpret.clients.server import ServerChat
from mneme.interpret.explainers.explain import explain
from mneme.interpret.clients.response_cache import Prompt
questions = {j: Prompt("Name it.", json.dumps({"examples": [f"text {j}"]})) for j in range(20)}
client = openai.OpenAI(api_key="k", base_url=sys.argv[1])
explain(questions, ServerChat(client, "m"), Path(sys.argv[2]), concurrency=3)
"""


def test_a_killed_run_loses_no_answer_and_pays_for_none_twice(http, tmp_path) -> None:
    all_asked, killed = threading.Event(), threading.Event()

    def five_answers(number, body):
        if number == 7:
            all_asked.set()  # five are answered and kept, and all three that ask wait for their next answer
        if number in (5, 6, 7):
            killed.wait(60)
        return GOOD

    with serving(five_answers) as server:
        with subprocess.Popen([sys.executable, "-c", _KILLED, server.url, str(tmp_path)]) as process:
            asked = all_asked.wait(120)
            process.kill()  # SIGKILL
        killed.set()
        assert asked and len(server.requests) == 8
        on_their_way = sum(not file.with_suffix(".json").exists() for file in tmp_path.glob("*.asked"))
        run = ask(server, http, tmp_path, 20)
        bills = [headers["idempotency-key"] for headers in server.headers]
    assert len(run.labels) == 20 and run.failures.empty and run.usage.cached == 5
    # What was on its way when the process died may be paid: it is sent under the number of its first bill, which a
    # server that knows the header bills once, and is counted as spent. Nothing else is sent twice.
    assert len(set(bills)) == 20 and len(bills) - 20 == on_their_way == 3
    assert run.usage.unsure == on_their_way
    assert not list(tmp_path.glob("*.asked"))


def test_a_damaged_kept_answer_is_asked_for_again(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        ask(server, http, tmp_path, 1)
        for file in tmp_path.glob("*.json"):
            file.write_text('{"label": "half')
        assert ask(server, http, tmp_path, 1).usage.asked == 1


def test_the_budget_of_tokens_stops_the_asking(http, tmp_path) -> None:
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path, concurrency=1, budget=Budget(620))
        # 100 used each; before each 300 are reserved for its reply and, from the second on, 90 for its prompt
        assert len(server.requests) == 3
    assert len(run.failures) == 3 and run.failures.reason.str.contains("budget of tokens").all()


def test_the_budget_of_money_stops_the_asking(http, tmp_path) -> None:
    budget = Budget(money=0.004, prices=Prices(prompt=1, reply=10))  # 0.0031 at most a question
    with serving(lambda n, body: GOOD) as server:
        run = ask(server, http, tmp_path, concurrency=1, budget=budget)
        spent = Prices(1, 10).cost(run.usage.prompt_tokens, run.usage.reply_tokens)
        assert 1 <= len(server.requests) < 6 and spent <= 0.004
    assert run.failures.reason.str.contains("budget of money").all()


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
    run = ask(server, http, tmp_path, 2)
    assert set(run.failures.reason) == {"the server can't be reached"} and run.usage.tokens == 0


def test_a_question_asked_for_several_latents_is_sent_once_and_answers_all(http, tmp_path) -> None:
    same = dict.fromkeys(range(8), questions(1)[0])
    with serving(lambda n, body: GOOD) as server:
        client = openai.OpenAI(api_key="sk-secret", base_url=server.url, http_client=http)
        run = explain(same, ServerChat(client, "m"), tmp_path, concurrency=8)
    assert len(server.requests) == run.usage.asked == 1
    assert run.labels.latent.tolist() == list(range(8)) and run.failures.empty
