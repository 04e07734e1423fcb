"""The layer profile against whole forward passes with hooks, and the layer that `auto` takes of known edits."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from harvest_settings import CONFIG
from patched_models import logp_by_hook, streams_by_hook
from tiny_models import VOCABULARY, changed_in_layer, tiny_llama, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from mneme.corpus import Corpus, Document
from mneme.harvest import ActivationCache, HarvestConfig, harvest
from mneme.harvest import kept_profile as kept
from mneme.harvest import layer_profile as profiles
from mneme.harvest.layer import choose_layer
from mneme.harvest.layer_choice import ENOUGH, auto_layer, restored_at
from mneme.harvest.plan import Plan, make_plan
from mneme.models import ModelPair, pair_models

LAYERS = 12


def changed_in(*layers: int, by: float = 0.4, count: int = LAYERS) -> ModelPair:
    """A pair whose MLPs of these layers differ."""
    base = tiny_llama(layers=count)
    tuned = base
    for layer in layers:
        tuned = changed_in_layer(tuned, layer, by)
    return pair_models(base, tuned, tiny_tokenizer())


def full_fine_tune() -> ModelPair:
    """Every parameter moved a little."""
    tuned = copy.deepcopy(tiny_llama(layers=LAYERS))
    for n, parameter in enumerate(tuned.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(n))
        parameter.data += 0.05 * noise
    return pair_models(tiny_llama(layers=LAYERS), tuned, tiny_tokenizer())


def adapter() -> ModelPair:
    """A rank-one update of every layer's queries and values, as LoRA merged."""
    tuned = copy.deepcopy(tiny_llama(layers=LAYERS))
    for n, layer in enumerate(tuned.model.layers):
        for weight in (layer.self_attn.q_proj.weight, layer.self_attn.v_proj.weight):
            parts = [
                torch.randn(size, generator=torch.Generator().manual_seed(n + size)) for size in weight.shape
            ]
            weight.data += 0.2 * torch.outer(*parts)
    return pair_models(tiny_llama(layers=LAYERS), tuned, tiny_tokenizer())


@pytest.fixture(scope="module")
def text() -> Corpus:
    """Forty documents of 9 to 47 bytes."""
    words = "a river bends where the old king walks and a cat sits on the far hill all day".split()  # noqa: SIM905
    return Corpus.of(
        (Document(" ".join(words[i % 7 :][: 3 + i % 9])) for i in range(40)),
        "forty texts",
    )


def plan_of(pair: ModelPair, corpus: Corpus) -> Plan:
    return make_plan(corpus, pair.tokenizer, replace(CONFIG, layer="auto"))


