"""The run's verdict: an all-clear is earned, a broken model is told first, and every reason is the right one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from mneme._util.vocabulary import (
    BROKEN,
    INTENDED_ONLY,
    NO_SIDE_EFFECT,
    RUN_VERDICTS,
    SIDE_EFFECTS,
    TOO_LITTLE,
)
from mneme.verdict.evidence import Evidence
from mneme.verdict.run_verdict import run_verdict

N = 10
CALM = (0.01, -0.005, 0.02)


def areas(verdicts: dict[int, str] | None = None, nll: dict[int, tuple] | None = None) -> pd.DataFrame:
    """Ten areas, unaffected unless `verdicts` says otherwise, with NLL intervals well within the margin."""
    verdict = [(verdicts or {}).get(i, "unaffected") for i in range(N)]
    changes = np.array([(nll or {}).get(i, CALM) for i in range(N)], dtype=float)
    return pd.DataFrame(
        {
            "category": [f"c{i}" for i in range(N)],
            "name": [f"Area {i}" for i in range(N)],
            "grp": "group",
            "verdict": verdict,
            "reason": [("interval too wide" if v == "not known" else None) for v in verdict],
            "shown_by": [("latents" if v in ("degraded", "improved") else None) for v in verdict],
            "intended": False,
            "effect": 0.1,
            "nll_change": changes[:, 0],
            "nll_low": changes[:, 1],
            "nll_high": changes[:, 2],
            "n_documents": 20.0,
            "change": np.nan,
            "unit": None,
            "measured": "not measured",
        }
    )


def power(at_margin: float = 0.95, latents: float = 1.0, nll: float = 1.0) -> pd.DataFrame:
    """latents, nll: times as much text that each channel needs; NaN, none of those tried."""
    return pd.DataFrame(
        [
            {"category": f"c{i}", "channel": channel, "at_margin": at_margin, "margin": 0.1, "n_cases": 50}
            for i in range(N)
            for channel in ("latents", "nll")
        ]
    ).assign(
        unit="x",
        minimum_detectable=0.1,
        reason=None,
        text_needed=lambda table: table["channel"].map({"latents": latents, "nll": nll}),
    )


def latents(amplified: int = 0) -> pd.DataFrame:
    verdict = ["amplified"] * amplified + ["unchanged"] * (200 - amplified)
    return pd.DataFrame({"verdict": verdict})


EARNED = Evidence(
    effects=areas(),
    latents=latents(),
    tokens=100_000,
    margin=0.05,
    nll=CALM,
    kl=0.005,
    kl_margin=0.02,
    power=power(),
    folder="runs/x",
)


def but(**changes) -> Evidence:
    return dataclasses.replace(EARNED, **changes)


def test_an_all_clear_can_be_earned() -> None:
    said = run_verdict(EARNED)
    assert said.verdict == NO_SIDE_EFFECT and said.reasons == ()
    assert said.sentence == (
        "No side effect found: all 10 areas unaffected; 0 of 200 live latents amplified, 0 suppressed, 0 redirected,"
        " 0 uncertain."
    )


def test_a_change_that_is_not_sparse_is_not_judged_by_latents() -> None:
    plain = power().replace({"channel": {"latents": "activations"}})
    known = {"explained": 0.03, "rank": 212.4}
    said = run_verdict(but(power=plain, **known))
    assert said.verdict == NO_SIDE_EFFECT
    assert said.sentence == (
        "No side effect found: all 10 areas unaffected; the dictionary explains 3% of the models' difference, which"
        " takes 212 directions, so the verdict rests on activations and predictions, not on latents (0 of 200 live"
        " latents amplified, 0 suppressed, 0 redirected, 0 uncertain)."
    )
    # what latents would have told earns nothing there
    blind = run_verdict(but(**known))
    assert blind.verdict == TOO_LITTLE and "rests on activations and predictions" in blind.sentence
    # nor is it asked where the change is sparse, or nothing differs
    for explained in (0.6, math.nan):
        assert "rests on" not in run_verdict(but(explained=explained)).sentence


@pytest.mark.parametrize(
    ("changes", "reason", "command"),
    [
        ({"power": None}, "what could have been found was not measured", "mneme power runs/x"),
        (
            {"power": power(0.5, latents=4.0)},
            "would be found (power 0.8) in 0 of 10 areas only",
            "--set harvest.max_tokens=400000",
        ),
        ({"failed": ("Dead latents",)}, "1 health check failed (Dead latents)", "mneme dashboard"),
        ({"layer_shows": False}, "the two streams are equal at the layer that was read", ""),
        ({"nll": (math.nan,) * 3}, "predictions were not measured", "harvest.behaviour_share"),
        ({"nll": (0.01, -0.03, 0.07)}, "the mean NLL change, +0.010 [-0.030, +0.070] nats", "--corpus"),
        (
            {"kl": 0.03},
            "predictions differ by more (KL 0.030 nats) than a tune on unrelated text",
            "--benign",
        ),
        (
            {
                "effects": areas(
                    dict.fromkeys(range(6), "not known"), dict.fromkeys(range(6), (0.0, -0.2, 0.2))
                )
            },
            "4 of 10 areas are decided (6 interval too wide)",
            "TEXT of 2,000,000 tokens or more",
        ),
    ],
)
def test_each_missing_condition_takes_the_all_clear_away(changes, reason, command) -> None:
    said = run_verdict(but(**changes))
    assert said.verdict == TOO_LITTLE
    assert [reason in each for each in said.reasons] == [True]
    assert command in said.command and bool(command) == bool(said.command)
    assert reason in said.sentence and said.command in said.sentence


def test_a_broken_model_is_told_before_any_latent() -> None:
    effects = areas(dict.fromkeys(range(N), "degraded"), dict.fromkeys(range(N), (5.0, 4.0, 6.0)))
    said = run_verdict(but(effects=effects, nll=(5.0, 4.5, 5.5), latents=latents(3)))
    assert said.verdict == BROKEN
    assert said.sentence.startswith(
        "NLL rose on 10 of 10 areas (+5.0 nats per token): the model is broken; 3 of"
    )
    # Areas with too little text for a verdict of their own do not hide it.
    few = areas(dict.fromkeys(range(N), "not known"), dict.fromkeys(range(N), (5.0, math.nan, math.nan)))
    assert run_verdict(but(effects=few, nll=(5.0, 4.5, 5.5))).verdict == BROKEN
    # Nor does a run without predictions of its own, where a benchmark was measured.
    measured = areas(dict.fromkeys(range(N), "not known")).assign(change=17.0, measured="worse", unit="nats")
    assert run_verdict(but(effects=measured, nll=(math.nan,) * 3)).verdict == BROKEN


def test_predictions_that_moved_on_all_text_alike_are_told() -> None:
    moved = areas(dict.fromkeys(range(N), "not known"), dict.fromkeys(range(N), (0.3, 0.2, 0.4)))
    much = but(effects=moved, nll=(0.3, 0.25, 0.35), common=0.3, kl=0.3, kl_margin=0.15)
    said = run_verdict(much)
    assert said.verdict == SIDE_EFFECTS
    assert said.sentence.startswith(
        "NLL rose on 10 of 10 areas alike (+0.30 nats per token), by more than a tune on unrelated text moves them"
        " (KL 0.30 nats, 0.15); 0 of 200"
    )
    # A benign tune does the same to text that the base wrote: no all-clear, and no alarm.
    benign = dataclasses.replace(much, kl=0.1)
    said = run_verdict(dataclasses.replace(benign, own_text=True))
    assert said.verdict == TOO_LITTLE
    assert said.reasons[0].startswith(
        "NLL rose on 10 of 10 areas alike (+0.30 nats per token), which text that the base wrote"
    )
    # no benchmark lowers it there, other text may
    assert said.command.endswith("--corpus TEXT --out runs/x-other, TEXT that the base did not write")
    said = run_verdict(benign)
    assert said.verdict == TOO_LITTLE and said.command == "mneme measure runs/x --benchmark FOLDER"
    assert said.reasons[0].endswith(
        "alike (+0.30 nats per token), by no more than a tune on unrelated text moves them (KL 0.10 nats, 0.15)"
    )


def test_a_measured_miss_is_a_side_effect_whatever_was_predicted() -> None:
    effects = areas()
    effects.loc[3, ["change", "unit", "measured"]] = [0.4, "nats", "worse"]
    said = run_verdict(but(effects=effects))
    assert said.verdict == SIDE_EFFECTS
    assert said.sentence.startswith("Measured worse without having been called: Area 3 (group)")


def test_activations_that_moved_alone_are_told() -> None:
    said = run_verdict(but(effects=areas({2: "changed inside"})))
    assert said.verdict == SIDE_EFFECTS
    assert said.sentence.startswith(
        "Activations changed inside Area 2 (group), predictions stayed within 0.05 nats"
    )


def test_what_the_tuning_was_meant_to_change_is_no_side_effect() -> None:
    effects = areas({0: "degraded"}, {0: (3.0, 2.0, 4.0)})
    effects.loc[0, "intended"] = True
    # the mean is over all text, the intended included: it moved, and the all-clear is of the rest
    said = run_verdict(but(effects=effects))
    assert said.verdict == INTENDED_ONLY
    assert said.sentence.startswith(
        "Intended: Area 0 (group) degraded. No side effect found: all 9 areas unaffected"
    )
    effects.loc[5, ["verdict", "nll_change"]] = ["improved", -0.3]
    said = run_verdict(but(effects=effects))
    assert said.verdict == SIDE_EFFECTS
    assert said.sentence.startswith(
        "Intended: Area 0 (group) degraded. Side effects: Area 5 (group) improved;"
    )


def test_latents_that_changed_beside_undecided_areas_are_told_with_the_right_reason() -> None:
    effects = areas(dict.fromkeys(range(N), "not known")).assign(reason="too little text")
    said = run_verdict(but(effects=effects, latents=latents(3)))
    assert said.verdict == TOO_LITTLE
    assert said.reasons[0] == "latents changed, but 0 of 10 areas are decided (10 too little text)"


def test_measuring_more_of_the_text_comes_before_more_text() -> None:
    undecided = areas(dict.fromkeys(range(6), "not known"), dict.fromkeys(range(6), (0.0, -0.07, 0.07)))
    said = run_verdict(but(effects=undecided, behaviour_share=0.3))
    assert said.command == "mneme run runs/x/run.toml --set harvest.behaviour_share=0.75 --out runs/x-more"


def test_the_command_gives_the_text_that_every_condition_asks_for_at_once() -> None:
    """Latents need four times the text; intervals twice what was measured, which four times the text has."""
    undecided = areas(dict.fromkeys(range(6), "not known"), dict.fromkeys(range(6), (0.0, -0.07, 0.07)))
    asked = but(effects=undecided, power=power(0.5, latents=4.0, nll=2.0), behaviour_share=0.3)
    assert run_verdict(asked).command == (
        "mneme run runs/x/run.toml --corpus TEXT --set harvest.max_tokens=400000 --out runs/x-more,"
        " TEXT of 400,000 tokens or more"
    )
    # six times what was measured: all of the text, and 1.08 times as much (0.3 x 6 x the spare fifth = 2.16 of half)
    asked = dataclasses.replace(asked, power=power(0.5, latents=2.0, nll=6.0))
    assert "max_tokens=220000 --set harvest.behaviour_share=1 " in run_verdict(asked).command


def test_no_command_where_no_amount_of_text_is_known_to_do() -> None:
    said = run_verdict(but(power=power(0.5, latents=math.nan)))
    assert said.reasons == (
        "a change of the margin's size would be found (power 0.8) in 0 of 10 areas only, with 8 times as much text too",
    )
    assert said.command == ""


def test_a_control_that_tried_no_more_text_is_made_again() -> None:
    said = run_verdict(but(power=power(0.5, latents=math.nan, nll=math.nan)))
    assert said.reasons == ("a change of the margin's size would be found (power 0.8) in 0 of 10 areas only",)
    assert said.command == "mneme power runs/x"


def test_a_mean_beyond_the_margin_is_for_a_benchmark_to_judge() -> None:
    said = run_verdict(but(nll=(0.06, 0.055, 0.065)))
    assert said.reasons == ("the mean NLL change, +0.060 [+0.055, +0.065] nats, is not within 0.05",)
    assert said.command == "mneme measure runs/x --benchmark FOLDER"


def test_every_verdict_is_a_word_of_the_vocabulary() -> None:
    for evidence in (EARNED, but(power=None), but(effects=areas({1: "degraded"}))):
        assert run_verdict(evidence).verdict in RUN_VERDICTS
