"""WordNet glosses as a corpus whose truth is known: every document is glosses of one lexicographer category.

Where latents found on such text fire mostly in one category, their labels should name it. Given the folder of
glosses.jsonl.gz (rows with `gloss` and `lexname`); the categories' descriptions are written for mneme.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from mneme._util.progress import Progress
from mneme.config import make_config
from mneme.interpret.encoder import SentenceEncoder
from mneme.interpret.scorers.text_fit import content, shuffled
from mneme.run.pipeline import run_pipeline
from mneme.store.run import Run

_GLOSSES = 20  # in a document
_DOCUMENTS = 5  # a category
_CONCENTRATED = 0.3  # least share of a latent's held-out contexts in one category, for it to be its category
_LEAST = 5  # held-out contexts

CATEGORIES = {
    "noun.act": "acts and actions",
    "noun.animal": "animals",
    "noun.artifact": "man-made objects, tools, buildings and machines",
    "noun.attribute": "attributes and qualities of people and objects",
    "noun.body": "body parts and anatomy",
    "noun.cognition": "thought, knowledge, theories and fields of study",
    "noun.communication": "communication, language, speech and writing",
    "noun.event": "natural events and happenings",
    "noun.feeling": "feelings and emotions",
    "noun.food": "foods, dishes and drinks",
    "noun.group": "groups of people or things, organisations, families of organisms",
    "noun.location": "places, cities, countries and regions",
    "noun.motive": "goals, motives and reasons for acting",
    "noun.object": "natural objects: mountains, rivers, rocks, stars",
    "noun.person": "people, by occupation, character or name",
    "noun.phenomenon": "natural phenomena, physics, weather",
    "noun.plant": "plants, trees, flowers and fungi",
    "noun.possession": "money, property, payment and its transfer",
    "noun.process": "natural processes, chemistry and biology",
    "noun.quantity": "quantities, numbers and units of measure",
    "noun.relation": "relations between people, things or ideas",
    "noun.shape": "two- and three-dimensional shapes, lines and curves",
    "noun.state": "states of affairs, diseases and conditions",
    "noun.substance": "substances, materials, chemicals and drugs",
    "noun.time": "time, dates, periods and temporal relations",
    "verb.body": "to groom, dress or care for the body",
    "verb.change": "to change in size, temperature or intensity",
    "verb.cognition": "to think, judge, analyse or doubt",
    "verb.communication": "to tell, ask, order or sing",
    "verb.competition": "to fight, compete or play in sport",
    "verb.consumption": "to eat or drink",
    "verb.contact": "to touch, hit, tie or dig",
    "verb.creation": "to sew, bake, paint or perform",
    "verb.emotion": "to feel or arouse emotion",
    "verb.motion": "to walk, fly, swim or travel",
    "verb.perception": "to see, hear or feel with the senses",
    "verb.possession": "to buy, sell, own or give",
    "verb.social": "political and social activities, law and work",
    "verb.stative": "to be, have or stand in spatial relation",
    "verb.weather": "to rain, snow, thaw or thunder",
}


def wordnet_run(source: Path, folder: Path, progress: Progress) -> Run:
    """The run in `folder`, made from a sample of the glosses where it isn't there; resumes."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "glosses.jsonl"
    if not corpus.exists():
        corpus.write_text("\n".join(json.dumps(row) for row in _documents(source)), encoding="utf-8")
    settings: dict[str, Any] = {
        "base": "bundled:base",
        "tuned": "bundled:tuned",
        "corpus": str(corpus),
        "harvest": {"behaviour_share": 0.02},
        "crosscoder": {"n_latents": 1024, "k": 16, "epochs": 8.0},
    }
    return run_pipeline(make_config(settings), folder / "run", progress)


def _documents(source: Path) -> list[dict[str, str]]:
    found: dict[str, list[str]] = {name: [] for name in CATEGORIES}
    with gzip.open(source / "glosses.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["lexname"] in found:
                found[row["lexname"]].append(row["gloss"])
    rng = np.random.default_rng(0)
    rows = []
    for name, glosses in found.items():
        picked = rng.permutation(len(glosses))[: _GLOSSES * _DOCUMENTS]
        for part in np.array_split(picked, max(1, round(len(picked) / _GLOSSES))):
            rows.append({"text": "\n".join(glosses[i] for i in part), "topic": name})
    return [rows[i] for i in rng.permutation(len(rows))]


def category_match(run: Run, encoder: SentenceEncoder) -> dict[str, Any]:
    """How often the category nearest to a label is the one most enriched in the latent's held-out contexts."""
    rows = run.rows(
        "SELECT c.latent, any_value(l.label), list(d.topic) FROM contexts c"
        " JOIN documents d USING (document) JOIN labels l USING (latent)"
        " WHERE c.split = 'test' AND c.quantile = 0 AND l.method = 'offline' GROUP BY c.latent"
        " HAVING count(*) >= ? ORDER BY c.latent",
        [_LEAST],
    )
    kept = dict(run.rows("SELECT topic, sum(n_kept)::DOUBLE FROM documents GROUP BY topic"))
    names = list(CATEGORIES)
    size = np.array([kept.get(name, 0.0) for name in names])
    labels, truth = [], []
    for _, label, topics in rows:
        count = np.array([topics.count(name) for name in names], dtype=float)
        if count.max() < _CONCENTRATED * len(topics):
            continue
        labels.append(content(label))
        truth.append(int(np.argmax(count / np.maximum(size, 1))))
    if not labels:
        return {"n": 0}
    true = np.array(truth)
    near = encoder.embed(labels) @ encoder.embed(list(CATEGORIES.values())).T
    place = (near >= near[np.arange(len(true)), true][:, None]).sum(1)
    guesses = [(near[shuffled(len(true), seed)].argmax(1) == true).mean() for seed in range(20)]
    return {
        "n": len(labels),
        "n_with_contexts": len(rows),
        "top1": float((place == 1).mean()),
        "top3": float((place <= 3).mean()),
        "shuffled_top1": float(np.mean(guesses)),
        "most_common_category": float(np.bincount(true).max() / len(true)),
        "chance": 1 / len(names),
    }
