"""The report of a run: what `collect.py` reads from its tables, `analyst.py` from the notes, and its other files.

Whatever a stage has not written yet is left out and named in `not_measured`, with the command that makes it.
"""

from __future__ import annotations

import json
import logging
import tomllib
from pathlib import Path
from typing import Any

from mneme._util.errors import RunError
from mneme.effects.config import EffectsConfig
from mneme.report import collect, findings
from mneme.report.analyst import OWN, kept, read_remarks, reviewed
from mneme.report.baselines import compare
from mneme.report.capability import capabilities
from mneme.report.collect import text
from mneme.report.explainers import explainer_pairs, explainers
from mneme.report.labels import label_quality, unreliable
from mneme.report.latents import Latent, Remark
from mneme.report.layers import Layers, layers
from mneme.report.model import Effect, Entry, Missing, Null, Report, Score
from mneme.report.patched import Causal, causal
from mneme.report.power import Power, power
from mneme.report.read_out import ReadOut, read_outs
from mneme.store.queries.findings import latents_changed
from mneme.store.queries.quality import uncertain_reasons
from mneme.store.run import Run

_log = logging.getLogger(__name__)

_STAGES = {
    "harvest": "activations of the two models",
    "crosscoder": "the crosscoder",
    "attribution": "which latents changed",
    "interpretation": "contexts of the latents",
    "labels": "labels of the latents",
    "effects": "effects on subject areas",
    "findings": "findings: which changed latents do one thing",
}

_AGAIN = ("mneme run run.toml --out .", "in the run's folder")


def build_report(run: Run, *, max_latents: int = 10) -> Report:
    """The report of a run, finished or not.

    max_latents: most latents listed of each kind (amplified, suppressed, redirected). Raises RunError when
    the folder holds no run, ValueError when max_latents is negative.
    """
    if max_latents < 0:
        raise ValueError(f"max_latents must be 0 or more, not {max_latents}")
    info = run.info()
    stages = collect.stages(run)
    settings = _settings(run.path)
    margin = _outcome_margin(settings)
    effects = collect.effects(run, margin)
    nulls = collect.nulls(run)
    found_power = power(run)
    found_layers = layers(run)
    scores = collect.scores(run)
    counts = collect.verdict_counts(run)
    versions, version_gap = _versions(run.path)
    remarks, remark_gap = _remarks(run.path)
    latents = reviewed(collect.latents(run, max_latents, kept(remarks)), remarks)
    patched = causal(run)
    grouped = findings.findings(run)
    alone = read_outs(run)
    return Report(
        verdict=text(info.get("verdict_sentence"), 2000),
        run_verdict=text(info.get("run_verdict")),
        facts=collect.facts(run.name, info),
        versions=versions,
        seeds=_seeds(settings),
        fingerprints=tuple(Entry(s.stage, s.fingerprint) for s in stages),
        stages=stages,
        verdict_counts=counts,
        uncertain_reasons=tuple(
            (text(reason) or "no reason kept by an earlier mneme", n) for reason, n in uncertain_reasons(run)
        ),
        effects=effects,
        findings=grouped,
        findings_sentence=_findings_sentence(run, grouped, {s.stage for s in stages}),
        outcome_margin=margin,
        latents=latents,
        health=collect.health(run),
        nulls=nulls,
        power=found_power,
        layers=found_layers,
        label_quality=label_quality(run),
        labels_unreliable=unreliable(run),
        explainers=explainers(run),
        explainer_pairs=explainer_pairs(run),
        causal=patched,
        read_outs=alone,
        capabilities=capabilities(run, margin),
        scores=scores,
        comparisons=compare(scores),
        not_measured=(
            *_missing_stages({s.stage for s in stages}),
            *_missing_parts(effects, latents, nulls, scores, judged=bool(counts)),
            *_missing_power(found_power, effects),
            *_missing_patches(patched, latents),
            *_missing_layers(found_layers, {s.stage for s in stages}),
            *_missing_read_outs(alone, judged=bool(counts)),
            *version_gap,
            *remark_gap,
        ),
        remarks=remarks,
        histogram=collect.histogram(run),
        points=collect.points(run),
    )


