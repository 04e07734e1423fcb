"""Sentences and table cells that HTML and Markdown share, as plain text: each format escapes them itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mneme._util.vocabulary import LATENT_SIGNS, NOT_LOCALISED
from mneme.analyst import review_status
from mneme.report.analyst import OWN
from mneme.report.format import ABSENT, bounded, count, interval, number, percent, visible
from mneme.report.latents import Context, Latent, Remark
from mneme.report.method import METHOD_NAMES, METRICS, SUBSETS
from mneme.report.model import Comparison, Effect, Missing, Report, Score
from mneme.verdict.calls import calls_sentence

CALLS = {
    "confirmed": "✓ confirmed",
    "false": "✗ false",
    "missed": "✗ missed",
    "undecided": "undecided",
    "open": "open",
    "": "not measured",
}
REMARK_COLUMNS = ("latent", "review", "analyst's label", "note", "tags", "by", "at (UTC)")
_AROUND = 14
"""Tokens shown to either side of the strongest one."""


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens of one strength: 0 (hardly) to 4 (the context's maximum)."""

    text: str
    strength: int


def pieces(context: Context) -> list[Piece]:
    """The context as readable text around its strongest token, cut into pieces of equal strength."""
    values = [max(0.0, a) if math.isfinite(a) else 0.0 for a in context.activations]
    if not values:
        return []
    peak = max(range(len(values)), key=lambda i: values[i])
    start, stop = max(0, peak - _AROUND), min(len(values), peak + _AROUND + 1)
    most = values[peak] or 1.0
    found: list[Piece] = [Piece("…", 0)] if start else []
    for token, value in zip(context.tokens[start:stop], values[start:stop], strict=True):
        strength = math.ceil(4 * value / most) if value > 0.1 * most else 0
        text = visible(token, 40)
        if found and found[-1].strength == strength:
            found[-1] = Piece(found[-1].text + text, strength)
        else:
            found.append(Piece(text, strength))
    return found


def headline(report: Report) -> str:
    """The verdict sentence, or why there is none."""
    return report.verdict or "No verdict yet: the run is not finished."


def cautions(report: Report) -> list[str]:
    """What a reader must know before quoting anything."""
    said = []
    if report.facts.synthetic:
        said.append("The numbers of this run were made up for a test. They say nothing about any model.")
    failed = [h.title for h in report.health if h.status == "fail"]
    if failed:
        said.append(
            f"{_plural(len(failed), 'health check')} failed: {'; '.join(failed)}."
            " Read “How sure” before quoting."
        )
    beaten = [c for c in report.comparisons if c.beaten]
    if beaten:
        said.append(
            "A cheap baseline agrees better with the measured outcomes in"
            f" {len(beaten)} of {len(report.comparisons)} comparisons: see “How sure”."
        )
    return said


def facts(report: Report) -> list[tuple[str, str]]:
    """What was compared."""
    f = report.facts
    layer = (
        ABSENT
        if f.layer is None
        else f"output of layer {f.layer}" + (f" of {f.n_layers}" if f.n_layers else "")
    )
    dictionary = (
        f"{f.variant or 'crosscoder'}, F = {count(f.latents)} latents, k = {count(f.k)},"
        f" width d = {count(f.width)}"
    )
    text = f"{f.corpus or ABSENT}: {count(f.n_tokens)} tokens of {count(f.n_documents)} documents"
    text += f"; left out: {f.text_left_out}" if f.text_left_out else ""
    left_out = f"{count(f.n_skipped_bos)} BOS or padding, {count(f.n_skipped_sinks)} attention sinks"
    return [
        ("Base model", f.base or ABSENT),
        ("Tuned model", f.tuned or ABSENT),
        ("Read at", layer),
        ("Corpus", text),
        ("Tokens left out", left_out),
        ("Crosscoder", dictionary),
        ("Run", f"{f.name}, made {f.created_at or ABSENT} by mneme {f.mneme_version or ABSENT}"),
    ]


def moved(report: Report) -> str:
    """Counts of latents by verdict, in one sentence."""
    if not report.verdict_counts:
        return "No latent has a verdict yet."
    parts = ", ".join(f"{count(n)} {verdict}" for verdict, n in report.verdict_counts)
    total = sum(n for _, n in report.verdict_counts)
    why = ", ".join(f"{count(n)} {reason}" for reason, n in report.uncertain_reasons)
    said = f" Why uncertain: {why}." if why else ""
    return f"Of {count(total)} latents: {parts}.{said}"


def tally(effects: Sequence[Effect]) -> str:
    """How the verdicts fared, in one sentence."""
    if not effects:
        return "No effects yet."
    said = calls_sentence(e.call for e in effects)
    return said or f"{_plural(len(effects), 'category', 'categories')} predicted, none measured."


def effect_verdict(effect: Effect) -> str:
    """`degraded`, `degraded: not localised at this layer`, or `not known: too little text`."""
    why = effect.reason or (effect.shown_by if effect.shown_by == NOT_LOCALISED else "")
    goal = " (intended)" if effect.intended else ""
    return f"{effect.verdict}{goal}: {why}" if why else f"{effect.verdict}{goal}"


def predicted(effect: Effect) -> str:
    """0.31 [0.25, 0.37]."""
    return interval(effect.effect, effect.ci_low, effect.ci_high)


def measured_title(effects: Sequence[Effect]) -> str:
    """What the measured changes are changes of, as a heading."""
    units = sorted({e.unit for e in effects if e.unit})
    return (
        f"measured change, {' or '.join(units)}"
        if units not in ([], ["nats"])
        else "measured NLL change, nats"
    )


def measured(effect: Effect) -> str:
    """+0.31 [+0.25, +0.37]."""
    return interval(effect.measured_change, effect.measured_low, effect.measured_high, signed=True)


