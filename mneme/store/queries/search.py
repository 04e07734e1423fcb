"""What the search index is made from, and the piece of text that shows why a latent was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mneme.store.queries.labels import BEST_LABEL
from mneme.store.run import Run

_ENDING = re.compile(r"(?<=\w{3})(?:ing|ies|es|ed|s|e|y)$")
_LONGEST = 48  # characters of a token that are read: a hostile one may be of any length
_BEFORE, _AFTER = 20, 80  # characters shown around a match: the word itself must not be cut off by a column


def sources(run: Run) -> list[tuple[Any, ...]]:
    """What changes when labels or contexts do."""
    return run.rows(
        "SELECT stage, fingerprint, finished_at FROM stages WHERE stage IN ('interpretation', 'labels')"
        " UNION ALL SELECT 'labels held', count(*)::VARCHAR, NULL FROM labels ORDER BY 1"
    )


def last_latent(run: Run) -> int:
    """The largest number of a latent, -1 without any."""
    return int(run.rows("SELECT coalesce(max(latent), -1) FROM latents")[0][0])


def words(run: Run, start: int, stop: int) -> list[tuple[int, str, str, str]]:
    """(latent, its labels, words it fires on, words of its contexts), start <= latent < stop.

    A word it fires on stands there once for each context, so that BM25 ranks by how often it does; others once.
    """
    return run.rows(
        "WITH c AS (SELECT latent, lower(array_to_string(list_transform(list_zip(tokens, activations),"
        f" lambda p: left(p[1], {_LONGEST}) || CASE WHEN p[2] > 0 THEN chr(1) ELSE '' END), '')) AS t"
        " FROM contexts WHERE latent >= $start AND latent < $stop),"
        " w AS (SELECT latent,"
        " array_to_string(list_distinct(flatten(list(regexp_extract_all("
        r"replace(t, chr(1), ''), '[\p{L}\p{N}]+')))), ' ') AS text,"
        " array_to_string(flatten(list(list_distinct("
        r"regexp_extract_all(t, '[\p{L}\p{N}\x01]*\x01[\p{L}\p{N}\x01]*')))), ' ') AS fires"
        " FROM c GROUP BY latent),"
        " n AS (SELECT latent, string_agg(left(label, 500), ' ') AS label FROM labels"
        " WHERE latent >= $start AND latent < $stop GROUP BY latent)"
        " SELECT latent, coalesce(n.label, ''), replace(coalesce(w.fires, ''), chr(1), ''), coalesce(w.text, '')"
        " FROM w FULL JOIN n USING (latent) ORDER BY latent",
        {"start": start, "stop": stop},
    )


def label_texts(run: Run) -> pd.DataFrame:
    """latent, label: the best label of every latent that has one."""
    return run.sql(f"SELECT latent, label FROM {BEST_LABEL} WHERE label IS NOT NULL ORDER BY latent")


def snippets(run: Run, latents: Sequence[int], terms: Sequence[str]) -> dict[int, str]:
    """Latent -> a piece of one of its contexts with a word of `terms` in «», one it fires on before others."""
    if not latents or not terms:
        return {}
    # A short word is itself; of a longer one also other forms.
    stems = "|".join(re.escape(t) if len(t) < 4 else _ENDING.sub("", t) + r"\p{L}{0,4}" for t in terms)
    pattern = rf"(?i)(?:^|[^\p{{L}}\p{{N}}])(?:{stems})(?:[^\p{{L}}\p{{N}}]|$)"
    rows = run.rows(
        "WITH c AS (SELECT latent, array_to_string(list_transform(tokens,"
        f" lambda x: left(x, {_LONGEST})), '') AS t, array_to_string(list_transform(list_zip(tokens, activations),"
        f" lambda p: CASE WHEN p[2] > 0 THEN left(p[1], {_LONGEST}) ELSE ' ' END), '') AS f"
        " FROM contexts WHERE latent IN (SELECT unnest($latents)) AND quantile = 0)"
        " SELECT latent, arg_max(t, regexp_matches(f, $pattern)) FROM c WHERE regexp_matches(t, $pattern)"
        " GROUP BY latent",
        {"latents": list(latents), "pattern": pattern},
    )
    word = re.compile(rf"(?i)(?<![^\W_])(?:{stems})(?![^\W_])".replace(r"\p{L}", r"[^\W_]"))
    found = {}
    for latent, text in rows:
        if at := word.search(text):
            before = text[max(0, at.start() - _BEFORE) : at.start()]
            found[latent] = f"…{before}«{at.group()}»{text[at.end() : at.end() + _AFTER]}…"
    return found
