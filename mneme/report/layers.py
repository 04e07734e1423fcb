"""What each layer shows of the pair's difference (table `layer_profile`), for the report."""

from __future__ import annotations

from dataclasses import dataclass

from mneme.report.format import ABSENT, cut, missing, number, percent
from mneme.store.run import Run
from mneme.verdict.layer_sentences import layer_sentences

COLUMNS = (
    "layer",
    "weights differ",
    "difference of the streams",
    "share of KL restored",
    "95 %",
    "how known",
)


@dataclass(frozen=True)
class Layer:
    """A row of the table `layer_profile`."""

    layer: int
    changed: bool
    """its own weights differ"""
    difference: float | None
    """|tuned - base| / |base| of the streams after it"""
    restored: float | None
    """share of KL(base || tuned) that the tuned model's stream gives the base; None: not measured"""
    restored_low: float | None
    restored_high: float | None
    exact: bool
    """known by construction, not measured"""


@dataclass(frozen=True)
class Layers:
    """The layer profile; empty where it was not made."""

    sentences: tuple[str, ...]
    layers: tuple[Layer, ...]


def layers(run: Run) -> Layers:
    """What the run's table holds of it."""
    profile = run.layer_profile()
    if profile.empty:
        return Layers((), ())
    info = run.info()
    read = int(info["layer"]) if "layer" in info else None
    rows = []
    for row in profile.to_dict("records"):
        names = ("difference", "restored", "restored_low", "restored_high")
        numbers = {name: None if missing(row[name]) else float(row[name]) for name in names}
        rows.append(
            Layer(layer=int(row["layer"]), changed=bool(row["changed"]), exact=bool(row["exact"]), **numbers)
        )
    return Layers(tuple(layer_sentences(profile, read, cut(info.get("layer_why", ""), 300))), tuple(rows))


def layer_rows(found: Layers) -> list[tuple[str, ...]]:
    """A row a layer, with the cells of COLUMNS."""
    return [
        (
            str(row.layer),
            "yes" if row.changed else "",
            number(row.difference),
            ABSENT if row.restored is None else percent(row.restored),
            ""
            if row.exact or row.restored_low is None
            else f"{percent(row.restored_low)} … {percent(row.restored_high)}",
            "by construction" if row.exact else "" if row.restored is None else "measured",
        )
        for row in found.layers
    ]
