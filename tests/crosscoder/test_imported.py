"""Crosscoders of other tools: an exact equivalent of a known dictionary, in every layout, must be that dictionary."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mneme._util.errors import CrosscoderError
from mneme.crosscoder import Crosscoder, CrosscoderConfig
from mneme.crosscoder.export import export_crosscoder
from mneme.crosscoder.formats import read
from mneme.crosscoder.imported import fit_imported
from mneme.crosscoder.origin import Origin, check_origin, foreign_models, read_origin
from mneme.crosscoder.source import TensorSource

d = 6
F = 2 * d
MEAN, SCALE = torch.tensor([[0.7], [-1.5]]).expand(2, d), torch.tensor([4.0, 11.0])


def exact(variant: str = "l1", mean: Tensor = MEAN, scale: Tensor = SCALE) -> Crosscoder:
    """A crosscoder that reconstructs `streams` exactly: latents e_j and -e_j of the normalised stream."""
    config = CrosscoderConfig(n_latents=F, k=d, variant=variant, encoder_dtype="float32")  # type: ignore[arg-type]
    model = Crosscoder(config, d)
    signs = torch.cat([torch.eye(d), -torch.eye(d)])
    parts = {
        "W_enc": signs.T.expand(2, d, F) / 2,
        "W_dec": signs.expand(2, F, d),
        "mean": mean,
        "scale": scale,
    }
    threshold = torch.tensor(0.4 if variant == "batchtopk" else float("nan"))
    model.load_state_dict(
        {"b_enc": torch.zeros(F), "b_dec": torch.zeros(2, d), "threshold": threshold, **parts}
    )
    return model


def streams(n: int = 4000, mean: Tensor = MEAN, scale: Tensor = SCALE) -> Tensor:
    z = torch.randn(n, 1, d, generator=torch.Generator().manual_seed(0)).expand(n, 2, d)
    return z * scale[:, None] + mean


def dictionary_learning(folder: Path, model: Crosscoder, settings: Any = None, **more: Tensor) -> None:
    tensors = {
        "encoder.weight": model.W_enc, "encoder.bias": model.b_enc, "decoder.weight": model.W_dec,
        "decoder.bias": model.b_dec, **more,
    }  # fmt: skip
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings or {}))


def relu_file(file: Path, model: Crosscoder, wrap: str | None = None) -> None:
    """ckkissane's tensors, the weights as they are."""
    parts = {
        "W_enc": model.W_enc,
        "b_enc": model.b_enc,
        "W_dec": model.W_dec.transpose(0, 1),
        "b_dec": model.b_dec,
    }
    tensors = {name: part.detach().contiguous().clone() for name, part in parts.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({wrap: tensors} if wrap else tensors, file)


def assert_same(found: Crosscoder, expected: Crosscoder, x: Tensor) -> None:
    np.testing.assert_allclose(found.encode(x), expected.encode(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found(x), expected(x), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.raw_decoder(), expected.raw_decoder(), rtol=1e-4, atol=1e-5)


# the scale


def test_a_scale_that_was_folded_in_is_not_applied_again(tmp_path: Path) -> None:
    x, own = streams(), exact()
    export_crosscoder(own, tmp_path, "ckkissane", layer=3)
    found = Crosscoder.from_pretrained(tmp_path)
    scale = fit_imported(found, TensorSource(x))
    assert scale.taken == "folded" and scale.folded > 0.999 > scale.fitted and not scale.forced
    assert_same(found, own, x)
    assert "folded into its weights, it explains 100.0%" in scale.sentence()
    forced = fit_imported(found, TensorSource(x), "fitted")
    assert forced.taken == "fitted" and "imported_scale = fitted" in forced.sentence()
    assert not torch.equal(found.scale, torch.ones(2))


def test_a_scale_that_was_left_out_is_fitted(tmp_path: Path) -> None:
    zero = torch.zeros(2, d)
    x = streams(mean=zero)
    scale = x.norm(dim=2).mean(0) / d**0.5  # their rule: a mean norm of sqrt(d)
    own = exact(mean=zero, scale=scale)
    # Latents need a bias, or any scale would do.
    own.b_enc.fill_(-0.2)
    own.W_dec.mul_(1.3)
    relu_file(tmp_path / "cc_weights.pt", own)
    found = Crosscoder.from_pretrained(tmp_path)
    assert fit_imported(found, TensorSource(x)).taken == "fitted"
    assert_same(found, own, x)


def test_a_crosscoder_of_other_activations_is_told(tmp_path: Path) -> None:
    relu_file(tmp_path / "cc_weights.pt", exact())
    x = torch.randn(3000, 2, d, generator=torch.Generator().manual_seed(3))
    x[:, 1] = torch.randn(3000, d, generator=torch.Generator().manual_seed(4)) * 1e3
    found = Crosscoder.from_pretrained(tmp_path)
    found.W_dec.mul_(50)
    assert "neither explains" in fit_imported(found, TensorSource(x)).sentence()


# selection


@pytest.mark.parametrize("settings", [{"k": 3}, {"trainer": {"k": 3}}, {"trainer": {"top_k": 3}}])
def test_k_without_a_threshold_selects_k_of_each_token(tmp_path: Path, settings: dict[str, Any]) -> None:
    mean, std = torch.zeros(2, d), torch.ones(2, d)
    more = {"activation_mean": mean, "activation_std": std, "activation_global_scale": 1 / SCALE}
    dictionary_learning(tmp_path, exact(), settings, **more)
    found = Crosscoder.from_pretrained(tmp_path)
    assert found.config.variant == "topk" and found.config.k == 3
    assert (found.encode(streams(200)) > 0).sum(1).tolist() == [3] * 200


def test_a_threshold_that_was_never_set_needs_a_k(tmp_path: Path) -> None:
    dictionary_learning(tmp_path, exact(), threshold=torch.tensor(-1.0))
    with pytest.raises(CrosscoderError, match="no k: give its config"):
        Crosscoder.from_pretrained(tmp_path)


# round trips


@pytest.mark.parametrize("variant", ["l1", "topk", "batchtopk"])
def test_an_exported_crosscoder_comes_back_the_same(tmp_path: Path, variant: str) -> None:
    x, own = streams(), exact(variant)
    export_crosscoder(own, tmp_path, layer=3)
    found = Crosscoder.from_pretrained(tmp_path)
    assert (found.config.variant, found.config.n_latents) == (variant, F) and found.has_normaliser
    assert variant == "l1" or found.config.k == own.config.k
    assert_same(found, own, x)
    assert read(tmp_path).origin.layer == 3


def test_exported_files_are_what_the_other_tools_read(tmp_path: Path) -> None:
    """Their formulas, by hand, on the files alone."""
    x, own = streams(300), exact("batchtopk")
    export_crosscoder(own, tmp_path / "a", layer=3)
    t = {name: part.double() for name, part in load_file(tmp_path / "a" / "model.safetensors").items()}
    assert json.loads((tmp_path / "a" / "config.json").read_text()) == {
        "activation_dim": d, "dict_size": F, "num_layers": 2, "k": d, "code_normalization": "CROSSCODER", "layer": 3,
    }  # fmt: skip
    gain = t["target_rms"] / t["activation_std"].square().sum(-1).sqrt()
    np.testing.assert_allclose(gain, t["activation_global_scale"], rtol=1e-6)
    normalised = (x.double() - t["activation_mean"]) * gain[:, None]
    pre = torch.einsum("bmd,mdf->bf", normalised, t["encoder.weight"]) + t["encoder.bias"]
    f = pre.relu() * (pre.relu() * t["decoder.weight"].norm(dim=-1).sum(0) > t["threshold"])
    np.testing.assert_allclose(own.encode(x), f, rtol=1e-4, atol=1e-5)
    out = torch.einsum("bf,mfd->bmd", f, t["decoder.weight"]) + t["decoder.bias"]
    np.testing.assert_allclose(own(x), out / gain[:, None] + t["activation_mean"], rtol=1e-4, atol=1e-4)

    own = exact()
    export_crosscoder(own, tmp_path / "b", "ckkissane", layer=3)
    w = torch.load(tmp_path / "b" / "cc_weights.pt", weights_only=True)
    assert {name: tuple(part.shape) for name, part in w.items()} == {
        "W_enc": (2, d, F), "b_enc": (F,), "W_dec": (F, 2, d), "b_dec": (2, d),
    }  # fmt: skip
    f = (torch.einsum("bmd,mdf->bf", x, w["W_enc"]) + w["b_enc"]).relu()
    np.testing.assert_allclose(own.encode(x), f, rtol=1e-4, atol=1e-4)
    out = torch.einsum("bf,fmd->bmd", f, w["W_dec"]) + w["b_dec"]
    np.testing.assert_allclose(own(x), out, rtol=1e-4, atol=1e-3)
    assert json.loads((tmp_path / "b" / "cfg.json").read_text())["hook_point"] == "blocks.3.hook_resid_post"


def test_what_a_layout_can_not_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CrosscoderError, match="export it as dictionary_learning"):
        export_crosscoder(exact("batchtopk"), tmp_path, "ckkissane")
    for variant in ("base", "tuned"):
        with pytest.raises(CrosscoderError, match="read-out dictionary"):
            export_crosscoder(exact(variant), tmp_path)
    with pytest.raises(CrosscoderError, match="unknown layout"):
        export_crosscoder(exact(), tmp_path, "other")  # type: ignore[arg-type]
    with pytest.raises(CrosscoderError, match="with_normaliser"):
        export_crosscoder(Crosscoder(CrosscoderConfig(n_latents=F, variant="l1"), d), tmp_path)
    assert not any(tmp_path.iterdir())


# where files lie


@pytest.mark.parametrize(
    ("weights", "settings"),
    [
        ("blocks.3.hook_resid_post/cc_weights.pt", "blocks.3.hook_resid_post/cfg.json"),
        ("version_0/0.pt", "version_0/0_cfg.json"),
        ("0.pt", "0_cfg.json"),
        ("trainer_0/ae.pt", "trainer_0/config.json"),
        ("ae.pt", "config.json"),
        ("resid_post_layer_3/trainer_0/ae.pt", "resid_post_layer_3/trainer_0/config.json"),
        ("model.pt", "cfg.json"),
    ],
)
def test_what_training_tools_leave_is_found(tmp_path: Path, weights: str, settings: str) -> None:
    model = exact()
    file = tmp_path / weights
    if file.name == "ae.pt":
        file.parent.mkdir(parents=True, exist_ok=True)
        parts = {"encoder.weight": model.W_enc, "encoder.bias": model.b_enc, "decoder.weight": model.W_dec}
        torch.save(
            {"_orig_mod." + k: v.detach() for k, v in (parts | {"decoder.bias": model.b_dec}).items()}, file
        )
        told: dict[str, Any] = {
            "trainer": {"layer": 3, "lm_name": "org/m", "activation_dim": d},
            "buffer": {},
        }
    else:
        relu_file(file, model, "model_state_dict" if file.name == "model.pt" else None)
        told = {"hook_point": "blocks.4.hook_resid_pre", "model_name": "org/m"}
    (tmp_path / settings).write_text(json.dumps(told))
    for source in (tmp_path, file):
        found = read(source)
        assert torch.equal(found.tensors["W_dec"], model.W_dec) and found.file == file
        assert found.origin.layer == 3 and found.origin.models == ("org/m",)


def test_the_file_that_is_named_is_the_one_that_is_read(tmp_path: Path) -> None:
    for step in (500, 1000):
        model = exact()
        model.b_dec.fill_(step)
        export_crosscoder(model, tmp_path)
        (tmp_path / "model.safetensors").rename(tmp_path / f"step_{step}.safetensors")
    export_crosscoder(exact(), tmp_path)
    for step in (500, 1000):
        assert float(read(tmp_path / f"step_{step}.safetensors").tensors["b_dec"][0, 0]) == step
    assert float(read(tmp_path).tensors["b_dec"][0, 0]) == 0


@pytest.mark.parametrize("names", [("0.pt", "1.pt"), ("a/cc_weights.pt", "b/cc_weights.pt")])
def test_of_several_none_is_guessed(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        relu_file(tmp_path / name, exact())
    with pytest.raises(CrosscoderError, match=r"holds 2 files of weights .*: name the crosscoder's"):
        read(tmp_path)
    read(tmp_path / names[1])


def test_own_weights_without_their_settings_are_not_taken_for_anothers(tmp_path: Path) -> None:
    exact("batchtopk").save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CrosscoderError, match=r"without its config\.json"):
        read(tmp_path)


def test_hub_ids_are_read_as_folders_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    relu_file(tmp_path / "blocks.14.hook_resid_pre" / "cc_weights.pt", exact())
    asked: list[tuple[str, list[str]]] = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert read("someone/crosscoder-diff").origin.layer == 13
    assert "cc_weights.pt" in asked[0][1] and "*/cc_weights.pt" in asked[1][1]
    assert read("someone/crosscoder-diff/blocks.14.hook_resid_pre").origin.layer == 13
    assert all(pattern.startswith("blocks.14.hook_resid_pre/") for pattern in asked[2][1])
    with pytest.raises(CrosscoderError, match="has no folder other"):
        read("someone/crosscoder-diff/other")


# damage


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"])
def test_a_number_that_is_none_is_refused_by_its_tensor(tmp_path: Path, name: str, bad: float) -> None:
    dictionary_learning(tmp_path, exact())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name].view(-1)[3] = bad
    save_file(tensors, tmp_path / "model.safetensors")
    ours = {
        "encoder.weight": "W_enc",
        "encoder.bias": "b_enc",
        "decoder.weight": "W_dec",
        "decoder.bias": "b_dec",
    }
    with pytest.raises(CrosscoderError, match=f"NaN or infinity in {ours[name]}"):
        Crosscoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["W_enc", "W_dec", "b_enc", "b_dec", "mean", "scale", "threshold"])
