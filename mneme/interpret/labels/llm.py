"""Labels by a language model behind any OpenAI-compatible server (hosted, vLLM, llama.cpp, Ollama).

Where and with what key comes from the environment only: OPENAI_BASE_URL, OPENAI_API_KEY, OPENAI_MODEL.
Neither address nor key is stored or shown.

Each latent is one request. The client waits and retries on 429 (Retry-After), 5xx and time-outs. Answers are
kept in a folder under a hash of model, instructions and data as soon as they arrive, before they are read: a run that
was killed pays for nothing twice. A reply that is no label is asked for once more by a later run, then never again.
Every latent asked for ends in `labels` or, with the reason, in `failures`.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai
import pandas as pd

from mneme.errors import LabelError
from mneme.interpret.labels.config import LabelConfig
from mneme.interpret.labels.prompt import Answer, Question, read_answer
from mneme.progress import NULL_PROGRESS, Progress
from mneme.store.files import write_text

_REPLY_TOKENS = 300
_RETRIES = 5
_ATTEMPTS = 2  # paid replies a question may have before it is given up
_FATAL = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError)


class Server(NamedTuple):
    """A model that answers."""

    client: openai.OpenAI
    model: str


class LabelRun(NamedTuple):
    """What came of the questions."""

    labels: pd.DataFrame
    """latent, label, method ('llm:MODEL'), detail (JSON)."""
    failures: pd.DataFrame
    """latent, method, reason."""
    n_asked: int
    """Requests that were answered, over the network."""
    n_cached: int
    n_tokens: int
    """Prompt and reply tokens of this run."""


def server_from_environment(*, timeout: float = 60.0, http_client: Any = None) -> Server | None:
    """The server the environment names; None without a model and one of address and key."""
    model, base_url = os.environ.get("OPENAI_MODEL"), os.environ.get("OPENAI_BASE_URL")
    key = os.environ.get("OPENAI_API_KEY")
    if not model or not (base_url or key):
        return None
    # Local servers ask for no key, the client for some text.
    client = openai.OpenAI(
        api_key=key or "none",
        base_url=base_url,
        timeout=timeout,
        max_retries=_RETRIES,
        http_client=http_client,
    )
    return Server(client, model)


def choose_server(config: LabelConfig) -> Server | None:
    """The server to use by the settings. Raises LabelError where one is demanded and none is set."""
    server = None if config.llm == "off" else server_from_environment(timeout=config.llm_timeout)
    if server is None and config.llm == "on":
        raise LabelError(
            "no labelling model is set: give OPENAI_MODEL, and OPENAI_BASE_URL or OPENAI_API_KEY, in the"
            " environment, or set labels.llm to off"
        )
    return server


def most_changed(latents: pd.DataFrame, most: int) -> np.ndarray:
    """Live changed latents, most severe first."""
    changed = latents[latents.verdict.isin(["amplified", "suppressed"])]
    return changed.sort_values("severity", ascending=False, kind="stable").latent.to_numpy()[:most]


def label_with_model(
    questions: Sequence[Question],
    server: Server,
    folder: str | Path,
    *,
    concurrency: int = 4,
    max_tokens: int = 1_000_000,
    progress: Progress = NULL_PROGRESS,
) -> LabelRun:
    """Ask about each latent, in this order, within a budget of `max_tokens` (prompt and reply).

    `folder`: where answers are kept. Latents beyond the budget, and those left when the server refuses the
    key or the model, are failures too.
    """
    run = _Asking(server, Path(folder), max_tokens)
    rows: dict[int, tuple[Answer, str]] = {}
    reasons: dict[int, str] = {}
    with progress.task("label with a model", total=len(questions), unit="latents") as task:
        pool = ThreadPoolExecutor(concurrency)
        try:
            jobs = {pool.submit(run.ask, question): question for question in questions}
            for job in as_completed(jobs):
                latent = jobs[job].latent
                try:
                    rows[latent] = job.result()
                except (LabelError, openai.OpenAIError) as error:
                    reasons[latent] = _reason(error)
                task.advance()
                task.note(f"{len(reasons)} failed, {run.spent:,} tokens")
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    method = f"llm:{server.model}"
    order = [q.latent for q in questions]
    labels = [(j, rows[j][0].label, method, _detail(*rows[j])) for j in order if j in rows]
    failures = [(j, method, reasons[j]) for j in order if j in reasons]
    return LabelRun(
        pd.DataFrame(labels, columns=["latent", "label", "method", "detail"]).astype({"latent": np.int32}),
        pd.DataFrame(failures, columns=["latent", "method", "reason"]).astype({"latent": np.int32}),
        run.n_asked,
        run.n_cached,
        run.spent,
    )


class _Asking:
    """One run's shared state: budget, counts, whether to go on."""

    def __init__(self, server: Server, folder: Path, budget: int) -> None:
        self.server, self.folder, self.budget = server, folder, budget
        self.spent = self.reserved = self.n_asked = self.n_cached = 0
        self.stopped: str | None = None
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)

    def ask(self, question: Question) -> tuple[Answer, str]:
        """The answer and its key, kept or new. Raises LabelError or an error of the client."""
        key = question.key(self.server.model)
        kept = self._kept(key)
        if kept is not None:
            try:
                answer = _read(kept)
            except LabelError:
                if kept["attempts"] >= _ATTEMPTS:
                    raise
            else:
                with self._lock:
                    self.n_cached += 1
                return answer, key
        # Four characters a token is near enough to stop in time; what was really used is counted after.
        estimate = (len(question.system) + len(question.user)) // 4 + _REPLY_TOKENS
        with self._lock:
            if self.stopped:
                raise LabelError(f"not asked: {self.stopped}")
            if self.spent + self.reserved + estimate > self.budget:
                raise LabelError("not asked: the budget of tokens is used up")
            self.reserved += estimate
        used = 0
        try:
            reply = self.server.client.chat.completions.create(
                model=self.server.model,
                messages=[
                    {"role": "system", "content": question.system},
                    {"role": "user", "content": question.user},
                ],
                temperature=0,
                max_tokens=_REPLY_TOKENS,
            )
            used = reply.usage.total_tokens if reply.usage else estimate
            with self._lock:
                self.n_asked += 1
        except _FATAL as error:
            self.stopped = _reason(error)
            raise
        finally:
            with self._lock:
                self.reserved -= estimate
                self.spent += used
        message = reply.choices[0].message if reply.choices else None
        refused = bool(getattr(message, "refusal", None))
        record = {
            "reply": message.content if message else None,
            "refused": refused,
            "tokens": used,
            "attempts": 1 + (kept["attempts"] if kept else 0),
        }
        write_text(self.folder / f"{key}.json", json.dumps(record, ensure_ascii=False))
        return _read(record), key

    def _kept(self, key: str) -> dict[str, Any] | None:
        """What was paid for before: reply, refused, attempts."""
        try:
            record = json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8"))
            return {name: record[name] for name in ("reply", "refused", "attempts")}
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _read(record: Mapping[str, Any]) -> Answer:
    """The answer in a paid reply. Raises LabelError where it holds none."""
    if record["refused"]:
        raise LabelError("the model refused")
    return read_answer(record["reply"])


def _reason(error: Exception) -> str:
    """Why, in a few words, with nothing of the server's own text: it may repeat the key."""
    if isinstance(error, openai.APITimeoutError):
        return "the server did not answer in time"
    if isinstance(error, openai.APIStatusError):
        return f"the server answered {error.status_code}"
    if isinstance(error, openai.APIConnectionError):
        return "the server can't be reached"
    if isinstance(error, LabelError):
        return str(error)
    return f"the client failed ({type(error).__name__})"


def _detail(answer: Answer, key: str) -> str:
    values = {
        "sentence": answer.sentence,
        "role": answer.role,
        "confidence": answer.confidence,
        "receipt": key,
    }
    return json.dumps(values, ensure_ascii=False)
