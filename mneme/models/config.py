"""Settings of the models."""

from __future__ import annotations

from pydantic import Field

from mneme._util.settings import section


@section("models")
class ModelsConfig:
    """How the two models are loaded."""

    trust_remote_code: bool = Field(
        default=False,
        description="run Python code that comes with a model; it can do anything you can, so read it first",
    )
