"""How a label was made: prompt and raw reply on the Latent page, explainers compared on the Health page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from test_pages import open_page

from mneme.interpret.clients.response_cache import CachedResponse, ResponseCache
from mneme.store.run import Run


@pytest.fixture
def labelled(runs: Path, tmp_path: Path) -> tuple[Path, int]:
    """A folder of a run with one label by a model, and the latent that has it."""
    shutil.copytree(runs / "whole", tmp_path / "runs" / "whole")
    run = Run(tmp_path / "runs" / "whole")
    latent = run.rows("SELECT latent FROM labels ORDER BY latent LIMIT 1")[0][0]
    ResponseCache(run.path / "labels").keep(
        "a" * 64,
        CachedResponse(
            "llm:m",
            "Name it.",
            '{"examples": ["</script>one"]}',
            "<b>raw</b> \u202e reply",
            False,
            9,
            8,
            1.5,
            1,
        ),
    )
    rows = [
        (f"llm:{name}", json.dumps({"receipt": name})) for name in ("a" * 64, "b" * 64, "../../secret", 7)
    ]
    with run.stage_writer() as writer:
        writer.append(
            "labels",
            pd.DataFrame(rows, columns=["method", "detail"]).assign(latent=latent, label="x"),
        )
    return run.path.parent, latent


def test_prompt_and_raw_reply_are_shown_and_harmless(monkeypatch, labelled) -> None:
    folder, latent = labelled
    app = open_page(monkeypatch, folder, "latent", latent=str(latent))
    shown = [block.value for block in app.code]
    assert any("</script>one" in text for text in shown) and any("Name it." in text for text in shown)
    (reply,) = [text for text in shown if "<b>raw</b>" in text]
    assert "\u202e" not in reply
    captions = [caption.value for caption in app.caption]
    assert sum("no longer in the run's folder" in text for text in captions) == 1  # the name that is a name


def test_explainers_compared_are_on_the_health_page(monkeypatch, runs) -> None:
    app = open_page(monkeypatch, runs, "health")
    assert "Explainers" in [title.value for title in app.subheader]
    assert any("2 without a label by llm:made-up" in c.value.replace("\\", "") for c in app.caption)
    assert any("61" in c.value and "same category" in c.value for c in app.caption)
