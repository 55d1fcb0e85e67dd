"""Settings: one frozen value, put together from a file, the environment and flags.

    a TOML file  <  the environment (ATOLL_PORT)  <  flags (--port, or --set port=...)

A name that is no setting is an error, wherever it comes from. This is the only module that reads
the environment.
"""

import difflib
import os
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from atoll.config.settings import FILE_NAME, LIMITS, PRESET_SETTING, Config, Setting
from atoll.core.errors import ConfigError
from atoll.core.limits import FACES, PRESETS, Limits

ENVIRONMENT_PREFIX: Final = "ATOLL_"
LIMITS_PREFIX: Final = "limits."
PRESET: Final = "limits.preset"
PRESET_DEFAULT: Final = "today"
NONE: Final = "none"
FILE_BYTES_MAX: Final = 2**20

FROM_DEFAULT: Final = "default"
FROM_FLAG: Final = "command line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings, and where each came from."""

    config: Config
    preset: str
    origins: Mapping[str, str]
    """By the names that `settings` gives, where a setting does not have its default."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield each setting's name, its value as text, and where it came from."""
        rest = FROM_DEFAULT if self.preset == PRESET_DEFAULT else f"preset {self.preset}"
        for name, setting in settings().items():
            value = self.value_of(name)
            shown = "(set)" if setting.secret and value is not None else in_words(value)
            otherwise = rest if self._differs_by_preset(name) else FROM_DEFAULT
            yield name, shown, self.origins.get(name, otherwise)

    def value_of(self, name: str) -> object:
        """Return the effective value of a setting."""
        if name == PRESET:
            return self.preset
        limit = name.removeprefix(LIMITS_PREFIX)
        return getattr(self.config if limit == name else self.config.limits, limit)

    def _differs_by_preset(self, name: str) -> bool:
        if name not in {LIMITS_PREFIX + limit for limit in LIMITS}:
            return False
        limit = name.removeprefix(LIMITS_PREFIX)
        chosen, default = PRESETS[self.preset], PRESETS[PRESET_DEFAULT]
        return bool(getattr(chosen, limit) != getattr(default, limit))


def settings() -> dict[str, Setting]:
    """Return every setting by its name, limits as `limits.<name>`, in the order of the docs."""
    named: dict[str, Setting] = {
        one.name: one.metadata["setting"] for one in fields(Config) if one.name != "limits"
    }
    named[PRESET] = PRESET_SETTING
    return named | {LIMITS_PREFIX + name: setting for name, setting in LIMITS.items()}


def environment_name(name: str) -> str:
    """Return what a setting is called in the environment."""
    return ENVIRONMENT_PREFIX + name.replace(".", "_").upper()


def default_of(name: str) -> object:
    """Return a setting's default; a limit's is that of the preset `today`."""
    return Loaded(config=Config(), preset=PRESET_DEFAULT, origins={}).value_of(name)


def in_words(value: object) -> str:
    """Write a value as the environment or a flag would give it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(str(one) for one in typing.cast("tuple[object, ...]", value))
    return str(value)


def load(
    flags: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Loaded:
    """Put the settings together.

    Args:
        flags: Settings given on the command line, by name, as text.
        environ: The environment; by default the process's own.

    Raises:
        ConfigError: A name is unknown, a value is out of its bounds, or the file cannot be read.
    """
    environ = os.environ if environ is None else environ  # noqa: TID251 - the one place
    given = _from_environment(environ) | _checked_names(flags or {}, FROM_FLAG)
    path = _file(given)
    in_file = {} if path is None else _from_file(path)
    # What another source overrides must be right all the same.
    parsed = _parsed(in_file) | _parsed(given)
    given = in_file | given
    preset = str(parsed.pop(PRESET, PRESET_DEFAULT))
    limits: dict[str, Any] = {
        name.removeprefix(LIMITS_PREFIX): parsed.pop(name)
        for name in tuple(parsed)
        if name.startswith(LIMITS_PREFIX)
    }
    _check_limits(limits, PRESETS[preset], given)
    config = replace(Config(), **parsed, limits=replace(PRESETS[preset], **limits))
    origins = {name: origin for name, (_, origin) in given.items()}
    return Loaded(config=config, preset=preset, origins=origins)


# Where settings come from.

_Given = dict[str, tuple[object, str]]
"""Settings by name: what was given, as it came, and where."""


def _from_environment(environ: Mapping[str, str]) -> _Given:
    names = {environment_name(name): name for name in settings()}
    given: _Given = {}
    for variable, text in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        if variable not in names:
            raise _unknown(variable, "environment", list(names))
        given[names[variable]] = (text, f"environment {variable}")
    return given


def _checked_names(flat: Mapping[str, object], origin: str) -> _Given:
    for name in flat:
        if name not in settings():
            raise _unknown(name, origin, list(settings()))
    return {name: (raw, origin) for name, raw in flat.items()}


def _unknown(name: str, origin: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(name, names, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    # What a mistyped name was set to may be a secret.
    return ConfigError(
        name=name,
        given="...",
        rule=f"there is no such setting.{meant} `atoll config` lists them all.",
        origin=origin,
    )


def _file(given: _Given) -> Path | None:
    """Return the file that holds settings, if any."""
    named = given.get("config", (NONE, ""))[0]
    if named != NONE:
        return Path(str(named))
    data = Path(str(given["data"][0])) if "data" in given else Config().data
    path = data / FILE_NAME
    return path if path.is_file() else None


def _from_file(path: Path) -> _Given:
    origin = str(path)
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX).decode()
        tables: dict[str, object] = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(
            name="config", given=str(path), rule=f"it cannot be read: {error}", origin="file"
        ) from error
    flat: dict[str, object] = {}
    for name, value in tables.items():
        if isinstance(value, dict):
            table = typing.cast("dict[str, object]", value)
            flat |= {f"{name}.{inner}": one for inner, one in table.items()}
        else:
            flat[name] = value
    if "config" in flat:
        raise ConfigError(
            name="config",
            given=str(flat["config"]),
            rule="a file cannot name another",
            origin=origin,
        )
    return _checked_names(flat, origin)


# What a setting may be.


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A setting that somebody gives a value to."""

    name: str
    setting: Setting
    origin: str

    def refuse(self, given: object, rule: str) -> ConfigError:
        """Make the error that says which rule the value broke."""
        shown = "..." if self.setting.secret else in_words(given)
        return ConfigError(name=self.name, given=shown, rule=rule, origin=self.origin)