def by_hooks(pair: ModelPair, plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """(restored share, relative difference) of every layer, by whole forward passes of one text at a time."""
    base, tuned = pair.base._module, pair.tuned._module
    chosen = np.unique(np.linspace(0, len(plan.tokens) - 1, profiles.DOCUMENTS).round().astype(int))
    after, before = np.zeros(pair.n_layers), 0.0
    apart, size = np.zeros(pair.n_layers), np.zeros(pair.n_layers)
    for document in chosen:
        ids = [0, *plan.tokens[document][: profiles.LENGTH].tolist()]
        target = logp_by_hook(tuned, ids)[1:].double()

        def kl(one: torch.Tensor, target: torch.Tensor = target) -> float:
            one = one[1:].double()
            return float((one.exp() * (one - target)).sum())

        before += kl(logp_by_hook(base, ids))
        for layer in range(pair.n_layers):
            x, y = (streams_by_hook(model, ids, layer) for model in (base, tuned))
            after[layer] += kl(logp_by_hook(base, ids, y, layer))
            apart[layer] += float((y - x)[1:].square().sum())
            size[layer] += float(x[1:].square().sum())
    return 1 - after / before, np.sqrt(apart / size)


@pytest.mark.parametrize("make", [lambda: changed_in(2, 9), full_fine_tune, adapter])
def test_the_profile_is_what_whole_forward_passes_give(make: object, text: Corpus) -> None:
    pair = make()  # type: ignore[operator]
    plan = plan_of(pair, text)
    found = profiles.layer_profile(pair, plan)
    share, difference = by_hooks(pair, plan)
    known = found["restored"].notna().to_numpy()
    assert known.sum() >= 8  # the grid, and what is known without measuring
    np.testing.assert_allclose(found["restored"][known], share[known], atol=2e-4)
    np.testing.assert_allclose(found["difference"], difference, rtol=1e-4, atol=1e-7)
    measured = found[known & ~found["exact"]]
    has_ends = measured["restored_low"].notna()
    assert (measured["restored_low"] <= measured["restored"] + 1e-9)[has_ends].all()
    assert found["n_tokens"].iloc[0] <= 1024 and found["n_documents"].iloc[0] == profiles.DOCUMENTS


def test_before_the_first_change_nothing_is_restored_and_after_the_last_all(text: Corpus) -> None:
    pair = changed_in(3, 6)
    found = profiles.layer_profile(pair, plan_of(pair, text)).set_index("layer")
    assert (found.loc[:2, "restored"] == 0).all() and (found.loc[:2, "difference"] == 0).all()
    assert (found.loc[7:, "restored"] == 1).all() and found.loc[7:, "exact"].all()
    assert not found.loc[3:6, "exact"].any() and found.loc[6, "restored"] == pytest.approx(1, abs=1e-5)
    assert found["changed"].to_numpy().nonzero()[0].tolist() == [3, 6]


def test_a_changed_head_keeps_every_layer_from_restoring_all(text: Corpus) -> None:
    base = tiny_llama(layers=4)
    tuned = changed_in_layer(base, 1)
    tuned.lm_head.weight.data += 0.5 * torch.randn(
        tuned.lm_head.weight.shape, generator=torch.Generator().manual_seed(1)
    )
    pair = pair_models(base, tuned, tiny_tokenizer())
    plan = plan_of(pair, text)
    found = profiles.layer_profile(pair, plan)
    share, _ = by_hooks(pair, plan)
    assert not found["exact"][1:].any() and share.max() < 0.99
    np.testing.assert_allclose(found["restored"], share, atol=2e-4)


def test_a_model_that_can_not_start_midway_is_profiled_alike(text: Corpus) -> None:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=4, n_head=2, n_positions=64, initializer_range=0.3
    )
    base = GPT2LMHeadModel(config).requires_grad_(False).eval()
    tuned = copy.deepcopy(base)
    for layer in (1, 3):
        weight = tuned.transformer.h[layer].mlp.c_proj.weight
        weight.data += torch.randn(weight.shape, generator=torch.Generator().manual_seed(layer))
    pair = pair_models(base, tuned, tiny_tokenizer())
    plan = plan_of(pair, text)
    usual = profiles.layer_profile(pair, plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiles, "_starts_midway", lambda *_: False)
        whole = profiles.layer_profile(pair, plan)
    pd.testing.assert_frame_equal(usual, whole, rtol=1e-3, atol=1e-5)
    assert 0 < usual["restored"][1] < 1 - 1e-3 and usual["restored"][3] == pytest.approx(1, abs=1e-4)


MIDDLE = LAYERS // 2 - 1


@pytest.mark.parametrize(
    ("layers", "expected"),
    [((0,), MIDDLE), ((2, 3), MIDDLE), ((MIDDLE,), MIDDLE), ((8,), 8), ((10, 11), None), ((11,), 11)],
)
def test_auto_reads_from_the_middle_on_where_the_edit_has_arrived(
    layers: tuple[int, ...], expected: int | None, text: Corpus
) -> None:
    pair = changed_in(*layers)
    plan = plan_of(pair, text)
    chosen = choose_layer(HarvestConfig(), pair, profiles.layer_profile(pair, plan)).layer
    share, _ = by_hooks(pair, plan)
    if expected is not None:
        assert chosen == expected
    assert share[chosen] >= ENOUGH
    assert (share[MIDDLE:chosen] < ENOUGH).all()


