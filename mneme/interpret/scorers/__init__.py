"""Does a label tell where its latent fires? Held-out detection and fuzzing, each against baselines.

    scoring_set    the windows that labels are scored on: positives, random negatives, hard negatives
    fuzz           windows with marked words, a latent's own or others
    text_fit       how well a text fits a label, without a language model
    measures       thresholds, balanced accuracy, F1, AUPRC, many latents at once
    detection      labels through all of it: the rows of `label_scores` and `label_examples`
    random_latent_baseline  the same for latents that fire at random: what a label of nothing scores
    judge_items, llm_scorer, likelihood  the same questions put to a language model
    score_labels   all of the above, for the labels of a run

Detection asks whether a latent fires in a window, fuzzing whether the marked words are those it fires on (Paulo et
al., arXiv 2410.13928). Balanced accuracy and, with both sides given the same weight, F1 and AUPRC: measures that a
label can't win by saying yes (arXiv 2506.05774).
"""
