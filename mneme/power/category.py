"""One category's injections: which documents, which directions, and what the run's calls say of each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mneme.effects.config import EffectsConfig
from mneme.effects.predict import saturated
from mneme.effects.windows import Windows
from mneme.harvest.protocols import Activations
from mneme.power.calls import Caller, affected_shares
from mneme.power.inject import Dictionary, Injection, outside, read_text
from mneme.power.summary import COLUMNS, ENOUGH, TEXTS
from mneme.power.sums import KeptSums

PART = 0.5
"""Share of a category's documents that is displaced."""
SIZES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Times the margin."""
UNIT = "share of typical deviation"
_CORE = 0.25  # windows with a smaller weight in the category are not displaced
_ACTIVE = 64  # decoders that write most on a text: directions outside their span are orthogonal to them


class Settings(NamedTuple):
    """How much is tried of each category."""

    cases: int = 5
    """Along decoders. A multiple of five: 0.8 of any other number asks for more than that share."""
    outside: int = 2
    """Outside their span."""
    answering: int = 32
    """Latents read again in each case."""
    rows: int = 2048
    """Most rows that are read; their documents then stand for the others."""
    seed: int = 0


class Chosen(NamedTuple):
    """Rows of a category's text that may be displaced."""

    row: np.ndarray
    document: np.ndarray
    """Of these rows, each once, ascending."""
    times: float
    """How many documents each stands for."""
    left_out: np.ndarray
    """Documents they stand for."""


class Control(NamedTuple):
    """What all categories share."""

    dictionary: Dictionary
    cache: Activations
    kept: KeptSums
    windows: Windows
    callers: dict[float, Caller]
    """By times the run's text: 1 and TEXTS."""
    effects: EffectsConfig
    settings: Settings
    margin: float
    """The displacement that is asked for, a share of typical."""
    background: float
    """Mean |x_tuned - x_base| above which a category stands out, a share of typical."""


def choose(weight: np.ndarray, windows: Windows, most: int, rng: np.random.Generator) -> Chosen:
    """weight: (W,) of one category. Whole documents' core windows, in random order, until `most` rows are full."""
    core = (weight >= _CORE) & (windows.n_rows > 0)
    documents = rng.permutation(np.unique(windows.document[core]))
    size = np.bincount(windows.document[core], weights=windows.n_rows[core], minlength=1)
    n = int(np.searchsorted(np.cumsum(size[documents]), most, side="right"))
    n = min(max(n, 1), len(documents))
    taken = np.sort(documents[:n])
    mine = core & np.isin(windows.document, taken)
    return Chosen(
        np.flatnonzero(mine[windows.row_window]), taken, len(documents) / max(n, 1), np.sort(documents[n:])
    )


