"""The smallest and the largest value of every setting pass the checks of a run, or one line refuses them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mneme._util.errors import UserError
from mneme._util.progress import NULL_PROGRESS
from mneme.config import make_config
from mneme.config.run_config import SECTIONS
from mneme.run.context import RunContext
from mneme.run.pipeline import run_pipeline
from mneme.run.preflight import preflight
from mneme.store.run import Run


def bounds(cls: type, key: str) -> set[float]:
    """What a field's annotation says."""
    field = cls.__pydantic_fields__[key]  # type: ignore[attr-defined]
    parts: list[Any] = [*field.metadata]
    for part in getattr(field.annotation, "__args__", ()):  # Count | None
        parts += [meta for found in getattr(part, "__metadata__", ()) for meta in found.metadata]
    return {getattr(part, side) for part in parts for side in ("ge", "gt", "le", "lt") if hasattr(part, side)}


@pytest.fixture(scope="module")
def shared(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every context would load anew."""
    context = RunContext(make_config(settings), tmp_path_factory.mktemp("none") / "run", NULL_PROGRESS)
    return {name: getattr(context, name) for name in ("pair", "corpus", "encoder")}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_ends_of_every_setting_pass_the_checks_or_are_refused_in_one_line(
    section: str, settings: dict[str, Any], shared: dict[str, Any], tmp_path: Path
) -> None:
    for key in SECTIONS[section].__pydantic_fields__:  # type: ignore[attr-defined]
        for value in bounds(SECTIONS[section], key):
            try:
                config = make_config(settings, [f"{section}.{key}={value}"])
            except UserError:  # an open end
                continue
            context = RunContext(config, tmp_path / "run", NULL_PROGRESS)
            vars(context).update(shared)
            try:
                preflight(context)
            except UserError as error:
                assert "\n" not in str(error), (key, value)


def test_windows_of_one_token_make_a_run(settings: dict[str, Any], whole_run: Run, tmp_path: Path) -> None:
    shutil.copytree(whole_run.path, tmp_path / "run")
    run = run_pipeline(make_config(settings, ["interpret.window=1"]), tmp_path / "run", replace=True)
    assert run.finished("report")
    assert int(run.sql("SELECT max(len(tokens)) AS n FROM contexts")["n"].iloc[0]) == 1