def test_own_files_are_held_to_the_same(tmp_path: Path, name: str) -> None:
    exact("batchtopk").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name].view(-1)[0] = float("inf")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CrosscoderError, match=r"infinity"):
        Crosscoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["encoder.weight", "decoder.weight"])
def test_transposed_weights_are_called_that(tmp_path: Path, name: str) -> None:
    dictionary_learning(tmp_path, exact())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[name] = tensors[name].mT.contiguous()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CrosscoderError, match="is transposed"):
        Crosscoder.from_pretrained(tmp_path)


class _Code:
    def __reduce__(self) -> Any:
        return (print, ("RUN",))


@pytest.mark.parametrize("name", ["cc_weights.pt", "ae.pt", "0.pt"])
def test_code_in_a_file_of_weights_is_not_run(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for save in (torch.save, lambda found, file: file.write_bytes(pickle.dumps(found))):
        save({"W_enc": _Code()}, tmp_path / name)
        with pytest.raises(CrosscoderError, match="would run code"):
            read(tmp_path)
    assert "RUN" not in capsys.readouterr().out


@given(
    st.binary(max_size=200), st.sampled_from(["model.safetensors", "cc_weights.pt"]), st.binary(max_size=60)
)
def test_any_bytes_are_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, weights: bytes, name: str, settings: bytes
) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / name).write_bytes(weights)
    (folder / "config.json").write_bytes(settings)
    with pytest.raises(CrosscoderError) as found:
        read(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"1," * 50_000 + b'1],"data_offsets":[0,4]}}',
        b"[" * 100_000,
    ],
)
def test_bombs_of_safetensors_are_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(CrosscoderError) as found:
        read(tmp_path)
    assert "\n" not in str(found.value)


