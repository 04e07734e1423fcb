"""Correlations and AUROC against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from mneme.stats.association import auroc, pearson, spearman


def test_each_row_is_what_scipy_and_scikit_learn_say():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 6, (4, 30)).astype(float), rng.normal(size=(4, 30))
    positive = rng.uniform(size=(4, 30)) < 0.4
    for row, (x, y, yes) in enumerate(zip(a, b, positive, strict=True)):
        assert pearson(a, b)[row] == pytest.approx(stats.pearsonr(x, y).statistic)
        assert spearman(a, b)[row] == pytest.approx(stats.spearmanr(x, y).statistic)
        assert auroc(a, positive)[row] == pytest.approx(metrics.roc_auc_score(yes, x))


def test_what_is_undefined_is_nan():
    same, up = np.ones(4), np.arange(4.0)
    assert np.isnan(pearson(same, up)) and np.isnan(spearman(up, same))
    assert np.isnan(auroc(up, np.zeros(4, bool))) and np.isnan(auroc(up, np.ones(4, bool)))
