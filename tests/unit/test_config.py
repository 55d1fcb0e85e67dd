"""Settings: where they come from, which one counts, and how a wrong one is refused."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from atoll.config import (
    Config,
    default_of,
    environment_name,
    in_words,
    load,
    settings,
)
from atoll.config.loading import PRESET
from atoll.config.settings import LIMITS
from atoll.core.errors import ConfigError
from atoll.core.limits import PRESETS, Limits
from tests.tidy.sources import ROOT

SETTINGS_PAGE = ROOT / "docs" / "settings.md"
LIMITS_PAGE = ROOT / "docs" / "limits.md"

NUMBERS = [name for name, setting in settings().items() if setting.low is not None]


def data(folder: Path, text: str) -> dict[str, str]:
    """Write `atoll.toml` into a data folder, and return the environment that names the folder."""
    (folder / "atoll.toml").write_text(text)
    return {"ATOLL_DATA": str(folder)}


def test_the_defaults_are_the_fields() -> None:
    """With nothing given, settings are what the fields say, and each came from its default."""
    loaded = load(environ={})

    assert loaded.config == Config()
    assert loaded.config.limits == PRESETS["today"]
    assert {origin for _, _, origin in loaded.rows()} == {"default"}


def test_every_limit_can_be_set() -> None:
    """A limit that is added to the table gets a setting, or this fails."""
    assert list(LIMITS) == [field.name for field in fields(Limits)]


def test_flags_beat_the_environment_which_beats_the_file(tmp_path: Path) -> None:
    """Each source stands back behind the next, and the origin says which one counted."""
    environ = data(tmp_path, "port = 1001\nbacklog = 1002\nkeep_alive_s = 1003\n")
    environ |= {"ATOLL_PORT": "2001", "ATOLL_BACKLOG": "2002"}

    loaded = load({"port": "3001"}, environ)

    config = loaded.config
    assert (config.port, config.backlog, config.keep_alive_s) == (3001, 2002, 1003)
    origins = {name: origin for name, _, origin in loaded.rows()}
    assert origins["port"] == "command line"
    assert origins["backlog"] == "environment ATOLL_BACKLOG"
    assert origins["keep_alive_s"] == str(tmp_path / "atoll.toml")
    assert origins["host"] == "default"


def test_a_file_may_be_named(tmp_path: Path) -> None:
    """A file that is named is read instead of the one in the data folder."""
    environ = data(tmp_path, "port = 1001\n")
    named = tmp_path / "other.toml"
    named.write_text("port = 1002\n[limits]\nvalue_bytes_max = 7\n")

    config = load({"config": str(named)}, environ).config

    assert (config.port, config.limits.value_bytes_max) == (1002, 7)


def test_a_limit_is_set_by_itself_on_top_of_a_preset(tmp_path: Path) -> None:
    """The rest comes from the preset, whatever the order in which the two are given."""
    environ = data(tmp_path, '[limits]\nvalue_bytes_max = 5\npreset = "2019"\n')

    loaded = load({}, environ)

    limits = loaded.config.limits
    assert (limits.value_bytes_max, limits.namespaces_per_account_max) == (5, 20)
    origins = {name: origin for name, _, origin in loaded.rows()}
    assert origins["limits.value_bytes_max"] == str(tmp_path / "atoll.toml")
    assert origins["limits.namespaces_per_account_max"] == "preset 2019"
    assert origins["limits.key_bytes_max"] == "default"


def test_a_preset_may_be_written_as_a_number(tmp_path: Path) -> None:
    """`preset = 2019` means what it says."""
    assert load({}, data(tmp_path, "[limits]\npreset = 2019\n")).preset == "2019"


@pytest.mark.parametrize("name", settings())
def test_what_is_shown_can_be_given_back(name: str) -> None:
    """The text of every default, given in the environment, is read as the same value."""
    value = default_of(name)
    given = in_words(value)

    # An optional text whose default is none stays none.
    loaded = load({}, {environment_name(name): given})

    assert loaded.value_of(name) == value


@pytest.mark.parametrize("name", NUMBERS)
def test_bounds_hold_at_both_ends(name: str) -> None:
    """The bounds themselves are taken, unless another setting objects, and beyond is refused."""
    setting = settings()[name]
    assert setting.low is not None
    assert setting.high is not None
    for beyond in (setting.low - 1, setting.high + 1):
        with pytest.raises(ConfigError, match=re.escape(setting.bounds)) as caught:
            load({name: str(beyond)}, {})
        assert caught.value.name == name
        assert caught.value.given == str(beyond)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("port", "eighty"),
        ("port", "1.5"),
        ("port", "nan"),
        ("port", ""),
        ("sweep_interval_s", "nan"),
        ("sweep_interval_s", "inf"),
        ("allow_plaintext", "maybe"),
        ("data", ""),
        ("host", ""),
        ("log_level", "loud"),
        ("limits.preset", "tomorrow"),
        ("limits.rewrite_faces", "rest,moon"),
        ("limits.value_bytes_max", "none"),
    ],
)
def test_a_wrong_value_is_refused_with_name_value_and_rule(name: str, given: str) -> None:
    """The error names the setting, what was given, and where it was given."""
    with pytest.raises(ConfigError) as caught:
        load({}, {environment_name(name): given})

    error = caught.value
    assert (error.name, error.given) == (name, given)
    assert error.origin == f"environment {environment_name(name)}"
    assert name in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "port = true",
        'port = ["1"]',
        "port = 1.0",
        "data = 5",
        "access_log = 3",
        "host = 127",
        "[limits]\nrewrite_faces = 5",
        '[limits]\nrewrite_faces = ["rest", 7]',
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path: Path, text: str) -> None:
    """A file's own types count: a number in quotes is text, true is no number."""
    with pytest.raises(ConfigError):
        load({}, data(tmp_path, text))


