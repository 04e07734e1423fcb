"""Does a label tell where its latent fires? Held-out detection and fuzzing, each against baselines.

exam.py        the windows that labels are judged on: positives, random negatives, hard negatives
fuzz.py        windows with marked words, a latent's own or others
reader.py      how well a text fits a label, without a language model
statistics.py  thresholds, balanced accuracy, F1, AUPRC and their intervals, many latents at once
encoder.py     labels through all of it: the rows of `label_scores` and `label_examples`
nonsense.py    the same for latents that fire at random: what a label of nothing scores
judge.py       the same questions put to a language model

Detection asks whether a latent fires in a window, fuzzing whether the marked words are those it fires on (Paulo et
al., arXiv 2410.13928). Balanced accuracy and, with both sides given the same weight, F1 and AUPRC: measures that a
label can't win by saying yes (arXiv 2506.05774).
"""
