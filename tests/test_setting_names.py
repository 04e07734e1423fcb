"""A setting may be given under its old name, old runs go on, and a message says where a wrong value came from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mneme._util.errors import ConfigError
from mneme._util.setting_names import RENAMED
from mneme._util.settings import from_mapping, stable_repr
from mneme.config import make_config, read_config
from mneme.config.run_config import SECTIONS
from mneme.crosscoder import CrosscoderConfig

OLD = {
    "base": "a",
    "tuned": "b",
    "corpus": ["x", "y"],
    "harvest": {"layer": 1, "max_tokens": 5000, "cache_gb": 2},
    "crosscoder": {
        "latents": 48,
        "k": 4,
        "expansion": 6,
        "aux_alpha": 0.125,
        "dead_after": 5000,
        "epochs": 4,
        "init": "random",  # as before there was a choice
    },
    "effects": {"forget": ["virology"], "min_effect": 0.05, "min_reach": 0.25},
}
NEW = {
    **OLD,
    "crosscoder": {
        "n_latents": 48,
        "k": 4,
        "expansion_factor": 6,
        "auxk_alpha": 0.125,
        "dead_feature_threshold": 5000,
        "epochs": 4,
        "init": "random",
    },
    "effects": {"intended": ["virology"], "affected_share_scale": 0.05, "min_affected_share": 0.25},
}
MODELS = {"base": "a", "tuned": "b"}
# As 0.1.0 hashed these settings: a run of then is finished still.
HASHES = {
    "harvest": "d17fa12035393ee3",
    "crosscoder": "ae6e4c7233137e52",
    "attribution": "5fdf7a8c0e08a2ec",
    "interpret": "a83240c333dd55e7",
    "labels": "e6a12c95ca98c75d",
    "effects": "2f9fe239c9531d4a",
    "corpus": "f6efe7a81d7dec2a",
}
CHECKPOINT = "2e59ce9761dab606"


def test_old_names_give_the_same_settings_and_new_ones_are_written(tmp_path: Path) -> None:
    made = make_config(OLD)
    assert made == make_config(NEW)
    (tmp_path / "run.toml").write_text(made.to_toml())
    written = read_config(tmp_path / "run.toml")
    assert make_config(written) == made
    for section, names in RENAMED.items():
        assert not set(names) & set(written[section]) and set(names.values()) <= set(written[section])


@pytest.mark.parametrize("values", [OLD, NEW])
def test_a_run_of_before_the_names_changed_has_the_fingerprints_it_had(values: dict) -> None:
    made = make_config(values, ["crosscoder.held_out_share=0"])
    assert {name: made.section_hash(name)[:16] for name in HASHES} == HASHES
    known_by = stable_repr(made.crosscoder, "crosscoder")
    assert hashlib.sha256(known_by.encode()).hexdigest()[:16] == CHECKPOINT


def test_a_file_that_mneme_wrote_before_a_setting_was_added_means_what_it_meant(tmp_path: Path) -> None:
    added = ("init =", "held_out_share =")
    lines = make_config(MODELS).to_toml().splitlines()
    file = tmp_path / "run.toml"
    file.write_text("\n".join(line for line in lines if not line.startswith(added)))
    of_then = make_config(read_config(file)).crosscoder
    assert of_then.held_out_share == 0 and make_config(MODELS).crosscoder.held_out_share > 0
    assert make_config(read_config(file), ["crosscoder.held_out_share=0.2"]).crosscoder.held_out_share == 0.2
    # settings that somebody wrote have the defaults of now
    file.write_text('base = "a"\ntuned = "b"\n[crosscoder]\nk = 8\n')
    assert make_config(read_config(file)).crosscoder.held_out_share > 0


def test_an_added_setting_at_another_value_makes_another_run() -> None:
    made = make_config(NEW)
    other = make_config(NEW, ["crosscoder.init=kmeans"])
    assert made.section_hash("crosscoder") != other.section_hash("crosscoder")
    assert stable_repr(made.crosscoder, "crosscoder") != stable_repr(other.crosscoder, "crosscoder")


@pytest.mark.parametrize(
    ("section", "old", "new"), [(s, old, new) for s, names in RENAMED.items() for old, new in names.items()]
)
def test_each_old_name_stands_for_a_setting(section: str, old: str, new: str) -> None:
    cls = SECTIONS[section]
    value = OLD[section][old]
    plain = from_mapping(cls, {new: value}, section)
    assert getattr(plain, new) == (tuple(value) if isinstance(value, list) else value) != getattr(cls(), new)
    assert cls(**{old: getattr(plain, new)}) == plain == from_mapping(cls, {old: value}, section)
    assert getattr(make_config(MODELS, [f"{section}.{old}={value}"]), section) == plain
    both = (
        rf"{section}\.({old}|{new}) and {section}\.({old}|{new}) are one setting: give {section}\.{new} only"
    )
    with pytest.raises(ConfigError, match=both):
        from_mapping(cls, {old: value, new: value}, section)
    with pytest.raises(ConfigError, match=both):
        make_config(MODELS, [f"{section}.{old}={value}", f"{section}.{new}={value}"])
    with pytest.raises(ValueError, match=old):
        cls(**{old: getattr(plain, new), new: getattr(plain, new)})


def test_an_override_goes_over_what_a_file_says_under_another_name() -> None:
    assert make_config(OLD, ["crosscoder.n_latents=64"]).crosscoder.n_latents == 64
    assert make_config(NEW, ["crosscoder.latents=64"]).crosscoder.n_latents == 64
    assert make_config(NEW, ["crosscoder.k=5", "crosscoder.k=6"]).crosscoder.k == 6
    assert (
        OLD["crosscoder"]["latents"] == NEW["crosscoder"]["n_latents"] == 48
    )  # what is given stays as it was


def test_an_override_reaches_labels_settings_where_runs_once_had_them() -> None:
    values = {**MODELS, "labels": {"llm": "on"}}
    assert make_config(values, ["interpret.llm=off"]).labels.llm == "off"


def test_sections_are_built_by_position_and_replaced_as_before() -> None:
    config = CrosscoderConfig(48, 6, 4)
    assert (config.n_latents, config.expansion_factor, config.k) == (48, 6, 4)
    assert replace(config, k=5) == CrosscoderConfig(48, 6, 5) != config
    assert len({config, CrosscoderConfig(n_latents=48, expansion_factor=6, k=4)}) == 1
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        replace(config, k=0)


def test_a_message_says_where_a_wrong_value_came_from() -> None:
    def refused(values: dict, overrides: tuple[str, ...] = (), **origins: object) -> str:
        with pytest.raises(ConfigError) as found:
            make_config({**MODELS, **values}, overrides, **origins)  # type: ignore[arg-type]
        return str(found.value)

    wrong = {"crosscoder": {"k": -3}}
    assert refused(wrong) == "crosscoder.k must be at least 1, not -3"
    assert refused(wrong, file="mine.toml") == "crosscoder.k must be at least 1, not -3 (in mine.toml)"
    assert refused({}, ("crosscoder.k=0",), file="mine.toml").endswith("not 0 (--set crosscoder.k=0)")
    assert refused({}, ("crosscoder.aux_alpha=nan",)) == (
        "crosscoder.auxk_alpha must be a finite number, not nan (--set crosscoder.aux_alpha=nan)"
    )
    assert refused({}, ("crosscoder.kk=1",)).endswith("did you mean 'k'? (--set crosscoder.kk=1)")
    assert refused({"harvest": {"layer": -1}}, origins={"harvest.layer": "--layer"}).endswith("(--layer)")
