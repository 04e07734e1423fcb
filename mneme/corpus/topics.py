"""What a sampled corpus is to be about: areas, their topics, and the forms of text each is asked for in."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from mneme._util.errors import CorpusError, first_line
from mneme._util.reading import read_toml

FORMS = {
    "encyclopedia": "Write an encyclopedia entry about {topic} ({area}).",
    "explain": "Explain {topic} ({area}) to a student, in plain paragraphs with an example.",
    "story": "Write a short story in which {topic} plays a part.",
    "qa": "Ask three good questions about {topic} ({area}) and answer each of them.",
    "news": "Write a news report about {topic}, with names, places and quotes.",
    "letter": "Write a personal letter or e-mail about {topic}. Make up names; leave no blanks.",
    "facts": "List interesting facts about {topic} ({area}), one or two sentences each.",
    "dialogue": "Write a conversation between two people about {topic}.",
    "essay": "Write a short essay about {topic} ({area}).",
    "advice": "Give practical advice to someone who has to do with {topic} ({area}).",
    "recipe": "Write a recipe for {topic}: the ingredients, then the steps.",
    "poem": "Write a poem about {topic}.",
    "code": "Write a short Python program for this: {topic}. Then explain it in a few sentences.",
}
DEFAULT_FORMS = tuple(name for name in FORMS if name not in ("recipe", "poem", "code"))


class Area(NamedTuple):
    """One table of a topics file."""

    key: str
    name: str
    topics: tuple[str, ...]
    forms: tuple[str, ...]


def load_topics(path: str | Path) -> list[Area]:
    """Read a topics file (see data/corpus/topics.toml).

    Raises CorpusError when it can't be read, lacks a part or names an unknown form.
    """
    try:
        tables = read_toml(path)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"topics file {path} can't be read ({first_line(error)}): give a TOML file"
        ) from error
    areas = []
    for key, table in tables.items():
        if not isinstance(table, dict) or not table.get("topics"):
            raise CorpusError(f'topics file {path}: [{key}] needs topics = ["...", ...]')
        forms = tuple(table.get("forms", DEFAULT_FORMS))
        if unknown := set(forms) - set(FORMS):
            raise CorpusError(
                f"topics file {path}: [{key}] forms {sorted(unknown)}: known are {', '.join(FORMS)}"
            )
        areas.append(Area(key, table.get("name", key.replace("_", " ")), tuple(table["topics"]), forms))
    if not areas:
        raise CorpusError(
            f'topics file {path} holds no areas: add tables like [astronomy] with topics = ["..."]'
        )
    return areas
