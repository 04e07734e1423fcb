import pytest

from mneme._util.errors import ConfigError
from mneme.effects.categories import bundled_taxonomies, load_taxonomy


def test_bundled_taxonomies_hold_what_they_name():
    sizes = {name: len(load_taxonomy(name).categories) for name in bundled_taxonomies()}
    assert sizes["mmlu"] == 57 and sizes["mmlu_pro"] == 14
    assert sizes["default"] > sizes["mmlu"] + sizes["harm"]


def test_mmlu_has_its_groups_and_domains():
    categories = load_taxonomy("mmlu").categories
    assert {c.domain for c in categories} == {"STEM", "humanities", "social sciences", "other"}
    assert len({c.group for c in categories}) == 17


def test_default_takes_in_the_included_files_first():
    keys = load_taxonomy("default").keys
    mmlu = load_taxonomy("mmlu").keys
    assert keys[: len(mmlu)] == mmlu and "code" in keys and "harm_weapons" in keys


def test_own_file_includes_another_beside_it(taxonomy_file):
    more = taxonomy_file.parent / "more.toml"
    more.write_text('include = ["two.toml"]\n[tax]\ndescription = "income tax"\n')
    taxonomy = load_taxonomy(more)
    assert taxonomy.keys == ["cells", "money", "tax"]
    assert taxonomy.categories[2].name == "Tax" and taxonomy.categories[2].group == "other"


def test_unknown_name_gets_the_nearest_one_suggested():
    with pytest.raises(ConfigError, match="did you mean 'mmlu_pro'"):
        load_taxonomy("mmlu_prob")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\nname = 'A'\n[b]\ndescription = 'b'", "no description"),
        ("[a]\ndescriptio = 'A'\n", "did you mean 'description'"),
        ("[a]\ndescription = 'A'\nexamples = 'one'\n", "examples"),
        ("[a]\ndescription = 'A'\nname = 3\n", "text in quotes"),
        ("[a]\ndescription = 'A'\n", "at least two"),
        ("a = ", "not TOML"),
        ("titel = 'x'\n", "did you mean 'title'"),
        ("include = 'mmlu'", "must be a list"),
        ("include = ['mmlu']\n[virology]\ndescription = 'v'", "virology is there twice"),
        ("include = ['bad.toml']", "includes itself"),
    ],
)
def test_bad_files_are_refused_with_a_line_that_names_the_fix(tmp_path, text, message):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_taxonomy(file)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="name another file"):
        load_taxonomy(tmp_path / "none.toml")
