"""A finished run's models, loaded again: they must be those that its activations came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mneme._util.errors import ModelError
from mneme.harvest.shards import read_index

if TYPE_CHECKING:
    from mneme.config import RunConfig
    from mneme.models import ModelPair


def pair_of_run(folder: Path, config: RunConfig) -> ModelPair:
    """Load the models of the run in `folder`, in the precision in which they were read.

    Raises ModelError when they can't be had, or have changed since.
    """
    from mneme.models import load_pair

    index = read_index(folder / "activations") or {}
    pair = load_pair(
        config.base,
        config.tuned,
        # "auto" may be another precision on another machine, and rounded weights are other weights
        dtype=index.get("dtype") or config.harvest.dtype,
        device=config.harvest.device,
        trust_remote_code=config.models.trust_remote_code,
    )
    check_same(folder, pair)
    return pair


def check_same(folder: Path, pair: ModelPair) -> None:
    """Raises ModelError when the models are not those that the run in `folder` read."""
    index = read_index(folder / "activations") or {}
    if index.get("pair", pair.fingerprint) != pair.fingerprint:
        raise ModelError(
            f"{pair.base_id} and {pair.tuned_id} are not what {folder} was made from, they have changed since:"
            f" `mneme run {folder / 'run.toml'} --out {folder} --replace` makes it again"
        )