@pytest.mark.parametrize(
    ("environ", "meant"),
    [({"ATOLL_PROT": "1"}, "ATOLL_PORT"), ({"ATOLL_LIMITS_PRESETS": "1"}, "ATOLL_LIMITS_PRESET")],
)
def test_an_unknown_name_is_refused_with_the_likely_one(
    environ: dict[str, str], meant: str
) -> None:
    """A mistyped name is no silent default, and what it was set to is not shown."""
    with pytest.raises(ConfigError, match=f"Did you mean {meant}?") as caught:
        load({}, environ)

    assert caught.value.given == "..."


def test_an_unknown_name_in_a_file_or_flag_is_refused(tmp_path: Path) -> None:
    """As in the environment."""
    with pytest.raises(ConfigError, match="no such setting"):
        load({}, data(tmp_path, "[limit]\nvalue_bytes_max = 5\n"))
    with pytest.raises(ConfigError, match="Did you mean port"):
        load({"prot": "1"}, {})


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    """What is no TOML is named with the reason, and so is a file that is not there."""
    with pytest.raises(ConfigError, match=r"atoll\.toml.*cannot be read"):
        load({}, data(tmp_path, "port = = 1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        load({"config": str(tmp_path / "missing.toml")}, {})
    with pytest.raises(ConfigError, match="cannot name another"):
        load({}, data(tmp_path, 'config = "x.toml"'))


def test_limits_that_contradict_each_other_are_refused() -> None:
    """A page may not have to be longer than it may be."""
    with pytest.raises(ConfigError, match="must not exceed") as caught:
        load({"limits.list_keys_max": "5"}, {})

    assert caught.value.name == "limits.list_keys_max"


def test_a_limit_may_be_lifted() -> None:
    """`none` is any number of namespaces, and no faces is no rule."""
    limits = load(
        {"limits.namespaces_per_account_max": "none", "limits.rewrite_faces": ""}, {}
    ).config.limits

    assert limits.namespaces_per_account_max is None
    assert limits.rewrite_faces == ()


def test_a_secret_is_never_shown() -> None:
    """Neither in the table of settings nor in an error."""
    loaded = load({}, {"ATOLL_TOKEN": "hunter2"})

    assert all("hunter2" not in shown for _, shown, _ in loaded.rows())
    assert loaded.config.token == "hunter2"  # noqa: S105 - of a test


def test_other_variables_are_left_alone() -> None:
    """Only names that begin with ours are looked at."""
    assert load({}, {"PORT": "1", "MY_ATOLL_PORT": "2"}).config == Config()


def row_of(name: str) -> str:
    """Write the row that the settings page must have."""
    setting = settings()[name]
    bounds = f"{setting.bounds} {setting.unit}".strip() or "—"
    return f"| `{name}` | `{in_words(default_of(name))}` | {bounds} | {setting.text} |"


def test_the_page_of_settings_is_complete_and_true() -> None:
    """docs/settings.md has one row for each setting, with default, bounds and sentence."""
    rows = [line for line in SETTINGS_PAGE.read_text().splitlines() if line.startswith("| `")]

    assert rows == [row_of(name) for name in settings()]
    assert PRESET in settings()
