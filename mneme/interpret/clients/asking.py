"""Many questions to one model, paid for once each, within a budget, whatever happens meanwhile.

A question whose reply is kept (response_cache.py) costs nothing. 429 (Retry-After), 5xx, time-outs and lost connections
are waited out, exponentially, all questions together. A reply is kept as soon as it arrives, before it is read: a run
that was killed pays for nothing twice. A reply that can't be used is asked for once more by a later run, then never
again. Where one question after the other fails in the same way, which the next would do too, no other is sent. Every
question ends in `answers` or, with the reason, in `reasons`.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from mneme._util.errors import LabelError
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.interpret.clients.base import CHARACTERS, Chat, Reply, ReplyError
from mneme.interpret.clients.response_cache import CachedResponse, Prompt, ResponseCache, cached_response

_log = logging.getLogger(__name__)

K = TypeVar("K")
T = TypeVar("T")

ATTEMPTS = 2  # paid replies a question may have before it is given up
_RETRIES = 5
_ALIKE = 3  # questions in a row that fail alike, of which no other is sent
_LONGEST_WAIT = 300.0  # seconds: a server that asks for more is left for another day


class Prices(NamedTuple):
    """Money for a million tokens."""

    prompt: float
    reply: float

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float:
        """Of so many tokens."""
        return (prompt_tokens * self.prompt + reply_tokens * self.reply) / 1e6


class Budget(NamedTuple):
    """The most that one run may spend."""

    tokens: float = float("inf")
    """Prompt and reply."""
    money: float = float("inf")
    """In the prices' currency; without prices only tokens are counted."""
    prices: Prices | None = None


@dataclass
class Usage:
    """What was spent."""

    asked: int = 0
    """Replies that arrived."""
    cached: int = 0
    """Questions whose reply was kept."""
    unsure: int = 0
    """Questions sent whose reply never arrived: they may be paid, and count as if they were."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    seconds: float = 0.0
    """Of the whole, wall clock."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.reply_tokens


class Answer(NamedTuple, Generic[T]):
    """What was read from a reply."""

    value: T
    response: str
    """Name of its response."""


@dataclass
class Asked(Generic[K, T]):
    """What came of the questions, in their order."""

    answers: dict[K, Answer[T]] = field(default_factory=dict)
    reasons: dict[K, str] = field(default_factory=dict)
    """Why a question has no answer."""
    usage: Usage = field(default_factory=Usage)


def ask_all(
    prompts: Mapping[K, Prompt],
    chat: Chat,
    folder: str | Path,
    read: Callable[[str], T],
    *,
    budget: Budget | None = None,
    concurrency: int = 4,
    name: str = "ask the model",
    unit: str = "questions",
    wait: float = 0.5,
    progress: Progress = NULL_PROGRESS,
) -> Asked[K, T]:
    """Ask about each key, in this order.

    `read`: reply's text -> what it says; it raises LabelError for a reply that can't be used. `folder`: where
    responses are kept. `wait`: seconds of the first back-off.
    """
    asking = _Asking(chat, ResponseCache(folder), read, budget or Budget(), wait)
    found: dict[K, Answer[T]] = {}
    reasons: dict[K, str] = {}
    same: dict[Prompt, list[K]] = {}  # one question, asked for several keys, is paid for once
    for key, prompt in prompts.items():
        same.setdefault(prompt, []).append(key)
    began = time.monotonic()
    with progress.task(name, total=len(prompts), unit=unit) as task:
        pool = ThreadPoolExecutor(min(concurrency, chat.most_at_once or concurrency))
        try:
            jobs = {pool.submit(asking.ask, prompt): keys for prompt, keys in same.items()}
            for job in as_completed(jobs):
                try:
                    found |= dict.fromkeys(jobs[job], job.result())
                except LabelError as error:
                    reasons |= dict.fromkeys(jobs[job], str(error))
                task.advance(len(jobs[job]))
                task.note(asking.note(len(reasons), time.monotonic() - began))
        finally:
            asking.stop("interrupted")
            pool.shutdown(wait=True, cancel_futures=True)
    asking.usage.seconds = time.monotonic() - began
    return Asked(
        {key: found[key] for key in prompts if key in found},
        {key: reasons[key] for key in prompts if key in reasons},
        asking.usage,
    )


def estimated_tokens(prompt: Prompt) -> int:
    """About how many tokens a prompt has; what the server counts corrects it."""
    return (len(prompt.system) + len(prompt.user)) // CHARACTERS + 1


class _UsedUpError(LabelError):
    """A reply as long as it may be that can't be used: it was cut off, or all of it was a thought."""


