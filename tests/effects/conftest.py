import pytest
from effects_world import TOML, World


@pytest.fixture
def taxonomy_file(tmp_path):
    file = tmp_path / "two.toml"
    file.write_text(TOML)
    return file


@pytest.fixture
def world(tmp_path):
    return World.make(tmp_path / "codes")