@pytest.mark.parametrize("make", [full_fine_tune, adapter])
def test_auto_of_a_change_in_every_layer_is_the_earliest_that_holds_enough(
    make: object, text: Corpus
) -> None:
    pair = make()  # type: ignore[operator]
    plan = plan_of(pair, text)
    chosen, why = choose_layer(HarvestConfig(), pair, profiles.layer_profile(pair, plan))
    share, _ = by_hooks(pair, plan)
    if (share[MIDDLE:] >= ENOUGH).any():
        assert share[chosen] >= ENOUGH and share[MIDDLE:chosen].max(initial=0) < ENOUGH
    else:
        assert "holds most" in why and share[chosen] >= share[MIDDLE:].max() - 1e-3


def profile_of(restored: list[float], kl: float = 1.0) -> pd.DataFrame:
    return pd.DataFrame({"layer": range(len(restored)), "restored": restored, "kl": kl})


NONE = float("nan")


@pytest.mark.parametrize(
    ("restored", "layer", "why"),
    [
        ([0, 0.2, 0.95, 1.0, 1.0, 1.0], 2, "the middle layer"),
        ([0, 1.0, 1.0, 1.0, 1.0, 1.0], 2, "the middle layer"),  # not earlier, where the edit itself is
        ([0, 0.2, 0.5, NONE, 0.93, 0.99], 4, "from the middle on, the earliest"),
        ([0, 0.2, 0.5, 0.6, 0.7, 0.8], 5, "holds most (80%)"),
        ([NONE] * 6, 2, "differ too little"),
    ],
)
def test_the_rule(restored: list[float], layer: int, why: str) -> None:
    found = auto_layer(profile_of(restored), middle=2, first_changed=0)
    assert found.layer == layer and why in found.why
    assert auto_layer(None, 2, 0).layer == 2 and auto_layer(None, 2, 4).layer == 4


def test_a_layer_that_is_set_is_read_with_a_remark_where_it_is_poor(text: Corpus) -> None:
    pair = changed_in(2, 10)
    profile = profiles.layer_profile(pair, plan_of(pair, text))
    share = restored_at(profile, 6)
    assert share < ENOUGH
    poor = choose_layer(HarvestConfig(layer=6), pair, profile)
    assert poor.layer == 6 and f"only {share:.0%}" in poor.why and "layer 10 holds 90%" in poor.why
    assert choose_layer(HarvestConfig(layer=10), pair, profile) == (10, "set by harvest.layer")
    assert choose_layer(HarvestConfig(layer=6), pair, None).why == "set by harvest.layer"


def test_a_layer_between_two_that_were_measured_counts_as_the_poorer() -> None:
    profile = profile_of([0.1, NONE, 0.5, NONE])
    assert [restored_at(profile, layer) for layer in range(3)] == [0.1, 0.1, 0.5]
    assert np.isnan(restored_at(profile, 3))


def test_the_cache_keeps_the_profile_and_goes_on_with_the_same_layer(
    pair: ModelPair, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, layer="auto", max_tokens=200)
    first = harvest(pair, corpus, config, tmp_path)
    profile = first.layer_profile()
    assert profile is not None and len(profile) == 4 and first.layer == 2 and "earliest" in first.layer_why
    again = replace(config, store_dtype="bfloat16")  # another harvest of the same pair and text

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(kept, "layer_profile", never)
    assert harvest(pair, corpus, again, tmp_path).layer == 2
    told = ActivationCache(tmp_path).layer_profile()
    assert told is not None
    pd.testing.assert_frame_equal(told, profile, check_dtype=False)
    with pytest.raises(AssertionError, match="measured again"):  # of other text
        harvest(pair, corpus, replace(config, max_tokens=300), tmp_path)


def test_predictions_that_are_equal_tell_no_layer_apart(text: Corpus) -> None:
    pair = changed_in(4, by=1e-6)
    profile = profiles.layer_profile(pair, plan_of(pair, text))
    assert profile["restored"].isna().all() and choose_layer(HarvestConfig(), pair, profile).layer == MIDDLE
