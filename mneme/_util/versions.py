"""The version of mneme, its one place, and those of what computes its numbers."""

from __future__ import annotations

import contextlib
import platform

__version__ = "0.2.0.dev0"
_PACKAGES = ("torch", "transformers", "nnsight", "numpy", "duckdb", "umap-learn")


def versions() -> dict[str, str]:
    """Python's, mneme's, and those of the packages that matter."""
    from importlib import metadata  # a tenth of what importing mneme takes

    found = {"python": platform.python_version(), "mneme": __version__}
    for name in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
