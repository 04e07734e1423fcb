"""Why a latent is uncertain, in the words that tables, pages, report and exports share."""

from __future__ import annotations

ONE_PROBE = "one probe only"
GROUP = "correlated group"
TOO_RARE = "too rare"
HELD_OUT = "held-out text disagrees"
POORLY_RECONSTRUCTED = "poorly reconstructed"
TOO_WIDE = "interval too wide"
REASONS = {
    ONE_PROBE: "a moderate change that shows along one of its two decoders only",
    GROUP: "latents that fire with it can stand in for it, and solved together they say otherwise",
    TOO_RARE: "its evidence comes from too few documents for an interval to say anything",
    HELD_OUT: "the documents that training read show a change, and those it did not read show none, or another",
    POORLY_RECONSTRUCTED: "on text that training did not read, a model holds far more or less of it than the dictionary"
    " writes",
    TOO_WIDE: "the interval of its log ratio lies neither within the margin nor clear of it",
}
"""Reason -> what it means; where several hold, the first is the latent's."""

UNDETERMINED = "undetermined"
"""Stands for an end of a log ratio's interval that the evidence doesn't bound: NULL beside a known log ratio."""
