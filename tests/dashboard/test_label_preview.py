"""What labelling from the page is said to cost is what the run would be asked, no constant."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_pages import open_page

from mneme.interpret.label_config import LabelConfig
from mneme.run.label_price import price
from mneme.testing.synthetic import make_synthetic_run


def test_the_cost_of_labelling_is_of_this_runs_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    run = make_synthetic_run(tmp_path / "run", latents=80, contexts=4, window=12)
    (run.path / "run.toml").write_text('base = "a"\ntuned = "b"\n')
    app = open_page(monkeypatch, tmp_path, "runs", "run")
    for latents in (200, 3):
        app.number_input(key="label_latents").set_value(latents)
        app.number_input(key="label_price").set_value(10.0).run()
        found = price(run, LabelConfig(llm_max_latents=latents), None)
        assert 0 < found.calls <= latents
        (said,) = [m.value for m in app.markdown if "changed latents to ask" in m.value]
        assert said.startswith(f"{found.calls} changed latents") and f"{found.prompt_tokens:,} tokens" in said
        assert "at this price" in said
    assert app.button(key="label_now").disabled  # no server is named
