"""What findings are called."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from mneme.findings.measures import areas_beyond
from mneme.findings.naming import named, with_areas


def labels(*rows: tuple[int, str, str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["latent", "label", "method", "kind"])
    return frame.assign(detail=[json.dumps({"kind": kind}) for kind in frame["kind"]]).drop(columns="kind")


def test_a_models_name_comes_before_the_rules() -> None:
    found = named(
        labels((0, "a", "offline", "words"), (1, "b", "offline", "words")), [labels((1, "c", "llm:m", ""))], 3
    )
    assert found["name"].tolist() == ["a", "c", "no text stands out"]
    assert found["name_method"].tolist() == ["offline", "llm:m", "offline"]


def test_areas_name_what_no_word_does() -> None:
    names = named(labels((0, "promotes: x", "offline", "promotes"), (1, "virus", "offline", "words")), [], 4)
    found = with_areas(names, [["virology", "anatomy", "law", "art"], ["law"], [], ["art"]])
    assert found["name"].tolist() == [
        "text on virology, anatomy, law",
        "virus",
        "no text stands out",
        "text on art",
    ]
    assert names["name"][0] == "promotes: x"


def test_areas_are_affected_at_the_lower_end() -> None:
    text = {
        "affected_share": np.array([0.9, 0.2, 0.6, 0.5]), "affected_share_low": np.array([0.8, 0.1, 0.3, np.nan]),
    }  # fmt: skip
    assert areas_beyond(text, ["law", "college_biology", "art"], 0.125) == ["college biology"]
