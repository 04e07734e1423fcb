"""The settings of `mneme demo`: a real 135M model before and after unlearning biology, on two cores.

Only what the size of the job decides is set here; all else is mneme's defaults.
"""

from __future__ import annotations

from typing import Any

_PAIR: dict[str, Any] = {
    "base": "bundled:base",
    "tuned": "bundled:tuned",
    "corpus": "bundled",
    # What it was trained to forget (data/smollm2-rmu-biology/recipe.toml): effects there are no side effects.
    "effects": {"forget": ["college_biology", "high_school_biology", "virology"]},
}


def demo_settings(*, quick: bool) -> dict[str, Any]:
    """Plain nested settings; `quick` reads a tenth of the text into a quarter of the latents."""
    if not quick:
        return {
            **_PAIR,
            "harvest": {"max_tokens": 100_000},  # of 108,058: what two cores do in four minutes
            # a pass fewer than the default, in longer steps: as good on this pair (docs/method.md)
            "crosscoder": {"latents": 4096, "k": 32, "epochs": 6, "learning_rate": 1.6e-3},
        }
    return {
        **_PAIR,
        "harvest": {"max_tokens": 12_000},
        "crosscoder": {"latents": 1024, "k": 16},
    }
