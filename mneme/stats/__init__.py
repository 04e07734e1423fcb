"""General statistics, each written once: what knows nothing of models, latents or categories.

    fieller       exact interval of a ratio of two sums     moments       covariance and effective number of sums
    linearised    a ratio's error and p-value, linearised   bootstrap     weights, redraws, percentile intervals
    proportions   intervals of shares and their changes     fdr           Benjamini-Hochberg q-values
    association   Pearson, Spearman, AUROC of many rows at once

Units of evidence are documents, items or categories: whatever may be taken for independent. What SciPy has is SciPy's,
here with the answer for "nothing was measured" (NaN); the rest is for many ratios at once. The room imports `_util`
only.
"""
