"""What the report says about itself: the method in a few lines, its words, its limits, its sources."""

from __future__ import annotations

METHOD = (
    "Both models read the same text; the residual stream after one layer is kept for every token, except BOS"
    " and attention sinks.",
    "A BatchTopK crosscoder learns one dictionary for both: a latent has one activation a token and one"
    " decoder direction in each model.",
    "delta_norm compares the lengths of a latent's two decoders, (|d_tuned| − |d_base|) / (2 max) + ½: 0 base"
    " only, 0.5 both alike, 1 tuned only.",
    "beta (latent scaling) is the least-squares weight with which a model's own activations contain the"
    " latent's direction: 1 fully, 0 not at all. The direction is that of the longer decoder; the target is"
    " what is left of the activation when the latent is taken out of its reconstruction.",
    "The log ratio is ln(|beta_tuned| / |beta_base|), with a 95 % interval over documents. Where a latent's"
    " two decoders point in other directions, its log ratio is measured along each model's own decoder,"
    " so that a turn is not taken for a change of size. q is the share of false findings to expect"
    " (Benjamini-Hochberg) among latents at least this sure.",
    "Verdicts hold the log ratio against the one that most latents share. Amplified or suppressed: its interval"
    " clears the margin and q < 0.05. Redirected: its direction turned. Unchanged: its interval lies within the margin."
    " Uncertain: neither. Dead: it never fired.",
    "Severity is how far a latent's change moves the average token, as a share of the base model's typical"
    " deviation from its mean.",
    "Patching: f_j (d_tuned − d_base) is taken off the tuned model's activation where the latent fires (undone), or put"
    " on the base's (done), and the model goes on from there. The share of KL(base || tuned) that this closes is held"
    " against as large a patch along other directions, and against the whole activation.",
    "A label describes a latent's strongest contexts; its score is balanced accuracy on held-out contexts,"
    " 50 % is guessing.",
    "A category's effect adds up its amplified, suppressed and redirected latents, weighted by how much they fire in"
    " the category's text, as a share of the same deviation. Its affected share is the share of that text they touch,"
    " each passage from 0 to 1, and only as far as its activations did move the way they say. Degraded or improved: the"
    " affected share's interval lies above an eighth of the text and the next-token NLL there moved by more than"
    " the margin, which gives the direction. Unaffected: the interval lies below it.",
    "A measured outcome is a change on a benchmark, with a 95 % interval over its questions: of the NLL in nats, of a"
    " token of its text or of the right answer; or, unit error rate, of the share of wrong answers. Hit:"
    " the predicted change was measured. Miss: a measured change that was not predicted. False alarm: the reverse."
    " Undecided: the prediction is uncertain and no change was measured.",
)

LIMITS = (
    "One layer is read. A change that shows only elsewhere is not seen here.",
    "What the text does not exercise can't show: a category with little text in the corpus stays uncertain.",
    "Latents are one way to cut up activations. Another seed finds other latents, most of all rare ones.",
    "Labels are summaries of contexts, written by a program; the contexts are the evidence.",
    "What is said holds of text like the corpus: a benchmark that reads otherwise may show more or less of it.",
    "An effect is a prediction from activations, not a benchmark result, and shows association, not cause.",
    "Intervals are over documents of this corpus; they do not cover another corpus, layer or dictionary.",
)

SOURCES = (
    (
        "arXiv 2507.21084",
        "https://arxiv.org/abs/2507.21084",
        "MNEME: side effects of fine-tuning by model diffing; the method followed here",
    ),
    (
        "arXiv 2504.02922",
        "https://arxiv.org/abs/2504.02922",
        "Latent scaling, and BatchTopK crosscoders for chat tuning",
    ),
)

NO_EVIDENCE = "Differences that are small beside the intervals are no evidence for either side."

METRICS = {
    "auroc": "AUROC",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "f1": "F1",
}

METHOD_NAMES = {
    "crosscoder": "crosscoder",
    "crosscoder_effect": "crosscoder, by size of the effect",
    "mean_kl": "mean KL per category",
    "activation_difference_norm": "activation-difference norm",
    "activation_difference_share": "activation-difference norm, saturating as the affected share does",
    "mean_nll_change": "mean NLL change per category",
    "mean_difference_norm": "norm of the mean activation difference",
    "delta_norm_only": "decoder norms alone",
    "random_latents": "random latents",
    "majority": "always the commonest outcome",
    "aggregate_drop": "the benchmark's mean change, for every category",
    "oracle": "oracle, which has read the benchmark",
    "difference_sae": "difference-SAE",
    "mean_difference_lens": "logit lens of the mean difference",
}
"""How methods of the evaluation are called in sentences; others by their own name."""

SUBSETS = {"all": "all categories", "outside_intended": "categories outside what was intended"}
