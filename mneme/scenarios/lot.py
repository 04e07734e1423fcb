"""Which held-out scenarios are made, drawn by lot from a list that was written beforehand."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from mneme._util.errors import ConfigError
from mneme.scenarios.spec import Scenario


def drawn(candidates: Mapping[str, Scenario], wanted: Mapping[str, int], lot: str) -> list[Scenario]:
    """`wanted` scenarios of each kind, in the order of the lot.

    The order is that of the SHA-256 of the lot and the scenario's name, so that whoever knows the lot (a public text
    that nobody could choose, for example the id of the commit that froze the method) draws the same.

    Raises ConfigError where a kind has fewer candidates than wanted.
    """
    if not lot.strip():
        raise ConfigError("the lot is empty: give the id of the commit that froze the method, with --lot")
    kinds = Counter(scenario.kind for scenario in candidates.values())
    for kind, n in wanted.items():
        if kinds[kind] < n:
            raise ConfigError(f"{n} scenarios of kind {kind} are wanted, and the list has {kinds[kind]}")
    order = sorted(candidates, key=lambda name: hashlib.sha256(f"{lot}\n{name}".encode()).digest())
    return [
        scenario
        for kind, n in wanted.items()
        for scenario in [candidates[name] for name in order if candidates[name].kind == kind][:n]
    ]
