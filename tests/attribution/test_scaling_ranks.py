"""Two processes, each with documents of its own, come to what one does."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from handmade import HandMade
from ranks import run_ranks

from mneme._util import distributed
from mneme.attribution import attribute, latent_scaling
from mneme.attribution.config import AttributionConfig
from mneme.attribution.held_activations import MemoryCache
from mneme.crosscoder.codes import to_csr

N = 600
CONFIG = AttributionConfig(batch_size=70, interval="bootstrap", replicates=20)


class Cache(MemoryCache):
    """With the reading of rows that an ActivationCache has, and behaviour measured on half of the tokens."""

    def __init__(self):
        g = torch.Generator().manual_seed(3)
        documents = np.arange(N) // 37  # the middle of the tokens lies amid a document
        super().__init__(torch.randn(N, 2, 8, generator=g, dtype=torch.float64) * 2, documents)
        self.kl = np.where(documents % 2, np.nan, np.arange(N)).astype(np.float32)
        self.nll_base, self.nll_tuned = np.zeros(N, np.float32), self.kl / 2

    def read(self, start, stop):
        return self.activations[start:stop]


def crosscoder():
    g = torch.Generator().manual_seed(0)
    decoder = torch.randn(2, 12, 8, generator=g, dtype=torch.float64)
    bias = torch.randn(2, 8, generator=g, dtype=torch.float64)
    return HandMade(decoder.transpose(1, 2).contiguous() / 8, decoder, bias, 1.0)


def everything(folder):
    cache = Cache()
    found = attribute(crosscoder(), cache, folder, CONFIG)
    frames = [
        latent_scaling(crosscoder(), cache.activations, cache.document, batch_size=50),
        latent_scaling(crosscoder(), cache, batch_size=50),
        found.latents,
        found.betas,
        found.activation_histogram,
    ]
    return frames, found.half_betas, vars(found.fit), to_csr(folder).toarray()


def test_two_processes_come_to_the_statistics_of_one(tmp_path):
    frames, halves, fit, codes = everything(tmp_path / "alone")
    for there in run_ranks(everything, tmp_path / "two"):
        for mine, whole in zip(there[0], frames, strict=True):
            pd.testing.assert_frame_equal(mine, whole, rtol=1e-6, atol=1e-6)  # replicates are float32
        np.testing.assert_allclose(there[1], halves, rtol=1e-9)
        for name, value in fit.items():
            np.testing.assert_allclose(there[2][name], value, rtol=1e-9)
        np.testing.assert_array_equal(there[3], codes)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "00000.safetensors",
        "00001.safetensors",
        "index.json",
    ]


@pytest.mark.parametrize("ranks", [1, 2, 3, 40])
def test_ranks_share_whole_documents_without_gap(ranks, monkeypatch):
    document = np.repeat(np.arange(8), [5, 1, 30, 2, 2, 9, 1, 10])
    rows = []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: ranks)
        rows.append(distributed.my_rows(60, document))
    assert rows[0][0] == 0 and rows[-1][1] == 60
    assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))
    starts = {0, 60, *(np.flatnonzero(np.diff(document)) + 1).tolist()}
    assert {edge for pair in rows for edge in pair} <= starts
