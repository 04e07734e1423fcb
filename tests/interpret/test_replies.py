"""Which replies of a model are a label, and which are refused."""

from __future__ import annotations

import json

import pytest

from mneme._util.errors import LabelError
from mneme.interpret.explainers.prompt import read_explanation

GOOD = json.dumps({"label": "names of rivers", "sentence": "Rivers.", "role": "detects", "confidence": 0.9})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 3}, "no label"),
        ({"label": " \u0000 "}, "empty"),
        ({"label": "…"}, "empty"),
        ({"label": "w " * 13}, "12 words"),
        ({"label": "At most 12 words"}, "repeats the instructions"),
        ({"sentence": None}, "no sentence"),
        ({"sentence": ["x"]}, "no sentence"),
        ({"role": "boss"}, "what the latent does"),
        ({"role": None}, "what the latent does"),
    ],
)
def test_replies_that_are_no_label_are_refused(change, reason) -> None:
    with pytest.raises(LabelError, match=reason):
        read_explanation(json.dumps({**json.loads(GOOD), **change}))


@pytest.mark.parametrize("reply", ["", "{}", '["label"]', '{"label": {"label": {', "{" * 5000])
def test_replies_that_are_no_object_are_refused(reply) -> None:
    with pytest.raises(LabelError):
        read_explanation(reply)


def test_a_small_models_chatter_around_the_object_is_passed_over() -> None:
    found = {"label": "a\n\u202eb", "sentence": "It fires.", "role": "Says next", "confidence": "0.5"}
    answer = read_explanation(f"Sure {{here}}!\n```json\n{json.dumps(found)}\n``` {{more}}")
    assert answer == ("a b", "It fires.", "says", 0.5)
