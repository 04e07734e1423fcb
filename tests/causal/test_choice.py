"""Which text is read: contexts' windows, and documents that stand for others."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from patched_models import cache_of

from mneme.causal.choice import context_windows, weighed_documents
from mneme.causal.patching_sentences import joint_sentences, latents_sentence
from mneme.harvest.text import TextReader


def measured_cache(totals, size=10):
    """Documents of `size` tokens with these sums of KL; NaN: not measured."""
    document = np.repeat(np.arange(len(totals)), size)
    return SimpleNamespace(
        n_documents=len(totals), document=document, kl=np.repeat(np.array(totals, dtype=float), size) / size
    )


def test_documents_that_carry_the_change_are_taken_and_an_even_spread_of_the_others():
    totals = np.full(100, 0.01)
    totals[[7, 50, 80]] = [30.0, 40.0, 50.0]
    totals[[3, 4]] = np.nan
    weights = weighed_documents(measured_cache(totals), 200)
    assert [d for d, w in weights.items() if w == 1] == [80, 50, 7]
    others = {d: w for d, w in weights.items() if w != 1}
    assert len(others) == 17 and not {3, 4} & set(others), "within the tokens, only where behaviour is known"
    assert sum(weights.values()) == pytest.approx(98), "they stand for all that were measured"
    assert max(others) - min(others) > 60


def test_all_documents_stand_for_themselves_where_they_fit():
    weights = weighed_documents(measured_cache([1.0, 2.0, 0.0, 3.0]), 1000)
    assert weights == dict.fromkeys(range(4), 1.0)
    unmeasured = weighed_documents(measured_cache([np.nan] * 4), 1000)
    assert unmeasured == dict.fromkeys(range(4), 1.0)


def test_a_context_is_measured_from_its_first_firing_to_its_end():
    reader = TextReader(cache_of([list(range(2, 62))]), 41, 0)
    one = {"document": 0, "position": 12, "start": 8, "activations": [0, 0, 1.5, 0, 2.0, 0]}
    found = context_windows([one, {**one, "position": 20, "start": 18, "activations": [1.0, 0, 3.0]}], reader)
    ((window, mask),) = found.items()
    assert window == (0, 0, 21) and np.flatnonzero(mask).tolist() == [10, 11, 12, 13, 18, 19, 20]
    across = {"document": 0, "position": 41, "start": 38, "activations": [1.0, 0, 0, 2.0, 0]}
    ((window, mask),) = context_windows([across], reader).items()
    assert window == (0, 40, 3) and mask.all(), "it is read in the window of its strongest token"


def test_what_is_not_told_is_not_said_as_a_share():
    assert joint_sentences(pd.DataFrame()) == []
    row = {"patch": "undo", "source": "latents", "kl_share": None, "n_documents": 3, "kl_before": 0.001}
    (sentence,) = joint_sentences(pd.DataFrame([row]))
    assert "too little" in sentence and "%" not in sentence
    assert latents_sentence(pd.DataFrame([{"patch": "undo", "kl_share": np.nan}])) == []
