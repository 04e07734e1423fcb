"""The report as one typed object: everything a reader needs to defend a finding, in the order they need it.

`collect.py` fills it from a run; HTML, Markdown and JSON are only other ways to write it. None is "not
measured". Units as in `mneme/store/schema.py`: betas and norms in raw activation units, NLL and KL in
nats, rates are shares in [0, 1], `effect` and `severity` shares of the base model's typical deviation.
Texts are the run's own and hostile; they are cut to 200 characters here (a context's token to 40) and
escaped where they are written.
"""

from __future__ import annotations

from dataclasses import dataclass

from mneme.report.capability import Capability
from mneme.report.compared import Explainer, ExplainerPair
from mneme.report.findings import Finding
from mneme.report.latents import Bin, LabelQuality, Latent, Point, Remark
from mneme.report.layers import Layers
from mneme.report.patched import Causal
from mneme.report.power import Power
from mneme.report.read_out import ReadOut

FORMAT = 3
"""Version of the JSON; raised when a key changes its meaning or goes away."""


@dataclass(frozen=True)
class Facts:
    """What was compared, and how."""

    name: str
    base: str
    tuned: str
    corpus: str
    text_left_out: str
    """documents and characters of it that were left out, in words"""
    layer: int | None
    n_layers: int | None
    width: int | None
    """d"""
    latents: int | None
    """F"""
    k: int | None
    """active latents per token in training"""
    variant: str
    n_documents: int | None
    n_tokens: int | None
    n_skipped_bos: int | None
    n_skipped_sinks: int | None
    created_at: str
    mneme_version: str
    synthetic: bool
    """the numbers were made up for a test"""


@dataclass(frozen=True)
class Entry:
    """A name and a value: a version, a seed, a fingerprint."""

    name: str
    value: str


@dataclass(frozen=True)
class StageTime:
    """A finished stage."""

    stage: str
    seconds: float | None
    peak_memory_mb: float | None
    fingerprint: str


@dataclass(frozen=True)
class Effect:
    """A category: what was predicted beside what was measured."""

    category: str
    name: str
    group: str
    effect: float | None
    ci_low: float | None
    ci_high: float | None
    direction: str
    verdict: str
    reason: str
    """why it is not known; else ''"""
    shown_by: str
    """of a degraded or improved one: latents, or not localised at this layer; else ''"""
    intended: bool
    """whether the tuning was meant to change it"""
    nll_change: float | None
    nll_low: float | None
    nll_high: float | None
    """ends of the interval of nll_change, over documents"""
    kl: float | None
    n_tokens: int | None
    measured_change: float | None
    """measured change on a benchmark, in `unit`"""
    measured_low: float | None
    measured_high: float | None
    unit: str
    """nats (NLL) or error rate (share of wrong answers); '' where nothing was measured"""
    accuracy_change: float | None
    """tuned - base accuracy, a share"""
    n_items: int | None
    source: str
    measured: str
    """worse | better | same | open | not measured: where the interval lies, `Report.outcome_margin` being the margin"""
    call: str
    """confirmed | false | missed | undecided | open, or '' where nothing was measured"""


@dataclass(frozen=True)
class HealthCheck:
    """One check of whether the run can be trusted."""

    metric: str
    title: str
    value: float | None
    unit: str
    threshold: str
    status: str
    """ok | warn | fail | info"""
    advice: str


@dataclass(frozen=True)
class Null:
    """What the method says of a pair that did not change."""

    kind: str
    n: int | None
    n_false: int | None
    rate: float | None
    ci_low: float | None
    ci_high: float | None
    margin: float | None
    n_categories: int | None
    n_affected: int | None


@dataclass(frozen=True)
class Score:
    """How well a method's predictions agree with the measured outcomes."""

    method: str
    metric: str
    subset: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None


@dataclass(frozen=True)
class Comparison:
    """The crosscoder against the best baseline in one metric on one subset."""

    metric: str
    subset: str
    crosscoder: float
    baseline: str
    baseline_value: float

    @property
    def beaten(self) -> bool:
        """The baseline did better."""
        return self.baseline_value > self.crosscoder


@dataclass(frozen=True)
class Missing:
    """Something the report can't say, and what would make it."""

    what: str
    command: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Report:
    """All of it."""

    verdict: str
    """the verdict in a sentence"""
    run_verdict: str
    """the verdict in a word (mneme/_util/vocabulary.py); '' before it is known"""
    facts: Facts
    versions: tuple[Entry, ...]
    seeds: tuple[Entry, ...]
    fingerprints: tuple[Entry, ...]
    stages: tuple[StageTime, ...]
    verdict_counts: tuple[tuple[str, int], ...]
    uncertain_reasons: tuple[tuple[str, int], ...]
    """why latents are uncertain, the most frequent reason first"""
    effects: tuple[Effect, ...]
    findings: tuple[Finding, ...]
    """the one that explains most first, parts of one last; empty where no latent changed, or before the stage"""
    findings_sentence: str
    outcome_margin: float
    """a smaller measured change of NLL is none, nats per token"""
    latents: tuple[Latent, ...]
    """accepted, needing work, not reviewed, rejected; in each the most severe amplified, suppressed, redirected"""
    health: tuple[HealthCheck, ...]
    nulls: tuple[Null, ...]
    power: Power
    layers: Layers
    label_quality: tuple[LabelQuality, ...]
    labels_unreliable: float | None
    """share of scored latents whose label isn't shown to beat other latents' labels"""
    explainers: tuple[Explainer, ...]
    explainer_pairs: tuple[ExplainerPair, ...]
    causal: Causal
    read_outs: tuple[ReadOut, ...]
    """dictionaries of one model alone; none where `mneme read-out` was not run"""
    capabilities: tuple[Capability, ...]
    scores: tuple[Score, ...]
    comparisons: tuple[Comparison, ...]
    not_measured: tuple[Missing, ...]
    remarks: tuple[Remark, ...]
    histogram: tuple[Bin, ...]
    points: tuple[Point, ...]
    """live latents: changed ones, and a sample of the others"""
