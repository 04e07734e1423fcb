"""The dashboard, the data and the settings of Streamlit are found in a checkout and in a wheel's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

import mneme
from mneme._util.bundle import bundle_folder
from mneme._util.errors import MnemeError
from mneme.cli import server
from mneme.cli.server import settings_flags
from mneme.models.bundled import install_line

CHECKOUT = Path(mneme.__file__).resolve().parents[1]


def make_parts(folder: Path) -> Path:
    for part in ("dashboard", "data", ".streamlit"):
        (folder / part).mkdir(parents=True)
    return folder


def test_here_they_are_the_checkouts() -> None:
    assert bundle_folder() == CHECKOUT


def test_a_wheels_are_found_beside_packages_with_the_same_names(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "mneme"
    make_parts(package.parent)  # other distributions' data/ and dashboard/
    bundled = make_parts(package / "_bundle")
    assert bundle_folder(package) == bundled


def test_the_checkout_wins_over_a_copy_left_in_the_package(tmp_path: Path) -> None:
    make_parts(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    make_parts(tmp_path / "mneme" / "_bundle")
    assert bundle_folder(tmp_path / "mneme") == tmp_path


def test_an_incomplete_installation_is_told(tmp_path: Path) -> None:
    (tmp_path / "mneme" / "_bundle" / "data").mkdir(parents=True)
    with pytest.raises(MnemeError, match="pip install mneme-diff"):
        bundle_folder(tmp_path / "mneme")


def test_streamlits_settings_are_flags_that_the_callers_win(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[server]\nport = 1\n[browser]\ngatherUsageStats = false\n[theme.dark]\ntextColor = "#fff"\n'
    )
    assert settings_flags(file, {"server.port": 8600, "server.headless": True}) == [
        "--server.port=8600",
        "--browser.gatherUsageStats=false",
        "--server.headless=true",
    ]


def test_the_dashboard_sends_no_statistics_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    class Process:
        def __init__(self, command: list[str], **rest: object) -> None:
            called.append(command)

        def wait(self) -> int:
            return 0

    monkeypatch.setattr(server.subprocess, "Popen", Process)
    monkeypatch.setattr(server, "check_port", lambda port: None)
    server.serve_dashboard(tmp_path, port=8600)
    (command,) = called
    assert command[4] == str(CHECKOUT / "dashboard" / "app.py")
    told = {"--browser.gatherUsageStats=false", "--client.showErrorLinks=false"}
    assert told | {"--server.address=127.0.0.1", "--server.port=8600"} < set(command)


def test_make_setup_installs_the_models_by_the_same_line() -> None:
    packages = install_line().split("--no-deps ")[1]
    assert f"--no-deps {packages}\n" in (CHECKOUT / "Makefile").read_text()
