"""Packages that are cheap to import: what they export is loaded when it is first asked for.

`mneme --help`, an error in a settings file, or a run with nothing left to do must not wait for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module-level `__getattr__` for `package`: exported name -> the module below it that defines it.

    It also gives the package a `__dir__`, so that completion shows the exports before they are loaded.
    No export may have the name of a module of the package: once imported, the module would stand in its place.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # found at once the next time
        return value

    module = vars(sys.modules[package])
    module["__dir__"] = lambda: sorted({*module, *homes})
    return get
