"""The difference's principal directions."""

import numpy as np
import pytest
import torch

from mneme.attribution.held_activations import MemoryCache
from mneme.run.finding_changes import principal_directions


def test_principal_directions_are_those_of_the_difference() -> None:
    x = torch.randn(300, 2, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3, 1, 2, 0.5])
    found = principal_directions(MemoryCache(x, np.zeros(300)), 3)
    expected = np.linalg.svd((x[:, 1] - x[:, 0]).double().numpy())[2][:3]
    assert np.abs((found * expected).sum(1)) == pytest.approx(1)
    assert torch.from_numpy(found).shape == (3, 5)
