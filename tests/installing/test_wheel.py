"""What a wheel holds, and what an editable install leaves in the environment."""

from __future__ import annotations

import shutil
import zipfile
from email.parser import Parser
from pathlib import Path

import hatchling.build
import pytest

import mneme

CHECKOUT = Path(mneme.__file__).resolve().parents[1]
PARTS = ("mneme", "dashboard", "data", ".streamlit")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files a build reads, with a secret and a leftover that git ignores."""
    folder = tmp_path_factory.mktemp("source")
    for part in PARTS:
        shutil.copytree(
            CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "secrets.toml")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".streamlit" / "secrets.toml").write_text('OPENAI_API_KEY = "sk-mine"')
    (folder / "dashboard" / "__pycache__").mkdir()
    (folder / "dashboard" / "__pycache__" / "app.pyc").touch()
    return folder


def build(source: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> zipfile.ZipFile:
    monkeypatch.chdir(source)
    (out := source / kind).mkdir()
    return zipfile.ZipFile(out / getattr(hatchling.build, f"build_{kind}")(str(out)))


def files_of(source: Path, part: str) -> set[str]:
    return {
        path.relative_to(source).as_posix()
        for path in (source / part).rglob("*")
        if path.is_file() and path.name != "secrets.toml" and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_one_package_with_everything_in_it(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build(source, monkeypatch, "wheel") as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        meta = wheel.read(next(name for name in wheel.namelist() if name.endswith("/METADATA"))).decode()
    bundled = {f"mneme/_bundle/{name}" for part in PARTS[1:] for name in files_of(source, part)}
    assert names == files_of(source, "mneme") | bundled
    assert {
        "mneme/py.typed",
        "mneme/_bundle/.streamlit/config.toml",
        "mneme/_bundle/dashboard/app.py",
    } < names
    headers = Parser().parsestr(meta)
    assert (headers["Name"], headers["Version"]) == ("mneme-diff", mneme.__version__)
    assert headers.get_all("License-File") == ["LICENSE", "data/LICENSE-Apache-2.0"]


def test_an_editable_install_copies_nothing_that_could_grow_stale(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with build(source, monkeypatch, "editable") as wheel:
        (path,) = (name for name in wheel.namelist() if ".dist-info/" not in name)
        assert path.endswith(".pth") and wheel.read(path).decode().strip() == str(source)