def _kinds() -> dict[str, object]:
    """Return every setting's type by its name."""
    limits: dict[str, object] = typing.get_type_hints(Limits)
    kinds: dict[str, object] = typing.get_type_hints(Config)
    del kinds["limits"]
    return kinds | {PRESET: str} | {LIMITS_PREFIX + name: kind for name, kind in limits.items()}


def _parsed(given: _Given) -> dict[str, Any]:
    """Turn everything that one source gave into values."""
    kinds = _kinds()
    known = settings()
    return {
        name: _parse(raw, kinds[name], _Asked(name=name, setting=known[name], origin=origin))
        for name, (raw, origin) in given.items()
    }


def _parse(raw: object, kind: object, asked: _Asked) -> object:
    """Turn what was given into a value of `kind` within its bounds."""
    if isinstance(kind, types.UnionType):
        if raw == NONE:
            return None
        (kind,) = (one for one in kind.__args__ if one is not types.NoneType)
    if kind is bool:
        return _boolean(raw, asked)
    if kind is int or kind is float:
        return _within_bounds(raw, asked, whole=kind is int)
    if kind is Path:
        if not isinstance(raw, str) or not raw:
            raise asked.refuse(raw, "give a path")
        return Path(raw)
    if kind is str:
        return _text(raw, asked)
    return _faces(raw, asked)


def _boolean(raw: object, asked: _Asked) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in {"true", "false", "1", "0"}:
        return raw.lower() in {"true", "1"}
    raise asked.refuse(raw, "give true or false")


def _within_bounds(raw: object, asked: _Asked, *, whole: bool) -> float:
    number: float | None = None
    if isinstance(raw, str):
        try:
            number = int(raw) if whole else float(raw)
        except ValueError:
            number = None
    elif isinstance(raw, int | float) and not isinstance(raw, bool):
        number = raw if not whole or isinstance(raw, int) else None
    setting = asked.setting
    assert setting.low is not None
    assert setting.high is not None
    if number is None or not setting.low <= number <= setting.high:
        kind = "a whole number" if whole else "a number"
        unit = f" ({setting.unit})" if setting.unit else ""
        raise asked.refuse(raw, f"give {kind} from {setting.bounds}{unit}")
    return number


def _text(raw: object, asked: _Asked) -> str:
    choices = asked.setting.choices
    # A preset's name may look like a number: `preset = 2019` means what it says.
    if isinstance(raw, int) and str(raw) in choices:
        raw = str(raw)
    if not isinstance(raw, str) or not raw:
        raise asked.refuse(raw, "give text that is not empty")
    if choices and raw not in choices:
        raise asked.refuse(raw, f"give one of {', '.join(choices)}")
    return raw


def _faces(raw: object, asked: _Asked) -> tuple[str, ...]:
    names = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(names, list):
        raise asked.refuse(raw, "give a list")
    named = [str(name).strip() for name in typing.cast("list[object]", names)]
    faces = tuple(name for name in named if name)
    if not set(faces) <= set(FACES):
        raise asked.refuse(raw, f"give some of {', '.join(FACES)}")
    return faces


def _check_limits(limits: Mapping[str, object], preset: Limits, given: _Given) -> None:
    """Refuse limits that contradict each other."""
    least, most = (
        limits.get(name, getattr(preset, name)) for name in ("list_keys_min_rest", "list_keys_max")
    )
    assert isinstance(least, int)
    assert isinstance(most, int)
    if least > most:
        name = "list_keys_max" if "list_keys_max" in limits else "list_keys_min_rest"
        raw, origin = given[LIMITS_PREFIX + name]
        raise ConfigError(
            name=LIMITS_PREFIX + name,
            given=in_words(raw),
            rule=f"list_keys_min_rest ({least}) must not exceed list_keys_max ({most})",
            origin=origin,
        )
