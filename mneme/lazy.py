"""Packages that are cheap to import: what they export is loaded when it is first asked for.

`mneme --help`, an error in a settings file, or a run with nothing left to do must not wait for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level `__getattr__` for `package`: exported name -> the module below it that defines it."""

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        # Set on the package: a function may be named like its module, which would shadow it once imported.
        setattr(sys.modules[package], name, value)
        return value

    return get
