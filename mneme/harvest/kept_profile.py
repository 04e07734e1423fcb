"""A layer profile kept beside the activations: a harvest that goes on after a stop chooses the same layer again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from mneme._util.files import write_text
from mneme._util.progress import NULL_PROGRESS, Progress
from mneme.harvest.layer_profile import layer_profile
from mneme.harvest.plan import Plan
from mneme.models import ModelPair

FILE = "layer_profile.json"


def kept_profile(
    folder: Path, pair: ModelPair, plan: Plan, progress: Progress = NULL_PROGRESS
) -> pd.DataFrame:
    """The profile of the pair on the plan's text: read from `folder`, or measured and written there."""
    made_from = _made_from(pair, plan)
    found = _read(folder)
    if found is not None and found[0] == made_from:
        return found[1]
    profile = layer_profile(pair, plan, progress)
    rows = json.loads(profile.to_json(orient="records", double_precision=15))
    write_text(folder / FILE, json.dumps({"made_from": made_from, "layers": rows}))
    return profile


def read_profile(folder: Path) -> pd.DataFrame | None:
    """The profile that lies in `folder`, of `layer_profile`; None where none does that can be read."""
    found = _read(folder)
    return None if found is None else found[1]


def _read(folder: Path) -> tuple[str, pd.DataFrame] | None:
    try:
        body = json.loads((folder / FILE).read_text(encoding="utf-8"))
        profile = pd.DataFrame(body["layers"])
        numbers = ["difference", "restored", "restored_low", "restored_high", "kl"]
        profile[numbers] = profile[numbers].astype(float)  # JSON has null for what is no number
        return str(body["made_from"]), profile
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made_from(pair: ModelPair, plan: Plan) -> str:
    """SHA-256 of the pair and of the text."""
    digest = hashlib.sha256(pair.fingerprint.encode())
    for ids in plan.tokens:
        digest.update(ids.tobytes())
    return digest.hexdigest()