def latent_title(latent: Latent) -> str:
    """▲ 1234 amplified."""
    why = f": {latent.reason}" if latent.reason else ""
    return f"{LATENT_SIGNS.get(latent.verdict, '')} Latent {latent.latent}, {latent.verdict}{why}".strip()


def latent_numbers(latent: Latent) -> list[tuple[str, str]]:
    """The evidence on one latent."""
    # attribution measures the size of a turned latent along each model's own decoder
    ratio = "log ratio, own decoders" if latent.turned else "log ratio"
    found = [
        (ratio, bounded(latent.log_ratio, latent.ci_low, latent.ci_high)),
        ("q", number(latent.q_value)),
        ("beta base → tuned", f"{number(latent.beta_base)} → {number(latent.beta_tuned)}"),
        ("delta_norm", number(latent.delta_norm)),
        ("decoder cosine", number(latent.decoder_cosine)),
        ("fires on", f"{percent(latent.firing_rate)} of tokens, {count(latent.n_documents)} documents"),
        ("KL there", number(latent.kl, "nats")),
        ("NLL change there", number(latent.nll_change, "nats", signed=True)),
        ("severity", number(latent.severity)),
    ]
    if latent.turn_q is not None:
        turn = interval(latent.turn_cosine, latent.turn_low, latent.turn_high)
        found.append(("cosine of both models' directions", f"{turn}, q {number(latent.turn_q)}"))
    if latent.n_seeds is not None:
        found.append(("found in", f"{latent.seeds_found} of {latent.n_seeds} seeds"))
    elif latent.stability is not None:  # of an earlier mneme
        found.append(("found again by", f"{percent(latent.stability)} of retrained dictionaries"))
    if latent.flags:
        found.append(("flags", ", ".join(latent.flags)))
    return found


def review(remark: Remark) -> str:
    """✓ accept ★ by ann: what for. [core, biology]"""
    verdict = review_status(remark.verdict, remark.bookmark)
    said = " ".join(part for part in (verdict, f"by {remark.author}" if remark.author else "") if part)
    tags = f" [{', '.join(remark.tags)}]" if remark.tags else ""
    return said + (f": {_one_line(remark.note)}" if remark.note else "") + tags


def remark_rows(remarks: Sequence[Remark]) -> list[tuple[str, ...]]:
    """latent, review, the analyst's label, note, tags, by, at."""
    return [
        (
            "the run" if r.latent is None else str(r.latent),
            review_status(r.verdict, r.bookmark),
            r.label,
            _one_line(r.note),
            ", ".join(r.tags),
            r.author,
            r.at[:16].replace("T", " "),
        )
        for r in remarks
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def label_note(latent: Latent) -> str:
    """Where the label comes from and how it scores."""
    if not latent.label:
        return "no label"
    if latent.label_method == OWN:
        return "the analyst's own label" + (
            f", automatic: {latent.label_automatic}" if latent.label_automatic else ""
        )
    if latent.score is None:
        return f"{latent.label_method}, not scored"
    guess = (
        "" if latent.score_shuffled is None else f" (other latents' labels: {percent(latent.score_shuffled)})"
    )
    trust = ": unreliable" if latent.unreliable else ""
    return f"{latent.label_method}, held-out score {percent(latent.score)}{guess}{trust}"


def comparisons(found: Sequence[Comparison]) -> list[str]:
    """Who agrees better with the outcomes: for each subset, the metrics that a baseline wins, then the others."""
    lines = []
    for subset in dict.fromkeys(c.subset for c in found):
        own = [c for c in found if c.subset == subset]
        lost = [_against(c, c.baseline_value, c.crosscoder) for c in own if c.beaten]
        held = [_against(c, c.crosscoder, c.baseline_value) for c in own if not c.beaten]
        where = SUBSETS.get(subset, subset)
        if lost:
            lines.append(f"{where}: a baseline did better than the crosscoder in {'; '.join(lost)}.")
        if held:
            lines.append(
                f"{where}: the crosscoder did at least as well as every baseline in {'; '.join(held)}."
            )
    return [line[0].upper() + line[1:] for line in lines]


def _against(c: Comparison, better: float, worse: float) -> str:
    name = METHOD_NAMES.get(c.baseline, c.baseline)
    return f"{METRICS.get(c.metric, c.metric)} ({number(better)} against {number(worse)}, baseline: {name})"


@dataclass(frozen=True)
class ScoreTable:
    """The evaluation on one subset: a row a method, a column a metric."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Score | None, ...]], ...]


def score_tables(scores: Sequence[Score]) -> list[ScoreTable]:
    """The evaluation, a table a subset of the categories."""
    tables = []
    for subset in dict.fromkeys(s.subset for s in scores):
        cells = {(s.method, s.metric): s for s in scores if s.subset == subset}
        methods = dict.fromkeys(method for method, _ in cells)
        metrics = tuple(dict.fromkeys(metric for _, metric in cells))
        n = max((s.n or 0 for s in cells.values()), default=0)
        tables.append(
            ScoreTable(
                f"{SUBSETS.get(subset, subset)} (n = {count(n)})",
                tuple(METRICS.get(metric, metric) for metric in metrics),
                tuple(
                    (METHOD_NAMES.get(method, method), tuple(cells.get((method, m)) for m in metrics))
                    for method in methods
                ),
            )
        )
    return tables


def remedy(missing: Missing) -> str:
    """What would make a missing part, apart from its command."""
    return f", {missing.detail}" if missing.detail else ""


def _plural(n: int, one: str, many: str | None = None) -> str:
    return f"{count(n)} {one if n == 1 else many or one + 's'}"
