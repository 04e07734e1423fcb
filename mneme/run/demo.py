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
    "effects": {"intended": ["college_biology", "high_school_biology", "virology"]},
}

# A quarter of the bundled text's areas, each whole: fewer documents of every area would leave no category text enough.
# Six are of the life sciences, where the change is, eighteen of everything else.
QUICK_AREAS = (
    *("cell_biology", "genetics", "microbiology", "evolution_ecology", "anatomy", "clinical_medicine"),
    *("mechanics", "astronomy", "general_chemistry", "statistics", "algebra_geometry", "computer_security"),
    *("machine_learning", "macroeconomics", "marketing", "law", "philosophy", "religions"),
    *("world_history", "government_politics", "sociology", "education", "literature", "cooking_recipes"),
)


def demo_settings(*, quick: bool) -> dict[str, Any]:
    """Plain nested settings; `quick` reads a quarter of the areas into a quarter of the latents."""
    if not quick:
        return {
            **_PAIR,
            "harvest": {"max_tokens": 100_000},  # of 108,058: what two cores do in four minutes
            # a pass fewer than the default, in longer steps: as good on this pair (docs/method.md)
            "crosscoder": {"n_latents": 4096, "k": 32, "epochs": 6, "learning_rate": 1.6e-3},
        }
    return {
        **_PAIR,
        "corpus": "bundled:" + ",".join(QUICK_AREAS),
        "harvest": {"behaviour_share": 1.0},  # an area has seven documents: predictions are measured on each
        # smaller batches: enough steps for a quarter of the text
        "crosscoder": {"n_latents": 1024, "k": 16, "epochs": 8, "batch_size": 1024},
        # the sentence encoder reads thousands of texts to score labels: half of the time that is left
        "labels": {"score_labels": False},
    }