class Category:
    """The cases of one category: each displaces a half of its documents, drawn anew, in a direction of its own."""

    def __init__(
        self, control: Control, key: str, weight: np.ndarray, chosen: Chosen, rng: np.random.Generator
    ) -> None:
        """weight: (W,); chosen: at least one row."""
        self._control, self._key, self._times = control, key, chosen.times
        self._text = read_text(control.dictionary, control.cache, control.kept, chosen.row)
        # the documents that were left out are stood for by the others
        self._weight = np.where(np.isin(control.windows.document, chosen.left_out), 0, weight)
        n = max(1, round(len(chosen.document) * PART))
        cases = control.settings.cases + control.settings.outside
        self._parts = [np.sort(rng.permutation(chosen.document)[:n]) for _ in range(cases)]
        self._directions = self._draw(rng)
        self._injections: dict[int, Injection] = {}

    def through_latents(self) -> dict[str, Any]:
        """The row of the channel `latents`."""
        cases = range(self._control.settings.cases)
        found = search(lambda times: self._share_called(times, cases))
        text = 1.0 if found[1.0] >= ENOUGH else self._text_needed(cases)
        return row(self._key, "latents", self._control.margin, found, len(cases), text)

    def _text_needed(self, cases: range) -> float | None:
        """The first of TEXTS with which enough of the cases are found; None where not even the last does."""
        *fewer, most = TEXTS
        if self._share_called(1.0, cases, most) < ENOUGH:
            return None
        return next((text for text in fewer if self._share_called(1.0, cases, text) >= ENOUGH), most)

    def outside_found(self) -> float:
        """Share of the directions outside the decoders' span that latents tell of at the margin; NaN without any."""
        cases = range(self._control.settings.cases, len(self._parts))
        return self._share_called(1.0, cases) if len(cases) else float("nan")

    def plainly(self) -> dict[str, Any]:
        """The row of the channel `activations`."""
        text, kept = self._text, self._control.kept
        before = np.linalg.norm(text.difference, axis=1).astype(np.float64)
        along = text.difference @ self._directions.T.astype(np.float32)  # (n, cases)
        window = self._control.windows.row_window[text.row]
        tries = []
        for case, part in enumerate(self._parts):
            mine = np.isin(text.document, part)
            for times in SIZES:
                size = times * self._control.margin * kept.typical
                square = before[mine] ** 2 + 2 * size * along[mine, case] + size**2
                more = np.sqrt(np.maximum(square, 0)) - before[mine]
                added = np.bincount(window[mine], weights=more, minlength=len(self._weight))
                tries.append((kept.difference_norm + added) / max(kept.typical, 1e-30))
        mean = affected_shares(
            self._weight, self._control.windows, np.stack(tries, axis=1), self._control.effects
        )
        found = (mean.low > self._control.background).reshape(len(self._parts), len(SIZES)).mean(0)
        shares = dict(zip(SIZES, found.tolist(), strict=True))
        return row(self._key, "activations", self._control.margin, shares, len(self._parts))

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        """(cases + outside, d): decoders, then directions outside their span."""
        dictionary, cases = self._control.dictionary, self._control.settings.cases
        directions = dictionary.directions
        written = np.asarray(self._text.codes.sum(0)).ravel() * dictionary.norm
        n = min(_ACTIVE, directions.shape[1] // 2, int((written > 0).sum()))
        found = outside(directions[np.argsort(-written, kind="stable")[:n]], len(self._parts), rng)
        if written.sum() > 0:
            found[:cases] = directions[rng.choice(len(written), size=cases, p=written / written.sum())]
        return found

    def _share_called(self, times: float, cases: range, text: float = 1.0) -> float:
        """Share of the cases in which the category would be called affected, with `text` times as much text."""
        control = self._control
        size = times * control.margin * control.kept.typical
        confirmed = [self._confirmed(case, size, text) for case in cases]
        if not any(one.any() for one in confirmed):
            return 0.0
        rows = control.windows.n_rows.astype(np.float64)
        typical, scale = max(control.kept.typical, 1e-30), control.effects.affected_share_scale
        touched = np.stack([saturated(one / typical, rows, scale) for one in confirmed], axis=1)
        affected = affected_shares(self._weight, control.windows, touched, control.effects, text)
        return float((affected.low > control.effects.min_affected_share).mean())

    def _confirmed(self, case: int, size: float, text: float) -> np.ndarray:
        """(W,): what the latents called through the injection tell of it, sums over windows, raw units."""
        control = self._control
        if case not in self._injections:
            direction = self._directions[case]
            latents = control.dictionary.answering(direction, control.settings.answering)
            self._injections[case] = Injection(
                control.dictionary,
                control.kept,
                self._text,
                self._parts[case],
                direction,
                latents,
                self._times,
            )
        return control.callers[text].confirmed(self._injections[case], self._text, size, control.windows)


def search(share_found: Callable[[float], float]) -> dict[float, float]:
    """Size (times the margin) -> share found: the margin's, then smaller ones while enough are found, else larger."""
    found = {1.0: share_found(1.0)}
    smaller = found[1.0] >= ENOUGH
    for times in sorted((s for s in SIZES if (s < 1) == smaller and s != 1), reverse=smaller):
        found[times] = share_found(times)
        if (found[times] >= ENOUGH) != smaller:
            break
    return found


def row(
    key: str,
    channel: str,
    margin: float,
    share: dict[float, float] | None = None,
    n_cases: int | None = None,
    text_needed: float | None = None,
) -> dict[str, Any]:
    """A row of the table. share: size (times the margin) -> share found; None: nothing can be found there."""
    at = 0.0 if share is None else share[1.0]
    sizes = [times * margin for times, found in (share or {}).items() if found >= ENOUGH]
    cells = (key, channel, UNIT, margin, min(sizes, default=None), at, n_cases, None, text_needed)
    return dict(zip(COLUMNS, cells, strict=True))
