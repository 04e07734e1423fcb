"""What each stage does: it takes what the stages before left in the run's folder, and returns its tables.

No SQL here and no maths: a stage calls its room and names the tables that the room's frames go to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mneme.interpret.explainers.prompt import prompts_fingerprint
from mneme.run.stage import Stage, StageResult
from mneme.store.files import sha256

if TYPE_CHECKING:
    from mneme.run.context import Workbench


_SPLICED = 512  # tokens both models read again with the reconstruction in place of the residual stream


def harvest_stage(bench: Workbench) -> StageResult:
    """Both models' activations on the corpus, into `activations/`."""
    from mneme.harvest import harvest
    from mneme.harvest.layer import check_streams

    folder = bench.folder / "activations"
    cache = harvest(bench.pair, bench.corpus, bench.config.harvest, folder, bench.progress, bench.plan)
    check_streams(cache)
    bench.cache = cache
    info = {
        "name": bench.folder.resolve().name,
        "base": bench.config.base,
        "tuned": bench.config.tuned,
        "layer": cache.layer,
        "n_layers": cache.n_layers,
        "width": cache.width,
        "corpus": bench.corpus.source,
        "n_documents": cache.n_documents,
        "n_tokens": cache.n,
        "n_skipped_bos": cache.n_skipped_bos,
        "n_skipped_sinks": cache.n_skipped_sinks,
    }
    return StageResult({"documents": cache.documents()}, info=info)


def crosscoder_stage(bench: Workbench) -> StageResult:
    """The dictionary, trained or loaded, into `crosscoder/`."""
    from mneme.crosscoder import train_crosscoder
    from mneme.crosscoder.checkpoint import delete_checkpoint
    from mneme.crosscoder.formats import load_crosscoder

    config = bench.config
    rows: list[dict[str, float]] = []
    checkpoint = bench.folder / "checkpoint"
    if config.load_crosscoder is not None:
        crosscoder = load_crosscoder(config.load_crosscoder, bench.cache.width)
        if not crosscoder.has_normaliser:
            crosscoder = crosscoder.with_normaliser(bench.cache)
    else:
        crosscoder = train_crosscoder(
            bench.cache, config.crosscoder, checkpoint=checkpoint, progress=bench.progress, log=rows.append
        )
    crosscoder.save_pretrained(bench.folder / "crosscoder")
    delete_checkpoint(checkpoint)
    bench.crosscoder = crosscoder
    info = {
        "latents": crosscoder.n_latents,
        "k": crosscoder.config.k,
        "variant": crosscoder.config.variant,
    }
    return StageResult({"training": pd.DataFrame(rows)} if rows else {}, info=info)


def attribution_stage(bench: Workbench) -> StageResult:
    """Every latent's scaling, evidence and verdict; the codes of all tokens into `codes/`."""
    from mneme.attribution.health import attribution_health
    from mneme.attribution.splice import splice_health
    from mneme.attribution.stream import attribute

    found = attribute(
        bench.crosscoder, bench.cache, bench.folder / "codes", bench.config.attribution, bench.progress
    )
    health = [attribution_health(found, bench.cache, bench.crosscoder.config.k)]
    if not bench.remote:  # a server runs models as they are; the reconstruction isn't spliced in there
        spliced = splice_health(
            bench.pair,
            bench.crosscoder,
            bench.cache,
            bench.config.harvest,
            max_tokens=_SPLICED,
            progress=bench.progress,
        )
        health.append(spliced)
    return StageResult(
        {
            "latents": found.latents,
            "betas": found.betas,
            "activation_histogram": found.activation_histogram,
        },
        health=pd.concat(health, ignore_index=True),
    )


def interpretation_stage(bench: Workbench) -> StageResult:
    """Contexts, logit lens, neighbours and map."""
    from mneme.crosscoder import CodeCache
    from mneme.interpret import interpret

    found = interpret(
        bench.crosscoder.raw_decoder(),
        CodeCache(bench.folder / "codes"),
        bench.cache,
        bench.models,
        bench.tokenizer,
        bench.config.interpret,
        progress=bench.progress,
    )
    tables = {"contexts": found.contexts, "logit_lens": found.logit_lens, "neighbours": found.neighbours}
    return StageResult(tables, latent_columns=found.umap)


def labels_stage(bench: Workbench) -> StageResult:
    """Labels of the latents, from the contexts that the interpretation left, and their scores."""
    from mneme.attribution.post_label_health import (
        label_failures_health,
        label_overlap_health,
        label_scores_health,
    )
    from mneme.crosscoder import CodeCache
    from mneme.effects.assign import category_vectors
    from mneme.effects.categories import load_taxonomy
    from mneme.interpret.contexts import read_contexts
    from mneme.interpret.explainers.compare_explainers import compare_explainers
    from mneme.interpret.explainers.explain import explain_all
    from mneme.interpret.explainers.names import explainer_names
    from mneme.interpret.explainers.price import questions
    from mneme.interpret.labelling import label_latents
    from mneme.interpret.scorers.choose import choose_judge
    from mneme.interpret.tokens import TokenTexts
    from mneme.store.queries.meaning import found_contexts, near_latents, promoted_tokens

    latents = bench.run.sql("SELECT * FROM latents ORDER BY latent")
    config = bench.config.labels
    names = explainer_names(config)
    prompts = questions(bench.run, config) if names else {}
    explained = explain_all(names, prompts, config, bench.folder / "labels", bench.progress)
    found = label_latents(
        read_contexts(
            found_contexts(bench.run), bench.cache, latents.n_active.fillna(0).to_numpy(dtype="int64")
        ),
        promoted_tokens(bench.run),
        near_latents(bench.run),
        CodeCache(bench.folder / "codes"),
        bench.cache,
        TokenTexts(bench.tokenizer),
        latents,
        config,
        interpret=bench.config.interpret,
        explained=explained,
        judge=choose_judge(names, config, bench.folder / "labels", bench.progress),
        encoder=bench.encoder,
        progress=bench.progress,
    )
    tables = {"labels": found.labels, "label_failures": found.failures, **found.scores}
    if config.compare:
        compared = compare_explainers(
            found.labels,
            prompts,
            config,
            bench.folder / "labels",
            bench.encoder.embed,
            category_vectors(bench.encoder, load_taxonomy(bench.config.effects.taxonomy)),
            seed=bench.config.interpret.seed,
        )
        tables |= {"label_comparison": compared.methods, "label_agreement": compared.pairs}
    health = [label_failures_health(found.failures), label_overlap_health(found.overlap)]
    if found.scores:
        health.append(label_scores_health(found.labels, found.scores["label_summary"]))
    return StageResult(tables, health=pd.concat(health, ignore_index=True))


