"""How the bundled quizzes are made of WordNet's nouns: what data/words/ holds, again from the glosses.

words         a gloss; which of four nouns of the same domain does it define?
synonyms      a noun; which of four is another word for it?
definitions   a noun; which of four glosses defines it?
"""

from __future__ import annotations

import gzip
import json
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mneme._util.files import write_text

_CHOICES = 4
_FEWEST = 16  # items of a category; with fewer, nothing short of .56 tells .25 from guessing
_SHORTEST = 25  # characters of a gloss that says something
_COARSE = re.compile(r"offensive|disparag|obscen|vulgar|slur|sexual|derogatory|slang", re.IGNORECASE)


def make_quizzes(glosses: str | Path, areas: str | Path, out: str | Path, *, most: int = 40) -> list[Path]:
    """Write words.jsonl, synonyms.jsonl and definitions.jsonl: `most` items a category at most, 16 at least.

    glosses: .jsonl.gz, an object a synset: lexname, lemmas, gloss, topic. areas: TOML, category = [domains].
    """
    with gzip.open(glosses, "rt", encoding="utf-8") as file:
        synsets = [json.loads(line) for line in file]
    for synset in synsets:  # "(astronomy) ...": all of a domain have it
        synset["gloss"] = re.sub(r"^\([^)]*\)\s*", "", synset["gloss"])
    domains = tomllib.loads(Path(areas).read_text(encoding="utf-8"))
    makers = {"words": _word, "synonyms": _synonym, "definitions": _definition}
    made = []
    for name, make in makers.items():
        lines = []
        for category, names in domains.items():
            items = _spread([_items(synsets, each, make) for each in names], most)
            for item in items if len(items) >= _FEWEST else []:
                lines.append(json.dumps({"category": category, **item}, ensure_ascii=False))
        path = Path(out) / f"{name}.jsonl"
        write_text(path, "".join(line + "\n" for line in lines))
        made.append(path)
    return made


def _items(synsets: Sequence[Mapping[str, Any]], domain: str, make: Any) -> list[dict[str, Any]]:
    """The items of one domain, in an order drawn by its name."""
    rng = random.Random(domain)
    own = [s for s in synsets if s["lexname"] == domain or domain in s["topic"]]
    own = [s for s in own if _fit(s)]
    if domain.startswith("noun."):  # thousands of nouns: as many as a topic has
        own = rng.sample(own, min(400, len(own)))
    rng.shuffle(own)
    found = [make(s, [o for o in own if not set(o["lemmas"]) & set(s["lemmas"])], rng) for s in own]
    return [item for item in found if item is not None]


def _fit(synset: Mapping[str, Any]) -> bool:
    first, gloss = synset["lemmas"][0], synset["gloss"]
    plain = first.isascii() and len(gloss) > _SHORTEST and first.lower() not in gloss.lower()
    return synset["lexname"].startswith("noun") and plain and not _COARSE.search(gloss)


def _word(synset: Mapping[str, Any], others: list[Any], rng: random.Random) -> dict[str, Any] | None:
    return _question(synset["gloss"], [synset["lemmas"][0]], [o["lemmas"][0] for o in others], rng)


def _synonym(synset: Mapping[str, Any], others: list[Any], rng: random.Random) -> dict[str, Any] | None:
    """Another word, which shares none with the one asked: `car pool` for `carpool` would be no question of sense."""
    first, *rest = synset["lemmas"]
    parts = set(first.lower().split())
    right = [
        word
        for word in rest
        if word.isascii()
        and not parts & set(word.lower().split())
        and not _alike(word.lower(), first.lower())
    ]
    return _question(first, right, [o["lemmas"][0] for o in others], rng)


def _alike(one: str, other: str) -> bool:
    return one in other or other in one or one[:4] == other[:4]


def _definition(synset: Mapping[str, Any], others: list[Any], rng: random.Random) -> dict[str, Any] | None:
    return _question(synset["lemmas"][0], [synset["gloss"]], [o["gloss"] for o in others], rng)


def _question(asked: str, right: list[str], wrong: list[str], rng: random.Random) -> dict[str, Any] | None:
    """Right answer first; None where there is none, or too few wrong ones."""
    wrong = sorted(set(wrong) - {*right, asked})
    if not right or len(wrong) < 3 * (_CHOICES - 1):
        return None
    return {"asked": asked, "choices": [right[0], *rng.sample(wrong, _CHOICES - 1)]}


def _spread(parts: list[list[dict[str, Any]]], most: int) -> list[dict[str, Any]]:
    """One of each part in turn, `most` at most, none asked twice."""
    found: dict[str, dict[str, Any]] = {}
    for row in range(max(map(len, parts), default=0)):
        for part in parts:
            if row < len(part) and len(found) < most:
                found.setdefault(part[row]["asked"], part[row])
    return list(found.values())
