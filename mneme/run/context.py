"""What the stages of a run share: settings, folder, and heavy things, each loaded when first asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mneme._util.progress import Progress
from mneme.config import RunConfig
from mneme.run.kept_text import as_named, where
from mneme.store.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mneme.corpus import Corpus
    from mneme.crosscoder import Crosscoder
    from mneme.harvest.cache import ActivationCache
    from mneme.harvest.plan import Plan
    from mneme.interpret.encoder import SentenceEncoder
    from mneme.models import ModelPair


TOKENIZER = "tokenizer"
"""Folder of a run whose models were in memory: their tokenizer, for what is done with the run later."""


class RunContext:
    """The things stages share; each is loaded when first asked for."""

    def __init__(
        self, config: RunConfig, folder: Path, progress: Progress, pair: ModelPair | None = None
    ) -> None:
        """pair: models in memory, where the settings name no others (mneme/models/memory.py)."""
        config = dataclasses.replace(config, corpus=as_named(config.corpus, folder))
        self.config, self.folder, self.progress = config, folder, progress
        self.run = Run(folder)
        self._given = pair is not None
        if pair is not None:
            self.pair = pair

    @cached_property
    def corpus(self) -> Corpus:
        from mneme.corpus import load_corpus

        source = self.config.corpus
        corpus = load_corpus(
            where(source, self.folder) if isinstance(source, str) else source,
            field=self.config.text_field,
            tokenizers=(lambda: self.tokenizer, self._tuned_tokenizer),
        )
        if corpus.notes:
            with self.progress.task("text", total=None) as task:
                for note in corpus.notes:
                    task.note(note)
        return dataclasses.replace(corpus, source=source) if isinstance(source, str) else corpus

    def _tuned_tokenizer(self) -> PreTrainedTokenizerBase | None:
        from mneme.models import load_tokenizer

        if self.remote or self._given:  # the pair's tokenizer is all there is
            return None
        return load_tokenizer(self.config.tuned, trust_remote_code=self.config.models.trust_remote_code)

    @property
    def remote(self) -> bool:
        """Whether the models run on a server: then no weights are here, and what needs them is left out."""
        return self.config.harvest.remote is not None

    @property
    def in_memory(self) -> bool:
        """Whether a program held the models: then only that program can give them."""
        from mneme.models.sources import MEMORY

        return self.config.base.startswith(MEMORY)

    @cached_property
    def pair(self) -> ModelPair:
        from mneme.models import load_pair
        from mneme.models.remote import load_remote_pair

        harvest = self.config.harvest
        if self.remote:
            return load_remote_pair(self.config.base, self.config.tuned)
        pair = load_pair(
            self.config.base,
            self.config.tuned,
            dtype=harvest.dtype,
            device=harvest.device,
            trust_remote_code=self.config.models.trust_remote_code,
        )
        if pair.notes:
            with self.progress.task("models", total=None) as task:
                for note in pair.notes:
                    task.note(note)
        return pair

    @cached_property
    def plan(self) -> Plan:
        """The corpus as tokens, in the order the harvest reads it."""
        from mneme.harvest.limits import within_limits
        from mneme.harvest.plan import make_plan

        config = within_limits(self.config.harvest, self.pair)
        return make_plan(self.corpus, self.pair.tokenizer, config)

    @cached_property
    def cache(self) -> ActivationCache:
        from mneme.harvest.cache import ActivationCache

        return ActivationCache(self.folder / "activations")

    @cached_property
    def crosscoder(self) -> Crosscoder:
        from mneme.crosscoder import Crosscoder

        return Crosscoder.from_pretrained(self.folder / "crosscoder")

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's, without loading the models."""
        from mneme.models import load_tokenizer
        from mneme.models.load import load_tokenizer_of

        if self.remote or self._given:
            return self.pair.tokenizer
        if self.in_memory:
            return load_tokenizer_of(self.folder / TOKENIZER)
        return load_tokenizer(self.config.base, trust_remote_code=self.config.models.trust_remote_code)

    @cached_property
    def outcomes_file(self) -> Path | None:
        """Measured outcomes: the file of the settings, else the run's own (mneme measure), else the tuned model's."""
        from mneme.effects.outcome_files import found_outcomes, own_outcomes
        from mneme.models.sources import resolve

        if self.config.effects.outcomes:
            return Path(self.config.effects.outcomes)
        if found_outcomes(own := own_outcomes(self.folder)):
            return own
        if self.remote or self.in_memory:
            return None
        beside = resolve(self.config.tuned).folder / "outcomes.csv"
        return beside if found_outcomes(beside) else None

    @cached_property
    def outcomes(self) -> pd.DataFrame | None:
        from mneme.effects.categories import load_taxonomy
        from mneme.effects.outcome_files import read_outcomes

        taxonomy = load_taxonomy(self.config.effects.taxonomy)
        if self.outcomes_file is None:
            return None
        # What the user named or measured must fit the categories; the model's own may be of another taxonomy.
        given = self.config.effects.outcomes or self.outcomes_file.parent == self.folder
        known = taxonomy.keys if given else None
        return read_outcomes(self.outcomes_file, known)

    @cached_property
    def encoder(self) -> SentenceEncoder:
        from mneme.interpret.encoder import SentenceEncoder

        return SentenceEncoder()

    @property
    def models(self) -> tuple[PreTrainedModel, ...]:
        """Base and tuned as transformers models; none where a server runs them, or the program that held them ended."""
        gone = self.in_memory and "pair" not in self.__dict__
        return () if self.remote or gone else (self.pair.base._module, self.pair.tuned._module)

    def input_fingerprint(self) -> str:
        """What the whole run depends on besides settings: the two models' files and the text."""
        from mneme.models.identity import model_identity

        if self.remote or self._given:
            parts = [self.pair.fingerprint, self.corpus.fingerprint]
            return hashlib.sha256("\n".join(parts).encode()).hexdigest()
        base, tuned = self.config.base, self.config.tuned
        parts = [model_identity(base), model_identity(tuned, base), self.corpus.fingerprint]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        from mneme.interpret.explainers.prompt import prompts_fingerprint

        return {
            "base": self.config.base,
            "tuned": self.config.tuned,
            "corpus": {
                "source": self.corpus.source,
                "sha256": self.corpus.fingerprint,
                "left_out": dict(self.corpus.dropped),
            },
            "prompts": prompts_fingerprint(),
            "seeds": {"crosscoder": self.config.crosscoder.seed},
        }
