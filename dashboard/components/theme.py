"""Colours, signs and explanations used on every page.

Colours are of the Okabe-Ito family (told apart with any colour vision, on light and on dark) and never
carry a class alone: a sign or a marker's shape says it too. One set serves both themes, so that a figure is
the same bytes in both.
"""

from __future__ import annotations

from typing import Literal

from mneme._util.vocabulary import LATENT_SIGNS
from mneme.attribution.reasons import REASONS

VERDICT_COLOUR = {
    "amplified": "#d55e00",
    "suppressed": "#2a86c7",
    "redirected": "#9a63b8",
    "unchanged": "#8c9299",
    "uncertain": "#b89b3c",
    "dead": "#b9bec4",
}
VERDICT_MARKER = {
    "amplified": "triangle-up",
    "suppressed": "triangle-down",
    "redirected": "triangle-right",
    "unchanged": "circle",
    "uncertain": "diamond",
    "dead": "x",
}
BadgeColour = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray"]
VERDICT_BADGE: dict[str, BadgeColour] = {
    "amplified": "orange",
    "suppressed": "blue",
    "redirected": "violet",
    "unchanged": "gray",
    "uncertain": "yellow",
    "dead": "gray",
}
EFFECT_COLOUR = {
    "degraded": "#c2417c",
    "improved": "#1f9e89",
    "changed inside": "#7d6bb5",
    "unaffected": "#8c9299",
    "not known": "#b89b3c",
}
EFFECT_SIGN = {"degraded": "▼", "improved": "▲", "changed inside": "■", "unaffected": "●", "not known": "◆"}
CALL_SIGN = {
    "confirmed": "✓ confirmed",
    "false": "✗ false",
    "missed": "✗ missed",
    "undecided": "◆ undecided",
    "open": "○ open",
}
CALL_COLOUR = {
    "confirmed": "#1f9e89",
    "false": "#c2417c",
    "missed": "#d55e00",
    "undecided": "#b89b3c",
    "open": "#8c9299",
}
CALL_MARKER = {
    "confirmed": "circle",
    "false": "diamond",
    "missed": "x",
    "undecided": "circle-dot",
    "open": "circle-open",
}
GROUP_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b89b3c", "#56b4e9", "#7d6bb5", "#8c9299")
REVIEW_ICON = {
    "accept": ":material/check:",
    "reject": ":material/close:",
    "needs-work": ":material/build:",
}
FLAGS: dict[str, tuple[BadgeColour, str]] = {
    "turned": (
        "violet",
        "Its two decoders point in different directions: each model is measured along its own. Whether the models'"
        " activations turned as well, the verdict says.",
    ),
    "dense": ("violet", "It fires on a large share of the tokens (a fifth, unless set otherwise)."),
    "dead": ("violet", "It never fires on this text."),
    "position bound": ("violet", "It fires mostly at the first tokens of documents (BOS, attention sinks)."),
    "unstable": (
        "orange",
        "Beta from one half of the documents differs from the other's by more than half of its size.",
    ),
    "unreliable label": (
        "orange",
        "On held-out contexts it isn't shown to do better than other latents' labels do.",
    ),
}
"""Colour and meaning of each of `queries.latents.FLAGS`."""
STATUS: dict[str, tuple[BadgeColour, str, str]] = {
    "ok": ("green", ":material/check_circle:", "fine"),
    "warn": ("orange", ":material/warning:", "look"),
    "fail": ("red", ":material/error:", "problem"),
    "info": ("gray", ":material/info:", "note"),
}


def legend(counts: dict[str, int] | None = None) -> str:
    """The verdicts' signs and colours, with counts of latents, as one line of HTML."""
    shown = ("amplified", "suppressed", "redirected", "uncertain", "unchanged")
    number = {v: f" {counts[v]:,}" if counts else "" for v in shown}
    return _legend({v + number[v]: (LATENT_SIGNS[v], VERDICT_COLOUR[v]) for v in shown})


def effect_legend() -> str:
    """The same for categories."""
    return _legend({v: (EFFECT_SIGN[v], colour) for v, colour in EFFECT_COLOUR.items()})


def _legend(entries: dict[str, tuple[str, str]]) -> str:
    parts = [
        f'<span style="white-space:nowrap"><span style="color:{colour};font-size:1.15em">{sign}</span>'
        f" {name}</span>"
        for name, (sign, colour) in entries.items()
    ]
    return (
        '<div style="font-size:0.85rem;display:flex;gap:0 0.8rem;flex-wrap:wrap">' + "".join(parts) + "</div>"
    )


