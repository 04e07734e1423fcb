"""What a notebook or a debugger shows of the two classes people hold."""

from __future__ import annotations

import pytest

from mneme import Crosscoder, CrosscoderConfig, Run


def test_a_run_shows_where_it_is_even_where_there_is_none() -> None:
    assert repr(Run("runs/demo")) == "Run('runs/demo')"


@pytest.mark.parametrize(("variant", "rule"), [("batchtopk", "batchtopk, k=4"), ("l1", "l1")])
def test_a_crosscoder_shows_its_sizes_and_rule(variant: str, rule: str) -> None:
    crosscoder = Crosscoder(CrosscoderConfig(n_latents=10, k=4, variant=variant), 6)
    assert repr(crosscoder) == f"Crosscoder(width=6, latents=10, {rule}, cpu)"
