"""How long a new run may take, from the rates of finished ones; what it writes, from sizes alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from dashboard.components import words
from mneme.store.queries.runs import Measured, measured_runs

# bytes: two streams in bfloat16 and their places a token; a code's latent and value; four float32 matrices
_STREAM, _PLACE, _CODE, _WEIGHT = 4, 24, 8, 16


class Forecast(NamedTuple):
    """What is expected of a run; None where nothing was measured that it could follow from."""

    seconds: float | None
    disk: float | None
    """Bytes."""
    free: float
    like: str | None
    """The finished run that the rates are of."""

    def sentence(self) -> str:
        """For people; it is an estimate and says what of."""
        if self.like is None:
            return (
                "No finished run of this folder tells how fast this machine is, so there is no estimate yet."
            )
        return (
            f"About **{words.duration(self.seconds or 0)}** and **{(self.disk or 0) / 1e9:.2f} GB** on disk "
            f"({self.free / 1e9:.0f} GB free): an estimate from the rates of the run "
            f"{words.markdown(self.like, 40)}."
        )


def forecast(folder: Path, base: str, tuned: str, tokens: int | None, latents: int, k: int) -> Forecast:
    """From the finished run that is most alike: of the same pair, else of the same base, else the newest."""
    free = float(shutil.disk_usage(folder).free) if folder.exists() else 0.0
    runs = [run for run in measured_runs(folder) if run.tokens and run.seconds]
    if not runs:
        return Forecast(None, None, free, None)
    like = max(runs, key=lambda run: (run.base == base) + (run.base == base and run.tuned == tuned))
    return Forecast(*expected(like, tokens or like.tokens, latents, k), free, like.name)


def expected(like: Measured, tokens: int, latents: int, k: int) -> tuple[float, float]:
    """(seconds, bytes). Reading grows with the tokens; the dictionary's stages with tokens x latents.

    What does not grow with either (loading models, the map) is counted as if it did, so small runs take longer
    than foretold from large ones.
    """
    more = tokens / like.tokens
    larger = latents / max(like.latents, 1)
    seconds = sum(
        took * more * (larger if stage in ("crosscoder", "attribution") else 1.0)
        for stage, took in like.seconds.items()
    )
    a_token = _STREAM * like.width + _PLACE + _CODE * k
    return seconds, tokens * a_token + _WEIGHT * like.width * latents
