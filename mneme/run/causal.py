"""`mneme causal`: a run's latents patched; what is measured is kept as it comes, and fills the run's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mneme._util.errors import ConfigError, ModelError, RunError
from mneme._util.memory import explained
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.causal.choice import context_windows, document_windows, weighed_documents
from mneme.causal.finding_patches import FindingChange, of_findings
from mneme.causal.frames import ablation_rows, causal_rows, finding_rows
from mneme.causal.kept import Kept
from mneme.causal.measure import Patch, Streams, Sums, joined, measure
from mneme.causal.patches import Dictionary, latents_like, of_latent, of_many
from mneme.effects.predict import changed_steps
from mneme.harvest.batch_memory import reading_advice
from mneme.harvest.continuation import Continuation
from mneme.harvest.forward import PairReader
from mneme.harvest.limits import logits_batch_tokens, within_limits
from mneme.harvest.text import Text, TextReader
from mneme.run.finding_changes import changes_of_findings, principal_directions
from mneme.run.finished import finished_context, tell_findings
from mneme.run.pair_of_run import pair_of_run
from mneme.store.queries import causal as queries
from mneme.store.queries import findings as finding_queries
from mneme.store.queries import tables
from mneme.store.writing import writing

if TYPE_CHECKING:
    from mneme.run.context import RunContext
    from mneme.store.run import Run


def run_causal(
    folder: str | Path,
    *,
    latents: Sequence[int] | None = None,
    limit: int = 12,
    contexts: int = 8,
    tokens: int = 8192,
    findings: int = 5,
    seed: int = 0,
    progress: Progress = NULL_PROGRESS,
) -> Run:
    """Patch a run's latents, one by one and all changed ones together, and its findings; returns the run.

    latents: those to try one by one; the `limit` most severe changed ones when None. contexts: top contexts of each
    that are read. tokens: of the documents on which all changed latents are tried together, about; 0 leaves that out.
    findings: the first so many, each by itself on the same documents, beside as many principal directions of the
    models' difference. What was measured with the same settings is not measured again; Ctrl-C keeps it. Raises
    RunError (no run, no dictionary, contexts or activations, no changed latent), ConfigError (a latent that can't be
    patched), ModelError (models that are gone, changed or on a server), OutOfMemoryError.
    """
    if limit < 1 or contexts < 1 or tokens < 0 or findings < 0:
        raise ConfigError("--limit and --contexts must be at least 1, --tokens and --findings at least 0")
    context, run = finished_context(folder, progress)
    if run.finished("interpretation") is None or not (run.path / "crosscoder" / "config.json").exists():
        raise RunError(
            f"{run.path} has no crosscoder or no contexts: `mneme run {run.path / 'run.toml'} --out {run.path}`"
            " makes them"
        )
    if context.crosscoder.read_model is not None:
        raise ConfigError(
            f"crosscoder.variant = {context.crosscoder.config.variant} has one direction for both models, and patching"
            " puts one model's in place of the other's: patch a run of the variant batchtopk"
        )
    if context.remote:
        raise ModelError("patching needs the models' weights here, and a server runs this run's pair")
    table = tables.latents(run)
    changed = np.flatnonzero(changed_steps(table).sum(0) > 0)
    chosen = _chosen(run, table, changed, latents, limit)
    with writing(run.path):
        kept = Kept(run.path / "causal", run.finished("interpretation") or "")
        work = _Work(context, run, table, changed, kept, seed)
        try:
            if tokens and len(changed):
                work.together(tokens)
            if tokens and (told := changes_of_findings(context, run, table, changed, findings)):
                work.findings(told, tokens)
            with progress.task("causal: each latent", len(chosen), "latents") as task:
                for latent in chosen:
                    work.one(latent, contexts)
                    task.advance()
        finally:  # Ctrl-C: what was measured is shown
            work.write()
        tell_findings(run)
    return run


def _chosen(
    run: Run, table: pd.DataFrame, changed: np.ndarray, latents: Sequence[int] | None, limit: int
) -> list[int]:
    """The latents to try one by one, the most severe first."""
    if latents is None:
        if not len(changed):
            raise RunError(f"{run.path} calls no latent changed: name the ones to try with --latents 1,2,3")
        severity = table["severity"].fillna(0).to_numpy()[changed]
        return [int(j) for j in changed[np.argsort(-severity, kind="stable")][:limit]]
    with_contexts = set(queries.latents_with_contexts(run))
    for latent in latents:
        if not 0 <= latent < len(table):
            raise ConfigError(f"there is no latent {latent}: this run has 0 to {len(table) - 1}")
        if latent not in with_contexts:
            raise ConfigError(f"latent {latent} has no contexts, it never fires: leave it out of --latents")
    return list(dict.fromkeys(latents))


class _Work:
    """One call: models and dictionary are loaded when the first thing is to be measured."""

    def __init__(
        self, context: RunContext, run: Run, table: pd.DataFrame, changed: np.ndarray, kept: Kept, seed: int
    ) -> None:
        self.context, self.run, self.table, self.changed = context, run, table, changed
        self.kept, self.seed = kept, seed

    def one(self, latent: int, contexts: int) -> None:
        """A latent on its own contexts."""
        settings = f"{contexts} contexts, seed {self.seed}"
        if self.kept.get(f"latent-{latent}", settings) is not None:
            return
        like = latents_like(self.table, np.array([latent]), self.changed)[0]
        windows = context_windows(queries.top_contexts(self.run, latent, contexts), self.text)
        patches = partial(of_latent, self.dictionary, latent=latent, others=like, seed=self.seed)
        parts = [self._measured(text, patches) for text in self.text.batches(windows, self.size)]
        self.kept.put(f"latent-{latent}", settings, joined(parts))

    def together(self, tokens: int) -> None:
        """All changed latents at once, batch by batch, each kept."""
        settings = f"{tokens} tokens, seed {self.seed}"
        if self.kept.get("together", settings) is not None:
            return
        like = latents_like(self.table, self.changed, self.changed)
        patches = partial(of_many, self.dictionary, latents=self.changed, like=like, seed=self.seed)
        self._batches("together", "causal: all changed latents", settings, tokens, patches)

    def _batches(
        self, name: str, title: str, settings: str, tokens: int, patches: Callable[..., Iterable[Patch]]
    ) -> None:
        """Whole documents patched, about `tokens` tokens of them; each batch is kept until all are done."""
        weights = weighed_documents(self.context.cache, tokens)
        windows = document_windows(weights, self.text)
        total = sum(window.length for window in windows)
        with self.context.progress.task(title, total, "tokens") as task:
            parts = []
            for number, text in enumerate(self.text.batches(windows, self.size)):
                part = self.kept.get(f"{name}-{number}", settings)
                if part is None:
                    part = self._measured(text, patches)
                    part = part._replace(weight=np.array([weights[int(d)] for d in part.document]))
                    self.kept.put(f"{name}-{number}", settings, part)
                parts.append(part)
                task.advance(int(text.described.sum()))
        self.kept.put(name, settings, joined(parts))
        self.kept.drop(f"{name}-*")

    def findings(self, changes: Sequence[FindingChange], tokens: int) -> None:
        """Findings one by one on the documents of `together`, batch by batch, each kept."""
        names = " ".join(f"{each.finding}/{each.dimensions}" for each in changes)
        settings = f"{tokens} tokens, seed {self.seed}, {names}"
        if self.kept.get("findings", settings) is not None:
            return
        principal = principal_directions(self.context.cache, max(each.dimensions for each in changes))
        patches = partial(of_findings, self.dictionary, findings=changes, principal=principal, seed=self.seed)
        self._batches("findings", "causal: findings", settings, tokens, patches)

    def write(self) -> None:
        """The tables, from all that is kept."""
        singles = {latent: self.kept.get(f"latent-{latent}") for latent in self.kept.latents()}
        all_together = self.kept.get("together")
        found = {latent: sums for latent, sums in singles.items() if sums is not None}
        rows = [causal_rows(sums, latent=latent, n_latents=1) for latent, sums in found.items()]
        if all_together is not None:
            rows.append(causal_rows(all_together, latent=None, n_latents=len(self.changed)))
        by_finding = self.kept.get("findings")
        dimensions = finding_queries.dimensions(self.run)
        grouped = [finding_rows(by_finding, dimensions)] if by_finding is not None and dimensions else []
        ablations = [ablation_rows(sums, latent) for latent, sums in found.items()]
        with self.run.stage_writer() as writer:
            for name, parts in (
                ("causal", rows),
                ("causal_ablations", ablations),
                ("causal_findings", grouped),
            ):
                if parts:
                    writer.replace(name, pd.concat(parts, ignore_index=True))

    def _measured(self, text: Text, patches: Callable[..., Iterable[Patch]]) -> Sums:
        config = within_limits(self.context.config.harvest, self.context.pair)
        reader = self.continuation.reader
        with explained(partial(reading_advice, self.context.pair, reader.layer, config)):
            out = reader.read(text.ids, logits=False)
            streams = Streams(out.base.cpu(), out.tuned.cpu())
            return measure(self.continuation, text, streams, patches(text=text, streams=streams))

    @cached_property
    def continuation(self) -> Continuation:
        with self.context.progress.task("causal: loading both models", total=None):
            # in the precision that the run was read in, whatever this machine would choose
            pair = self.context.pair = pair_of_run(self.run.path, self.context.config)
        return Continuation(
            PairReader(pair, self.context.cache.layer, self.context.config.harvest.share_layers)
        )

    @cached_property
    def dictionary(self) -> Dictionary:
        return Dictionary(self.context.crosscoder)

    @cached_property
    def text(self) -> TextReader:
        pair = self.continuation.pair
        config = within_limits(self.context.config.harvest, pair)
        return TextReader(self.context.cache, config.context_length, pair.tokenizer.bos_token_id)

    @cached_property
    def size(self) -> int:
        """Tokens of a batch: as many as the harvest's, and no more logits than it holds."""
        return logits_batch_tokens(self.continuation.pair, self.context.config.harvest)
