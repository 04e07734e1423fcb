"""Organisms: losses say what they should, only named tensors change, the same seed gives the same bits."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save, tiny_llama, tiny_tokenizer
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from mneme._util.errors import ConfigError, CorpusError
from mneme.models.load import load_model
from mneme.organisms import METHODS, make_organism
from mneme.organisms.ablate import AblateConfig
from mneme.organisms.finetune import FinetuneConfig
from mneme.organisms.npo import GradientAscentConfig, NPOConfig, npo_loss
from mneme.organisms.rmu import RMUConfig, rmu_loss
from mneme.organisms.texts import read_texts
from mneme.organisms.training import activations_after, batches, mlp_out_weights, text_nll

FORGET = "\n".join(f"{i} biology cells and genes " + "a b c d e f g h i j k l m n o p" for i in range(6))
RETAIN = "\n".join(f"{i} HISTORY OF WARS AND KINGS " + "Q R S T U V W X Y Z A B C D E F G" for i in range(6))
SHORT: dict[str, Any] = {"steps": 12, "batch": 2, "max_tokens": 24}
CONFIGS: dict[str, Any] = {
    "rmu": RMUConfig(layer=2, n_layers=2, learning_rate=2e-2, alpha=2.0, steering=1.0, **SHORT),
    "npo": NPOConfig(learning_rate=5e-3, beta=0.05, **SHORT),
    "gradient_ascent": GradientAscentConfig(learning_rate=5e-3, **SHORT),
    "ablate": AblateConfig(layer=2, texts=2, batch=2, max_tokens=24),
    "finetune": FinetuneConfig(parameters=r"layers\.[12]\.mlp\.down_proj", learning_rate=5e-3, **SHORT),
}


@pytest.fixture
def base(tmp_path: Path) -> str:
    return save(tiny_llama(), tmp_path / "base", tiny_tokenizer())


@pytest.fixture
def files(tmp_path: Path) -> dict[str, list[Path]]:
    (tmp_path / "forget.txt").write_text(FORGET)
    (tmp_path / "retain.txt").write_text(RETAIN)
    return {"forget": [tmp_path / "forget.txt"], "retain": [tmp_path / "retain.txt"]}


def make(method: str, base: str, files: dict[str, list[Path]], out: Path, **more: Any) -> Path:
    texts = {"learn": files["forget"]} if METHODS[method].needs == ("learn",) else files
    return make_organism(method, base, out=out, config=CONFIGS[method], **texts, **more)


def nll(model: PreTrainedModel, text: str) -> float:
    rows = text.splitlines()
    batch = next(batches(rows, tiny_tokenizer(), len(rows), 24, seed=0))
    total, n = text_nll(model, batch)
    return float(total.sum() / n.sum())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    method: str, base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    deltas = [
        load_file(make(method, base, files, tmp_path / str(i), seed=seed) / "delta.safetensors")
        for i, seed in enumerate((0, 0, 1))
    ]
    assert all(torch.equal(deltas[0][name], deltas[1][name]) for name in deltas[0])
    assert any(not torch.equal(deltas[0][name], deltas[2][name]) for name in deltas[0])


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"ablate"}))  # that one: test_ablate.py
def test_only_the_named_tensors_change_and_the_folder_loads_as_a_model(
    method: str, base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    folder = make(method, base, files, tmp_path / "out")
    tuned, before = load_model(str(folder)), load_model(base)
    changed = {
        name
        for (name, new), old in zip(tuned.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(new, old.to(new.dtype).bfloat16().to(new.dtype)) and not torch.equal(new, old)
    }
    expected = {
        "rmu": {1, 2},
        "npo": {0, 1, 2, 3},
        "gradient_ascent": {0, 1, 2, 3},
        "finetune": {1, 2},
    }[method]
    assert changed == {f"model.layers.{i}.mlp.down_proj.weight" for i in expected}


@pytest.mark.parametrize("method", ["npo", "gradient_ascent"])
def test_unlearning_raises_the_nll_of_forget_texts_far_more_than_of_retain_texts(
    method: str, base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    tuned, before = load_model(str(make(method, base, files, tmp_path / "out"))), load_model(base)
    forget = nll(tuned, FORGET) - nll(before, FORGET)
    retain = nll(tuned, RETAIN) - nll(before, RETAIN)
    assert forget > 0.1
    assert retain < 0.2 * forget


def test_finetuning_lowers_the_nll_of_what_is_learnt(
    base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    tuned = load_model(str(make("finetune", base, files, tmp_path / "out")))
    assert nll(tuned, FORGET) < nll(load_model(base), FORGET) - 0.1


def test_rmu_moves_forget_activations_to_the_direction_and_holds_retain_ones(
    base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    tuned, before = load_model(str(make("rmu", base, files, tmp_path / "out"))), load_model(base)
    u = torch.rand(16, generator=torch.Generator().manual_seed(0))
    u /= u.norm()
    moved = {}
    for name, text in (("forget", FORGET), ("retain", RETAIN)):
        batch = next(batches(text.splitlines(), tiny_tokenizer(), 6, 24, seed=0))
        old, new = (activations_after(model, 2, batch).float() for model in (before, tuned))
        moved[name] = float((new - old).norm(dim=-1).mean())
        if name == "forget":
            assert float((new @ u).mean()) > float((old @ u).mean()) + 0.2 * float(old.norm(dim=-1).mean())
    assert moved["retain"] < 0.5 * moved["forget"]


def test_the_rmu_loss_is_the_papers_equation() -> None:
    steered, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 1.0])
    held, before = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 3.0]])
    # forget: (0 + 1 + 4 + 9) / 4; retain: (0 + 4) / 2
    assert float(rmu_loss(steered, target, held, before, alpha=10.0)) == pytest.approx(3.5 + 10 * 2)


def test_the_npo_loss_is_the_papers_equation_and_tends_to_gradient_ascent() -> None:
    now, before = torch.tensor([5.0, 7.0]), torch.tensor([4.0, 9.0])  # log(p / p_ref) = -1, +2
    ratio, beta = before - now, 0.3
    expected = (2 / beta) * torch.log(1 + torch.exp(beta * ratio)).mean()
    assert torch.allclose(npo_loss(now, before, beta), expected)
    # beta -> 0: -(2/beta) log sigmoid(beta x) = (2 log 2)/beta - x, so its slope in now is -1
    now.requires_grad_()
    npo_loss(now, before, 1e-4).backward()
    assert now.grad is not None
    assert torch.allclose(now.grad, torch.tensor([-0.5, -0.5]), atol=1e-3)  # a mean over two texts


def test_summed_nll_matches_a_token_by_token_loop() -> None:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    texts = ["short", "a rather longer text"]
    batch = next(batches(texts, tokenizer, 2, 64, seed=0))
    total, n = text_nll(model, batch)
    for row in range(2):
        ids = batch.ids[row][batch.mask[row].bool()]
        log_p = model(ids[None]).logits[0].log_softmax(-1)
        expected = -sum(float(log_p[t, ids[t + 1]]) for t in range(len(ids) - 1))
        assert float(total[row]) == pytest.approx(expected, rel=1e-4)
        assert int(n[row]) == len(ids) - 1


def test_activations_are_the_layers_output_without_first_tokens_and_padding() -> None:
    model, tokenizer = tiny_llama(), tiny_tokenizer()
    batch = next(batches(["short", "a longer text"], tokenizer, 2, 64, seed=0))
    states = model(batch.ids, attention_mask=batch.mask, output_hidden_states=True).hidden_states
    expected = [states[2][row, t] for row in range(2) for t in range(1, int(batch.mask[row].sum()))]
    assert torch.allclose(activations_after(model, 1, batch), torch.stack(expected), atol=1e-5)


def test_batches_see_every_text_before_any_comes_again() -> None:
    texts = [f"text {i}" for i in range(7)]
    stream = batches(texts, tiny_tokenizer(bos=None), 2, 64, seed=3)
    tokenizer = tiny_tokenizer(bos=None)
    seen = [
        tokenizer.decode(ids[mask.bool()])
        for _ in range(4)
        for ids, mask in [next(stream)]
        for ids, mask in zip(ids, mask, strict=True)
    ]
    assert set(seen[:7]) == set(texts)


def test_the_projection_is_found_by_rule_in_other_families() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2))
    assert mlp_out_weights(model, [1]) == ["transformer.h.1.mlp.c_proj.weight"]


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="layers 0 to 3"):
        mlp_out_weights(tiny_llama(), [7])


def test_the_recipe_names_data_by_hash_and_not_by_path(
    base: str, files: dict[str, list[Path]], tmp_path: Path
) -> None:
    files = {**files, "forget": [Path(f"{files['forget'][0]}::even")]}
    folder = make("rmu", base, files, tmp_path / "out", seed=5)
    text = (folder / "recipe.toml").read_text()
    recipe = tomllib.loads(text)
    assert recipe["base"] == base
    assert recipe["method"] == "rmu"
    assert recipe["rmu"]["seed"] == 5
    assert recipe["rmu"]["steps"] == 12
    source = recipe["forget"][0]
    assert (source["file"], source["part"], source["texts"]) == ("forget.txt", "even", 3)
    assert len(source["sha256"]) == 64
    assert str(tmp_path) not in text.replace(base, "")


def test_halves_are_disjoint_and_make_the_whole(files: dict[str, list[Path]]) -> None:
    path = files["forget"][0]
    even, odd = read_texts(f"{path}::even")[0], read_texts(f"{path}::odd")[0]
    assert not set(even) & set(odd)
    assert set(even) | set(odd) == set(read_texts(path)[0])


@pytest.mark.parametrize(
    ("method", "texts", "message"),
    [
        ("rmo", {}, "did you mean 'rmu'"),
        ("rmu", {"forget": ["x.txt"]}, "needs texts to retain"),
        ("finetune", {"learn": ["x.txt"], "forget": ["y.txt"]}, "takes no texts to forget"),
    ],
)
def test_a_wrong_call_names_the_fix(tmp_path: Path, method: str, texts: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_organism(method, "nowhere", out=tmp_path / "out", **texts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["none.txt", "none.csv", "empty.txt", "forget.txt::third"])
def test_text_that_cannot_be_read_is_refused(
    base: str, files: dict[str, list[Path]], tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CorpusError):
        make_organism("rmu", base, out=tmp_path / "out", forget=[tmp_path / name], retain=files["retain"])
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_stops(base: str, files: dict[str, list[Path]], tmp_path: Path) -> None:
    broken = load_model(base)
    nn.init.constant_(broken.get_input_embeddings().weight, float("nan"))
    save(broken, tmp_path / "broken", tiny_tokenizer())
    with pytest.raises(ConfigError, match="not a number"):
        make("finetune", str(tmp_path / "broken"), files, tmp_path / "out")