class _Asking(Generic[T]):
    """What the threads of one run share."""

    def __init__(
        self, chat: Chat, responses: ResponseCache, read: Callable[[str], T], budget: Budget, wait: float
    ) -> None:
        self.chat, self.responses, self.read, self.budget, self.wait = chat, responses, read, budget, wait
        self.usage = Usage()
        self._reserved = [0.0, 0.0]  # prompt and reply tokens of the questions on their way
        self._guessed = 1  # tokens of the prompts answered so far, as estimated
        self._counted = 1  # and as the server counted them
        self._not_before = 0.0
        self._alike = ("", 0)  # how the last questions failed, and how many did
        self._stopped: str | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def ask(self, prompt: Prompt) -> Answer[T]:
        """The answer, kept or new. Raises LabelError."""
        key = prompt.key(self.chat.identity)
        kept = self.responses.get(key)
        if kept is not None:
            try:
                answer = Answer(self._use(kept), key)
            except LabelError:
                if kept.attempts >= ATTEMPTS:
                    raise
            else:
                self.responses.unmark(key)  # killed between keeping and unmarking
                with self._lock:
                    self.usage.cached += 1
                return answer
        if (lost := self.responses.marked(key)) is not None:
            self._charge_unsure(lost)
            self.responses.unmark(key)
        began = time.monotonic()
        reply = self._send(key, prompt)
        response = cached_response(
            self.chat.method, prompt, reply, time.monotonic() - began, 1 + (kept.attempts if kept else 0)
        )
        self.responses.keep(key, response)
        try:
            answer = Answer(self._use(response), key)
        except _UsedUpError as error:
            self._failed_alike(str(error))
            raise
        with self._lock:
            self._alike = ("", 0)
        return answer

    def stop(self, reason: str) -> None:
        """Send nothing any more."""
        with self._lock:
            self._stopped = self._stopped or reason
        self._stop.set()

    def note(self, failed: int, seconds: float) -> str:
        """Rate and cost so far."""
        with self._lock:
            usage = self.usage
            parts = [f"{usage.asked / max(seconds, 1e-3) * 60:.0f} replies a minute"] if usage.asked else []
            parts.append(f"{usage.tokens:,} tokens")
            if self.budget.prices:
                parts.append(f"cost {self.budget.prices.cost(usage.prompt_tokens, usage.reply_tokens):.4f}")
            return ", ".join([*parts, f"{failed} failed"])

    def _use(self, response: CachedResponse) -> T:
        if response.refused:
            raise LabelError("the model refused")
        try:
            return self.read(response.reply)
        except LabelError as error:
            if response.reply_tokens < self.chat.reply_tokens:
                raise
            raise _UsedUpError(
                f"{error}: its {self.chat.reply_tokens:,} tokens were used up, raise labels.max_tokens"
            ) from error
        except Exception as error:  # a reply that was paid for stops no run, whatever it holds
            _log.warning("a reply can't be read", exc_info=True)
            raise LabelError(f"the reply can't be read ({type(error).__name__})") from error

    def _failed_alike(self, reason: str) -> None:
        """Note how a question failed; stop where the last ones failed in the same way."""
        with self._lock:
            before, times = self._alike
            self._alike = (reason, times + 1 if reason == before else 1)
            last = self._alike[1] >= _ALIKE
        if last:
            self.stop(reason)

    def _send(self, key: str, prompt: Prompt) -> Reply:
        """A new reply, within the budget."""
        for turn in range(_RETRIES + 1):
            self._wait_turn()
            guess = estimated_tokens(prompt)
            expected = self._reserve(guess)
            try:
                self.responses.mark(key, guess)
                reply = self.chat.reply(prompt.system, prompt.user)
                with self._lock:
                    self.usage.asked += 1
                    self.usage.prompt_tokens += reply.prompt_tokens
                    self.usage.reply_tokens += reply.reply_tokens
                    self._guessed += guess
                    self._counted += reply.prompt_tokens
                return reply
            except ReplyError as error:
                if error.maybe_paid:
                    self._charge_unsure(guess)
                self.responses.unmark(key)
                pause = error.wait if error.wait is not None else self.wait * 2**turn * random.uniform(1, 1.5)
                if pause > _LONGEST_WAIT:
                    reason = f"{error} and asks to wait {pause:,.0f} s: label again then"
                    self.stop(reason)
                    raise LabelError(reason) from error
                if error.fatal:
                    self.stop(str(error))
                elif error.systematic:
                    self._failed_alike(str(error))
                if not error.again or turn == _RETRIES:
                    if error.unreachable:
                        self.stop(str(error))
                    raise
                _log.debug("%s: asked again in %.1f s", error, pause)
                with self._lock:
                    self._not_before = max(self._not_before, time.monotonic() + pause)
            finally:
                self._release(expected)
        raise AssertionError("the last turn raises")

    def _wait_turn(self) -> None:
        """Until the server may be asked again, or nothing is to be sent any more."""
        while not self._stop.is_set() and (left := self._not_before - time.monotonic()) > 0:
            self._stop.wait(left)
        if self._stopped:
            raise LabelError(f"not asked: {self._stopped}")

    def _reserve(self, guess: int) -> tuple[float, float]:
        with self._lock:
            prompt, reply = guess * max(1.0, self._counted / self._guessed), float(self.chat.reply_tokens)
            prompt_after = self.usage.prompt_tokens + self._reserved[0] + prompt
            reply_after = self.usage.reply_tokens + self._reserved[1] + reply
            if prompt_after + reply_after > self.budget.tokens:
                raise LabelError("not asked: the budget of tokens is used up")
            prices = self.budget.prices
            if prices is not None and prices.cost(prompt_after, reply_after) > self.budget.money:
                raise LabelError("not asked: the budget of money is used up")
            self._reserved[0] += prompt
            self._reserved[1] += reply
            return prompt, reply

    def _release(self, expected: tuple[float, float]) -> None:
        with self._lock:
            self._reserved[0] -= expected[0]
            self._reserved[1] -= expected[1]

    def _charge_unsure(self, guess: int) -> None:
        with self._lock:
            self.usage.unsure += 1
            self.usage.prompt_tokens += guess
            self.usage.reply_tokens += self.chat.reply_tokens