HELP = {
    "delta_norm": "Delta norm compares the lengths of a latent's two decoders: 0 means only the base model "
    "uses it, 0.5 both alike, 1 only the tuned model.",
    "beta": "Beta says how much of a latent's direction a model really contains: 1 fully, 0 not at all. "
    "Beta(b) is the base model's, beta(f) the fine-tuned one's.",
    "log_ratio": "ln(beta(f) / beta(b)): above 0 the tuned model uses the latent more (+0.69 is twice as "
    "much), "
    "below 0 less. In brackets the 95 % interval over documents; an end that the evidence doesn't bound is "
    "undetermined. For a latent whose decoders point apart each model is "
    "measured along its own decoder, so it is not the ratio of the two betas shown.",
    "verdict": "Amplified or suppressed: the change is larger than the margin, and sure (q < 0.05). "
    "Redirected: its direction turned, by a test, without a sure change of strength. Unchanged: "
    "the interval lies inside the margin. Uncertain: neither, with a reason. Dead: it never fires.",
    "reason": "Why a latent is uncertain. "
    + " ".join(f"{reason.capitalize()}: {meaning}." for reason, meaning in REASONS.items()),
    "q_value": "Share of false findings to expect among latents at least this sure (Benjamini-Hochberg).",
    "severity": "How much a latent moves: used to rank what to look at first.",
    "priority": "Severity times uncertainty, w / (1 + w) for a 95 % interval w wide: 0 sure, 1 nothing known. "
    "The highest listed is 100.",
    "review": "What analysts said: accept, reject or needs-work; ★ is a bookmark.",
    "firing_rate": "Share of tokens the latent fires on.",
    "turn": "Where a latent's decoders point apart, the direction it has in each model is measured on the text, each "
    "document against the others. Redirected: the cosine's interval lies below 0.7 (unless set otherwise), and "
    "q < 0.05.",
    "kl": "KL(base || tuned) of the next-token predictions where the latent fires, in nats. Measured on the "
    "first tokens of a share of the documents (harvest.behaviour_tokens, behaviour_share).",
    "nll_change": "Tuned minus base surprise (negative log-likelihood) at the next token where the latent "
    "fires, in nats: above 0 the tuned model predicts worse there. Measured on the first tokens of a share of "
    "the documents (harvest.behaviour_tokens, behaviour_share).",
    "kl_of_text": "KL(base || tuned) of the next-token predictions, mean over the text, in nats.",
    "nll_change_of_text": "Tuned minus base surprise (negative log-likelihood) at the next token, mean over the text, "
    "in nats: above 0 the tuned model predicts worse.",
    "score": "How well the label tells held-out contexts of the latent from others: balanced accuracy, 50 "
    "% is guessing. A label that does no better than other latents' labels do on the same contexts is unreliable.",
    "stability": "Share of dictionaries trained with other seeds, each from a start of its own, that have this latent "
    "too: encoder and decoder cosine of 0.7 or more (mneme stability).",
    "cosine": "Cosine between the latent's two decoders: 1 is the same direction. Low: they point "
    "apart (turned).",
    "affected_share": "Share of the category's text that changed latents touch: each passage counts from 0 to 1 by how "
    "far its activations moved the way those latents say, however far beyond.",
    "area_verdict": "Degraded or improved: the interval of the NLL change on the area's text lies beyond the margin. "
    "Changed inside: activations moved beyond their margin, predictions stayed within theirs. Unaffected: both stayed "
    "within. Not known: the data does not decide, and the last column says why.",
    "calls": "Confirmed: degraded and measured worse, improved and better, or unaffected or changed inside and the same"
    ". False: degraded or improved, and measured the same or the other way. Missed: unaffected or changed inside, and "
    "measured to have moved. Undecided: the verdict is not known. Open: the measured interval spans the margin.",
    "explained": "Share of what the tuning did to the activations on the category's text that the changed latents "
    "account for. The rest is change that no latent on this page tells.",
    "effect": "Predicted size of the change in a category: its latents' changes, weighted by how much they "
    "fire in the category's text. The verdict asks how much of the text is affected, not only how far "
    "it is moved. In brackets the 95 % interval over documents.",
    "measured": "Measured on a benchmark, tuned minus base, above 0 is worse: the change of the negative "
    "log-likelihood in nats, of a token of its text or of the right answer; or, unit error rate, of the share of wrong "
    "answers. Worse or better: its 95 % interval lies beyond the margin (effects.nll_margin); the same: within it; "
    "open: the interval spans the margin.",
    "explained_variance": "Share of the activations' variance that the crosscoder reproduces.",
    "category": "A subject area. A latent belongs to the areas of the text it fires on; named is the one it leans to "
    "most, however little: its page shows the weight.",
}
