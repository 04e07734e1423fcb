"""Words of the vocabulary as SQL."""

from __future__ import annotations

from mneme._util.vocabulary import CHANGED


def changed(column: str) -> str:
    """Whether the latent's verdict in this column is a change; false where it has none."""
    words = ", ".join(f"'{word}'" for word in CHANGED)
    return f"coalesce({column} IN ({words}), false)"