# where it belongs


@pytest.mark.parametrize(
    ("settings", "folder", "origin"),
    [
        ({"hook_point": "blocks.2.hook_resid_pre"}, "", Origin("blocks.2.hook_resid_pre", 1)),
        ({"hook_name": "blocks.2.hook_resid_post"}, "", Origin("blocks.2.hook_resid_post", 2)),
        ({"hook_point": "blocks.0.hook_resid_pre"}, "", Origin("blocks.0.hook_resid_pre", -1)),
        ({"hook_name": "blocks.2.hook_mlp_out"}, "", Origin("blocks.2.hook_mlp_out", 2, "mlp_out")),
        ({"layer": 13, "lm_name": "org/m"}, "", Origin("layer 13", 13, None, ("org/m",))),
        ({"hook_layer": 2, "site": "resid_pre"}, "", Origin("layer 2, resid_pre", 1)),
        ({"trainer": {"layer": 5, "submodule_name": "resid_post_layer_5"}}, "", Origin("layer 5", 5)),
        ({"submodule": "model.layers.7"}, "", Origin("model.layers.7", 7)),
        ({}, "blocks.14.hook_resid_pre", Origin("blocks.14.hook_resid_pre", 13)),
        ({}, "mine", Origin()),
        ({"layer": "five"}, "", Origin()),
        ({"layer": True}, "", Origin()),
    ],
)
def test_where_a_crosscoder_belongs_is_read(settings: dict[str, Any], folder: str, origin: Origin) -> None:
    assert read_origin(settings, folder) == origin


def test_another_layer_or_site_is_refused_with_the_right_one() -> None:
    check_origin("x", Origin("layer 1", 1), 1)
    check_origin("x", Origin(), 7)
    check_origin("x", Origin(), "auto")
    with pytest.raises(CrosscoderError, match="after layer 1, and none is set: give --layer 1"):
        check_origin("x", Origin("layer 1", 1), "auto")
    for origin, told in (
        (Origin("blocks.2.hook_resid_pre", 1), r"stream after layer 1, not after layer 2: give --layer 1"),
        (Origin("blocks.0.hook_resid_pre", -1), "the embeddings"),
        (Origin("blocks.2.hook_mlp_out", 2, "mlp_out"), "between layers"),
    ):
        with pytest.raises(CrosscoderError, match=told):
            check_origin("x", origin, 2)


def test_other_models_are_told() -> None:
    assert foreign_models(Origin(models=("org/Model-2b",)), "/here/model-2b/", "other") is None
    assert foreign_models(Origin(), "a", "b") is None
    assert "trained on org/m, not on a and b" in str(foreign_models(Origin(models=("org/m",)), "a", "b"))
