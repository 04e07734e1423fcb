"""What packages export lazily is what they say, whatever was imported before."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import mneme

PACKAGES = [
    name
    for _, name, is_package in pkgutil.walk_packages(mneme.__path__, "mneme.")
    if is_package and hasattr(importlib.import_module(name), "__all__")
]


@pytest.mark.parametrize("name", ["mneme", *PACKAGES])
def test_no_export_is_shadowed_by_a_module(name: str) -> None:
    package = importlib.import_module(name)
    modules = {module for _, module, _ in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)


@pytest.mark.parametrize("name", ["mneme", *PACKAGES])
def test_exports_are_listed_before_they_are_loaded(name: str) -> None:
    package = importlib.import_module(name)
    assert set(package.__all__) <= set(dir(package))
