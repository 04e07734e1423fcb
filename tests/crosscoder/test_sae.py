"""A SAELens autoencoder of the base is read as a read-out dictionary: by its own formula, on each model's stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mneme._util.errors import CrosscoderError
from mneme.crosscoder import Crosscoder
from mneme.crosscoder.formats import read

d, F = 5, 9


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (d, F), "b_enc": (F,), "W_dec": (F, d), "b_dec": (d,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor], **settings: Any) -> None:
    save_file(tensors, folder / "sae_weights.safetensors")
    told = {
        "architecture": "standard",
        "d_in": d,
        "d_sae": F,
        "hook_name": "blocks.4.hook_resid_pre",
        **settings,
    }
    (folder / "cfg.json").write_text(json.dumps(told))


@pytest.mark.parametrize("subtracted", [True, False])
def test_each_models_stream_is_read_by_the_autoencoders_formula(tmp_path: Path, subtracted: bool) -> None:
    w = weights()
    write(tmp_path, w, apply_b_dec_to_input=subtracted)
    found = Crosscoder.from_pretrained(tmp_path)
    assert found.config.variant == "base" and found.has_normaliser and read(tmp_path).origin.layer == 3
    x = 2 * torch.randn(50, 2, d, generator=torch.Generator().manual_seed(1))
    f = ((x - (w["b_dec"] if subtracted else 0)) @ w["W_enc"] + w["b_enc"]).relu()
    np.testing.assert_allclose(found.encode(x), f[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found(x), f @ w["W_dec"] + w["b_dec"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "more", "told"),
    [
        ({"architecture": "jumprelu"}, {}, "selects otherwise"),
        ({}, {"threshold": torch.ones(F)}, "selects otherwise"),
        ({"architecture": "topk"}, {}, "selects otherwise"),
        ({"normalize_activations": "layer_norm"}, {}, "scales its inputs"),
        ({}, {"W_enc": torch.zeros(F, d)}, "transposed"),
        ({}, {"W_dec": torch.full((F, d), float("nan"))}, "NaN or infinity in W_dec"),
    ],
)
def test_what_no_read_out_dictionary_says_is_refused(
    tmp_path: Path, settings: dict[str, Any], more: dict[str, torch.Tensor], told: str
) -> None:
    write(tmp_path, {**weights(), **more}, **settings)
    with pytest.raises(CrosscoderError, match=told):
        read(tmp_path)