def _versions(folder: Path) -> tuple[tuple[Entry, ...], list[Missing]]:
    """Versions from manifest.json, which a run has from its end on."""
    try:
        found = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        versions = found.get("versions", {}).items()
    except FileNotFoundError:
        return (), []
    except (OSError, ValueError, AttributeError):
        return (), [Missing("versions: manifest.json is damaged", *_AGAIN)]
    return tuple(Entry(text(name), text(value)) for name, value in sorted(versions)), []


def _settings(folder: Path) -> dict[str, dict[str, Any]]:
    """The sections of run.toml; none where there is no such file."""
    try:
        found = tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("the report is without settings: %s can't be read: %s", folder / "run.toml", error)
        return {}
    return {name: values for name, values in found.items() if isinstance(values, dict)}


def _seeds(settings: dict[str, dict[str, Any]]) -> tuple[Entry, ...]:
    """Every section's seed."""
    return tuple(Entry(text(n), text(values["seed"])) for n, values in settings.items() if "seed" in values)


def _outcome_margin(settings: dict[str, dict[str, Any]]) -> float:
    """The margin that the run's own evaluation holds outcomes against, nats per token."""
    found = settings.get("effects", {}).get("nll_margin")
    return float(found) if isinstance(found, int | float) else EffectsConfig().nll_margin


def _remarks(folder: Path) -> tuple[tuple[Remark, ...], list[Missing]]:
    try:
        return read_remarks(folder), []
    except (RunError, OSError):
        what = "the analyst's notes: analyst.duckdb can't be read"
        return (), [Missing(what, "mneme report .", "in the run's folder")]


def _findings_sentence(run: Run, found: tuple[findings.Finding, ...], done: set[str]) -> str:
    return findings.sentence(found, *latents_changed(run)) if "findings" in done else ""


def _missing_stages(done: set[str]) -> list[Missing]:
    command = "`mneme run run.toml --out .`, in the run's folder"
    return [
        Missing(f"{what} (stage {stage})", command) for stage, what in _STAGES.items() if stage not in done
    ]


def _missing_power(found: Power, effects: tuple[Effect, ...]) -> list[Missing]:
    if found.channels or not effects:
        return []
    return [
        Missing(
            "what this run could have found (the positive control)", "mneme power .", "in the run's folder"
        )
    ]


def _missing_patches(patched: Causal, latents: tuple[Latent, ...]) -> list[Missing]:
    if patched.together or patched.latents or not latents:
        return []
    what = "whether these latents are why the predictions differ (patching)"
    return [Missing(what, "mneme causal .", "in the run's folder")]


def _missing_layers(found: Layers, done: set[str]) -> list[Missing]:
    if found.layers or "attribution" not in done:
        return []
    what = "how much of the change the layer that was read can show (the layer profile)"
    return [Missing(what, "mneme evidence . --only layers", "in the run's folder")]


def _missing_parts(
    effects: tuple[Effect, ...],
    latents: tuple[Latent, ...],
    nulls: tuple[Null, ...],
    scores: tuple[Score, ...],
    *,
    judged: bool,
) -> list[Missing]:
    """What finished stages leave open."""
    found = []
    without = sum(e.measured_change is None for e in effects)
    if without:
        which = "any category" if without == len(effects) else f"{without} of {len(effects)} categories"
        found.append(
            Missing(
                f"a measured outcome for {which}: their prediction is not checked",
                "mneme run run.toml --set effects.outcomes=FILE.csv --out . --replace",
                "in the run's folder; the file's columns: category, base, tuned",
            )
        )
    elif effects and not scores:
        found.append(Missing("how predictions and outcomes agree: too few categories have both"))
    unscored = sum(bool(x.label) and x.label_method != OWN and x.score is None for x in latents)
    if unscored:
        found.append(Missing(f"a held-out score for {unscored} of the labels listed: treat them as guesses"))
    if latents and all(x.stability is None for x in latents):
        found.append(
            Missing(
                "whether other seeds and other text find these latents and their change again",
                "mneme stability .",
                "in the run's folder",
            )
        )
    if judged and not nulls:
        found.append(Missing("how often a pair that did not change is called changed (null runs)"))
    return found


def _missing_read_outs(found: tuple[ReadOut, ...], *, judged: bool) -> list[Missing]:
    if not judged or {one.dictionary for one in found} == {"base", "tuned"}:
        return []
    what = "features that the tuned model stops using and one code for both models hides"
    return [Missing(what, "mneme read-out .", "in the run's folder")]
