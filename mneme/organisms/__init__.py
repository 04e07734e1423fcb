"""Models and activation pairs changed on purpose, whose change is known."""

from mneme.organisms.make import METHODS, make_organism, measure_organism

__all__ = ["METHODS", "make_organism", "measure_organism"]
