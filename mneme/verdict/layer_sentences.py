"""What a layer profile says, in sentences: the same on the page Evidence and in the report."""

from __future__ import annotations

import pandas as pd

from mneme.harvest.layer_choice import ENOUGH, restored_at


def layer_sentences(profile: pd.DataFrame, layer: int | None, why: str) -> list[str]:
    """profile: table `layer_profile`, not empty. layer: the one that was read; why: the sentence of `run_info`."""
    found = []
    n = len(profile)
    if layer is not None:
        share = restored_at(profile, layer)
        reason = f": {why}" if why else ""
        found.append(f"Layer {layer} of {n} (from 0) is read{reason}.")
        if share < ENOUGH:
            found.append(
                f"Its stream holds {share:.0%} of the difference of the predictions: the rest comes after it, and no"
                " latent can show it."
            )
    if profile["restored"].isna().all():
        found.append(
            "The predictions differ too little on these texts to tell layers apart"
            f" (KL {profile['kl'].iloc[0]:.2g} nats a token)."
        )
        return found
    changed = profile.loc[profile["changed"].astype(bool), "layer"].astype(int).tolist()
    enough = profile.loc[profile["restored"] >= ENOUGH, "layer"]
    if changed:
        found.append(f"Weights differ in {_ranges(changed)}.")
    if len(enough):
        found.append(
            f"{ENOUGH:.0%} of the difference of the predictions is in the stream from layer {int(enough.min())} on."
        )
    else:
        found.append(
            f"No layer that was measured holds {ENOUGH:.0%} of it: the norm or the output head differ, too."
        )
    return found


def _ranges(layers: list[int]) -> str:
    """'layer 3', 'layers 5 to 7 and 9'."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    words = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"layer{'s' * (len(layers) > 1)} {words}"
