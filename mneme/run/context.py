"""What the stages of a run share: settings, folder, and heavy things, each loaded when first asked for."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mneme._util.errors import LabelError
from mneme._util.progress import Progress
from mneme.config import RunConfig
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
    from mneme.run.estimate import Estimate


class Workbench:
    """The things stages share; each is loaded when first asked for."""

    def __init__(self, config: RunConfig, folder: Path, progress: Progress) -> None:
        self.config, self.folder, self.progress = config, folder, progress
        self.run = Run(folder)

    @cached_property
    def corpus(self) -> Corpus:
        from mneme.corpus import load_corpus

        return load_corpus(self.config.corpus)

    @property
    def remote(self) -> bool:
        """Whether the models run on a server: then no weights are here, and what needs them is left out."""
        return self.config.harvest.remote is not None

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
        """The corpus as tokens, laid out for the harvest."""
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

        if self.remote:
            return self.pair.tokenizer
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
        if self.remote:
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

    def check(self, start: str | None = "harvest") -> Estimate | None:
        """All that a run's settings, files and models must fulfil, told in one line before any work.

        What `mneme run` and its --dry-run both do first. `start`: the stage that the run begins with ("harvest",
        "crosscoder", or None for a later one); models are loaded only where their activations are still to be
        read. Returns what such a run will take.

        Raises a UserError: see the rooms' own checks.
        """
        self._check_settings()
        if start == "harvest":
            return self._check_models()
        if start == "crosscoder":
            self._check_crosscoder(self.cache.width, self.cache.n)
        return None

    def _check_settings(self) -> None:
        """What can be told without loading a model, quickest first."""
        from mneme._util.files import check_place
        from mneme.effects.categories import load_taxonomy
        from mneme.interpret.explainers.names import check_demanded, explainer_names
        from mneme.models.device import pick_device

        config = self.config
        check_place(self.folder)
        if not self.remote:
            pick_device(config.harvest.device)
        load_taxonomy(config.effects.taxonomy).check_names("effects.forget", config.effects.forget)
        _ = self.outcomes
        if config.effects.assign != "encoder" and not explainer_names(config.labels):
            raise LabelError(
                f"effects.assign = {config.effects.assign} asks a labelling model, and none is named: set"
                " OPENAI_MODEL and OPENAI_BASE_URL or OPENAI_API_KEY, or labels.local"
            )
        check_demanded(config.labels)
        _ = self.encoder  # where it is missing, that is told now and not after the harvest

    def _check_models(self) -> Estimate:
        """The pair, its layer, the text and the sizes that follow from them."""
        from mneme.harvest.layer import check_layer
        from mneme.run.estimate import estimate

        with self.progress.task("estimate", total=None) as task:
            if self.config.load_crosscoder is not None:
                _ = self._imported_width  # before models are loaded: it may not even be there
            check_layer(self.config.harvest, self.pair)
            self._check_crosscoder(self.pair.width, self.plan.n_tokens)
            expected = estimate(self)
            task.note(expected.sentence())
        expected.check(self.folder)
        return expected

    def _check_crosscoder(self, width: int, n_tokens: int) -> None:
        """Whether the one to load fits the models, or one of these settings can be trained."""
        from mneme.crosscoder.formats import check_width
        from mneme.crosscoder.grid import check_ranks

        config = self.config.crosscoder
        if self.config.load_crosscoder is not None:
            check_width(self.config.load_crosscoder, self._imported_width, width)
        else:
            config.check_size(width)
            check_ranks(config, config.n_latents(width), n_tokens)

    @cached_property
    def _imported_width(self) -> int:
        """Of the crosscoder to load, which is read whole for it: a damaged one is told, too."""
        from mneme.crosscoder import Crosscoder

        assert self.config.load_crosscoder is not None
        return Crosscoder.from_pretrained(self.config.load_crosscoder).width

    @cached_property
    def encoder(self) -> SentenceEncoder:
        from mneme.interpret.encoder import SentenceEncoder

        return SentenceEncoder()

    @property
    def models(self) -> tuple[PreTrainedModel, ...]:
        """Base and tuned as transformers models; none where a server runs them."""
        return () if self.remote else (self.pair.base._module, self.pair.tuned._module)

    def input_fingerprint(self) -> str:
        """What the whole run depends on besides settings: the two models' files and the text."""
        from mneme.models.identity import model_identity

        if self.remote:
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
            "corpus": {"source": self.corpus.source, "sha256": self.corpus.fingerprint},
            "prompts": prompts_fingerprint(),
            "seeds": {"crosscoder": self.config.crosscoder.seed},
        }
