"""Crosscoders saved, loaded, damaged, and read from the layouts others publish."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mneme._util.errors import CrosscoderError
from mneme.crosscoder import Crosscoder, CrosscoderConfig

d, F, B = 6, 10, 30


@pytest.fixture
def x():
    return 3 * torch.randn(B, 2, d, generator=torch.Generator().manual_seed(0)) + 1


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (2, d, F), "b_enc": (F,), "W_dec": (2, F, d), "b_dec": (2, d)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def crosscoder(weights):
    model = Crosscoder(CrosscoderConfig(n_latents=F, k=3, encoder_dtype="float32"), d)
    normaliser = {"mean": torch.full((2, d), 0.9), "scale": torch.tensor([2.0, 3.0])}
    model.load_state_dict({**weights, **normaliser, "threshold": torch.tensor(2.5)})
    return model


def plain_encode(weights, x, keep) -> np.ndarray:
    """f of normalised x by loops; keep(f, s) with s = f (|d^b| + |d^t|)."""
    w = {name: part.double().numpy() for name, part in weights.items()}
    out = np.zeros((len(x), F))
    for i in range(len(x)):
        for j in range(F):
            f = max(0.0, sum(x[i, m] @ w["W_enc"][m, :, j] for m in range(2)) + w["b_enc"][j])
            s = f * sum(np.linalg.norm(w["W_dec"][m, j]) for m in range(2))
            out[i, j] = f if keep(f, s) else 0.0
    return out


def plain_decode(weights, f) -> np.ndarray:
    w = {name: part.double().numpy() for name, part in weights.items()}
    return np.stack([f @ w["W_dec"][m] + w["b_dec"][m] for m in range(2)], axis=1)


def test_a_saved_crosscoder_comes_back_the_same(crosscoder, x, tmp_path):
    crosscoder.save_pretrained(tmp_path)
    again = Crosscoder.from_pretrained(tmp_path)
    assert again.config == crosscoder.config
    assert torch.equal(again.encode(x), crosscoder.encode(x))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_encoding_follows_the_threshold_rule(crosscoder, weights, x):
    normalised = ((x - 0.9) / torch.tensor([2.0, 3.0])[:, None]).double().numpy()
    f = plain_encode(weights, normalised, lambda f, s: s > 2.5)
    assert 0 < (f > 0).sum() < f.size / 2
    np.testing.assert_allclose(crosscoder.encode(x).numpy(), f, rtol=1e-4, atol=1e-5)
    expected = plain_decode(weights, f) * np.array([2.0, 3.0])[:, None] + 0.9
    np.testing.assert_allclose(crosscoder(x).numpy(), expected, rtol=1e-4, atol=1e-4)
    codes = crosscoder.encode_sparse(x)
    np.testing.assert_allclose(crosscoder.decode(crosscoder.encode(x)), crosscoder(x), rtol=1e-4, atol=1e-4)
    flat = codes.row * F + codes.latent
    assert bool((flat.diff() > 0).all())


def test_encoding_without_a_normaliser_is_refused(x):
    with pytest.raises(CrosscoderError, match="with_normaliser"):
        Crosscoder(CrosscoderConfig(n_latents=F, variant="l1"), d).encode(x)


def test_activations_of_another_width_are_refused(crosscoder):
    with pytest.raises(CrosscoderError, match=r"\(tokens, 2, 6\)"):
        crosscoder.encode(torch.zeros(4, 2, d + 1))


def test_missing_and_damaged_files_name_the_fix(crosscoder, tmp_path):
    with pytest.raises(CrosscoderError, match="hub id"):
        Crosscoder.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(CrosscoderError, match=r"it needs config\.json"):
        Crosscoder.from_pretrained(tmp_path)
    crosscoder.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CrosscoderError, match="damaged"):
        Crosscoder.from_pretrained(tmp_path)
    file.write_bytes(whole)
    tensors = load_file(file)
    save_file({name: part for name, part in tensors.items() if name != "scale"}, file)
    with pytest.raises(CrosscoderError, match="lacks scale"):
        Crosscoder.from_pretrained(tmp_path)
    save_file({**tensors, "W_dec": torch.zeros(2, F + 1, d)}, file)
    with pytest.raises(CrosscoderError, match="W_dec has shape"):
        Crosscoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CrosscoderError, match="damaged"):
        Crosscoder.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "mneme-crosscoder", "width": d, "k": "x"})
    )
    with pytest.raises(CrosscoderError, match="damaged"):
        Crosscoder.from_pretrained(tmp_path)


def dictionary_learning_files(folder, weights, **more) -> None:
    tensors = {
        "encoder.weight": weights["W_enc"],
        "encoder.bias": weights["b_enc"],
        "decoder.weight": weights["W_dec"],
        "decoder.bias": weights["b_dec"],
        **more,
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"activation_dim": d, "dict_size": F, "num_layers": 2}))


def test_dictionary_learning_batchtopk_files_encode_by_their_formula(weights, x, tmp_path):
    mean, std = x.mean(0), x.std(0)
    gain = 1.5 / std.square().sum(-1).sqrt()
    dictionary_learning_files(
        tmp_path,
        weights,
        activation_mean=mean,
        activation_std=std,
        activation_global_scale=gain,
        target_rms=torch.tensor(1.5),
        code_normalization_id=torch.tensor(1),
        k=torch.tensor(3),
        threshold=torch.tensor(1.5),
    )
    model = Crosscoder.from_pretrained(tmp_path)
    normalised = ((x - mean) * gain[:, None]).double().numpy()
    f = plain_encode(weights, normalised, lambda f, s: s > 1.5)
    assert 0 < (f > 0).sum() < f.size
    np.testing.assert_allclose(model.encode(x).numpy(), f, rtol=1e-4, atol=1e-5)
    expected = plain_decode(weights, f) / gain.double().numpy()[:, None] + mean.double().numpy()
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_dictionary_learning_files_with_an_unset_normaliser_take_raw_inputs(weights, x, tmp_path):
    nan = torch.full((2, d), float("nan"))
    dictionary_learning_files(tmp_path, weights, activation_mean=nan, activation_std=nan.clone())
    f = plain_encode(weights, x.double().numpy(), lambda f, s: f > 0)
    np.testing.assert_allclose(
        Crosscoder.from_pretrained(tmp_path).encode(x).numpy(), f, rtol=1e-4, atol=1e-4
    )


def test_dictionary_learning_files_of_other_selection_rules_are_refused(weights, tmp_path):
    dictionary_learning_files(
        tmp_path, weights, threshold=torch.tensor(1.0), code_normalization_id=torch.tensor(2)
    )
    with pytest.raises(CrosscoderError, match="CROSSCODER"):
        Crosscoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("layout", ["ckkissane", "crosscoder_vis"])
def test_relu_crosscoders_need_and_get_a_normaliser(weights, x, tmp_path, layout):
    tensors = {**weights, "W_dec": weights["W_dec"].transpose(0, 1).contiguous()}
    (tmp_path / "cfg.json").write_text(json.dumps({"dict_size": F, "d_in": d}))
    if layout == "ckkissane":
        torch.save(tensors, tmp_path / "cc_weights.pt")
    else:
        torch.save({"model_state_dict": tensors}, tmp_path / "model.pt")
    model = Crosscoder.from_pretrained(tmp_path)
    with pytest.raises(CrosscoderError, match="with_normaliser"):
        model.encode(x)
    scale = x.norm(dim=2).mean(0) / d**0.5
    f = plain_encode(weights, (x / scale[:, None]).double().numpy(), lambda f, s: f > 0)
    np.testing.assert_allclose(model.with_normaliser(x).encode(x).numpy(), f, rtol=1e-4, atol=1e-4)
