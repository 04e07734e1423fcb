"""The report as Markdown: the same content and order as the HTML, for pull requests, wikis and notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mneme.report import capability, findings, labels, layers, patched, power, read_out, stability
from mneme.report import explainers as labelling
from mneme.report import phrases as words
from mneme.report.format import ABSENT, count, duration, interval, number, of_all, percent, with_unit
from mneme.report.format import markdown as md
from mneme.report.latents import Context, Latent
from mneme.report.method import LIMITS, METHOD, NO_EVIDENCE, SOURCES
from mneme.report.model import Missing, Report


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    blocks = [
        f"# What the tuning changed: {md(report.facts.name)}",
        f"**{md(words.headline(report), 1000).strip()}**",
        *(f"> {md(caution, 1000)}" for caution in words.cautions(report)),
        *_compared(report),
        *_moved(report),
        *_findings(report),
        *_supports(report),
        *_sure(report),
        *_analyst(report),
        "## Method",
        _list(METHOD),
        _sources(),
        "## Limits",
        _list(LIMITS),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _compared(report: Report) -> Iterable[str]:
    yield "## What was compared"
    yield _table(("", ""), words.facts(report))


def _moved(report: Report) -> Iterable[str]:
    yield "## What moved"
    yield md(words.moved(report), 1000)
    if not report.effects:
        return
    yield md(words.tally(report.effects), 1000)
    yield _table(
        (
            "category",
            "predicted effect",
            "direction",
            "verdict",
            words.measured_title(report.effects),
            "outcome",
        ),
        (
            (
                e.name,
                words.predicted(e),
                e.direction,
                words.effect_verdict(e),
                words.measured(e),
                words.CALLS.get(e.call, e.call),
            )
            for e in report.effects
        ),
    )


def _findings(report: Report) -> Iterable[str]:
    if not report.findings_sentence:
        return
    yield "## Findings"
    yield md(report.findings_sentence, 1000)
    if report.findings:
        yield _table(findings.COLUMNS, findings.rows(report.findings))
    for found in report.findings:
        if found.contexts:
            yield f"### {md(found.name).strip()}"
            yield _table(("measure", "value"), findings.numbers(found))
            yield "\n".join(f"- {_context(c)}" for c in found.contexts)
    if any(found.parent for found in report.findings):
        yield "Parts of the first, split by firing:"
        yield _list(findings.part(f) for f in report.findings if f.parent)


def _supports(report: Report) -> Iterable[str]:
    yield "## What supports it"
    yield from (md(line, 1000) for line in report.causal.sentences)
    if report.causal.together:
        yield _table(patched.TOGETHER_COLUMNS, patched.together_rows(report.causal.together))
    if report.causal.latents:
        yield _table(patched.LATENT_COLUMNS, patched.latent_rows(report.causal.latents))
    yield from (md(read_out.sentence(one), 1000) for one in report.read_outs)
    if cells := read_out.rows(report.read_outs):
        yield _table(read_out.COLUMNS, cells)
    if not report.latents:
        yield "No latent is amplified, suppressed or redirected, or none has been judged yet."
    for latent in report.latents:
        yield _latent(latent)


def _latent(latent: Latent) -> str:
    label = md(latent.label).strip() or "no label"
    lines = [f"### {md(words.latent_title(latent))}: {label}", f"Label: {md(words.label_note(latent))}."]
    if latent.review:
        lines.append(f"Review: {md(words.review(latent.review), 2400)}.")
    if latent.categories:
        lines.append("Fires on: " + md(", ".join(latent.categories), 400) + ".")
    lines.append(_table(("measure", "value"), words.latent_numbers(latent)))
    lines.append("\n".join(f"- {_context(c)}" for c in latent.contexts))
    return "\n\n".join(line for line in lines if line)


def _context(context: Context) -> str:
    parts = []
    for piece in words.pieces(context):
        inner = piece.text.strip()
        if piece.strength < 2 or not inner:
            parts.append(md(piece.text, 2000))
            continue
        # The spaces stay outside: Markdown reads "** word**" as four stars.
        before = piece.text[: len(piece.text) - len(piece.text.lstrip())]
        after = piece.text[len(piece.text.rstrip()) :]
        parts.append(f"{before}<b>{md(inner, 2000)}</b>{after}")
    topic = f", {md(context.topic, 60)}" if context.topic else ""
    return "".join(parts).strip() + f" *(document {context.document}{topic})*"


def _sure(report: Report) -> Iterable[str]:
    yield "## How sure"
    if report.health:
        yield _table(
            ("check", "value", "threshold", "status", "what to do"),
            ((h.title, with_unit(h.value, h.unit), h.threshold, h.status, h.advice) for h in report.health),
        )
    if found := stability.sentence(report.health):
        yield md(found, 1000)
    if report.nulls:
        yield "Pairs that did not change, and how many of their latents were called changed all the same:"
        yield _table(
            ("null", "latents", "false", "rate", "margin on the log ratio", "categories affected"),
            (
                (
                    n.kind,
                    count(n.n),
                    count(n.n_false),
                    f"{percent(n.rate)} [{percent(n.ci_low)}, {percent(n.ci_high)}]",
                    number(n.margin),
                    of_all(n.n_affected, n.n_categories),
                )
                for n in report.nulls
            ),
        )
    yield from _found_where(report)
    if report.label_quality:
        yield f"Labels: {labels.NOTE} {labels.unreliable_sentence(report.labels_unreliable)}"
        yield _table(labels.COLUMNS, labels.quality_rows(report.label_quality))
    if report.explainers:
        yield labelling.SENTENCE
        yield _table(labelling.COLUMNS, labelling.table(report.explainers))
        yield _list(labelling.agreement(report.explainer_pairs))
    if report.capabilities:
        yield f"Capability. {capability.sentence(report.capabilities)}"
        yield _table(capability.COLUMNS, capability.table(report.capabilities))
    if report.scores:
        yield "Agreement of predictions with measured outcomes, beside cheap baselines:"
        yield _list((*words.comparisons(report.comparisons), NO_EVIDENCE) if report.comparisons else ())
        for scores in words.score_tables(report.scores):
            yield f"{md(scores.title)}:"
            yield _table(
                ("method", *scores.metrics),
                (
                    (name, *(interval(c.value, c.ci_low, c.ci_high) if c else ABSENT for c in cells))
                    for name, cells in scores.rows
                ),
            )
    if report.not_measured:
        yield "Not measured:"
        yield "\n".join(_missing(part) for part in report.not_measured)
    if report.stages:
        yield _table(
            ("stage", "time", "peak memory", "fingerprint"),
            (
                (s.stage, duration(s.seconds), number(s.peak_memory_mb, "MB"), s.fingerprint[:16])
                for s in report.stages
            ),
        )
    entries = [(e.name, e.value) for e in (*report.versions, *report.seeds)]
    if entries:
        yield _table(("version or seed", "value"), entries)


def _found_where(report: Report) -> Iterable[str]:
    """Which layer shows the change, and what could have been found there."""
    if report.layers.layers:
        yield "Which layer shows the change: " + md(" ".join(report.layers.sentences), 1000)
        yield _table(layers.COLUMNS, layers.layer_rows(report.layers))
    if report.power.channels:
        yield "What could have been found: " + md(report.power.sentence, 600)
        yield _table(power.COLUMNS, power.channel_rows(report.power))
        yield "Each category's weakest channel:"
        yield _table(power.CATEGORY_COLUMNS, power.category_rows(report.power))


def _missing(part: Missing) -> str:
    command = f" To make it: `{part.command}`{md(words.remedy(part))}." if part.command else ""
    return f"- {md(part.what, 400)}.{command}"


def _analyst(report: Report) -> Iterable[str]:
    if report.remarks:
        yield "## The analyst's notes"
        yield _table(words.REMARK_COLUMNS, words.remark_rows(report.remarks))


def _sources() -> str:
    return "\n".join(f"- [{name}]({address}): {md(what)}" for name, address, what in SOURCES)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {md(line, 1000)}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(md(h) for h in head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(md(value, 600) for value in row) + " |" for row in rows]
    return "\n".join(lines)