def effects_stage(bench: Workbench) -> StageResult:
    """Categories, predicted effects, baselines, measured outcomes and how well the one foretold the other."""
    from mneme.attribution.post_label_health import category_answers_health
    from mneme.crosscoder import CodeCache
    from mneme.effects.llm_assignment import named_categories
    from mneme.effects.predict import whole_behaviour
    from mneme.effects.side_effects import predict_effects
    from mneme.harvest.layer import check_streams
    from mneme.run.power import power_health, power_of, text_of
    from mneme.store.queries.latent import telling_labels

    check_streams(bench.cache)  # an earlier version's harvest didn't
    latents = bench.run.sql("SELECT * FROM latents ORDER BY latent")
    labels = telling_labels(bench.run)
    outcomes = bench.outcomes
    laid = text_of(bench)
    named = named_categories(bench, latents, labels)
    found = predict_effects(
        bench.cache,
        CodeCache(bench.folder / "codes"),
        latents,
        bench.crosscoder.raw_decoder(),
        lambda ids: str(bench.tokenizer.decode(ids)),
        bench.encoder,
        bench.config.effects,
        labels=labels,
        named=named.weights if named else None,
        outcomes=outcomes,
        laid=laid,
        progress=bench.progress,
    )
    power = power_of(bench, latents, laid)
    tables = {**found._asdict(), "power": power.table}
    if outcomes is not None:
        tables["outcomes"] = outcomes
    whole = whole_behaviour(bench.cache, bench.config.effects)
    info = dict(zip(("nll_change", "nll_low", "nll_high"), whole.nll_change, strict=True))
    health = [power_health(power)]
    if named:
        health.append(category_answers_health(named.weights, named.reasons))
    return StageResult(
        tables,
        info={**info, "nll_common": whole.common, "mean_kl": whole.kl},
        health=pd.concat(health, ignore_index=True),
    )


def verdict_stage(bench: Workbench) -> StageResult:
    """What is said of the run, from all that its tables hold."""
    from mneme.store.queries.evidence import verdict_facts

    config = bench.config
    return StageResult(info=verdict_facts(bench.run, config.effects, config.harvest.behaviour_share))


def report_stage(bench: Workbench) -> StageResult:
    """The search index, into `search/`, and the report's files, into `report/`."""
    from mneme.report import write_report
    from mneme.search import build_index, is_current

    if not is_current(bench.run):
        build_index(bench.run, bench.encoder, bench.progress)
    with bench.progress.task("report", total=None):
        write_report(bench.run, bench.folder / "report")
    return StageResult()


STAGES = (
    Stage(
        "harvest",
        harvest_stage,
        ("harvest",),
        ("documents",),
        ("activations/index.json",),
        rooms=("activations",),
    ),
    Stage(
        "crosscoder",
        crosscoder_stage,
        ("crosscoder", "load_crosscoder"),
        ("training", "nulls"),  # nulls: `mneme null`; those of another dictionary say nothing
        ("crosscoder/model.safetensors",),
        rooms=("crosscoder",),
    ),
    Stage(
        "attribution",
        attribution_stage,
        ("attribution",),
        ("latents", "betas", "activation_histogram", "health"),
        ("codes/index.json",),
        rooms=("codes",),
        revision=4,
    ),
    Stage(
        "interpretation",
        interpretation_stage,
        ("interpret",),
        ("contexts", "logit_lens", "neighbours", "causal", "causal_ablations"),  # causal: `mneme causal`
        revision=4,
    ),
    Stage(
        "labels",
        labels_stage,
        ("labels",),
        (
            "labels",
            "label_failures",
            "label_scores",
            "label_examples",
            "label_windows",
            "label_summary",
            "label_comparison",
            "label_agreement",
        ),
        inputs=lambda bench: str(prompts_fingerprint()),
        revision=3,
    ),
    Stage(
        "effects",
        effects_stage,
        ("effects",),
        (
            "categories",
            "document_categories",
            "latent_categories",
            "effects",
            "effect_latents",
            "effect_groups",
            "baselines",
            "outcomes",
            "evaluation",
            "power",
        ),
        inputs=lambda bench: sha256(bench.outcomes_file) if bench.outcomes_file else "",
        revision=5,
    ),
    Stage("verdict", verdict_stage, ("effects",), ()),
    Stage("report", report_stage, (), (), ("report/report.html",)),
)
