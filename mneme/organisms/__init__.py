"""Models and activation pairs changed on purpose, whose change is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mneme._util.lazy import lazy_exports

if TYPE_CHECKING:
    from mneme.organisms.make import METHODS, make_organism, measure_organism

__all__ = ["METHODS", "make_organism", "measure_organism"]

__getattr__ = lazy_exports(__name__, {"METHODS": "make", "make_organism": "make", "measure_organism": "make"})
