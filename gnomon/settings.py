"""All settings of the program, read once.

Knows: the sections, and which source wins: command line > environment > TOML file > default.
Does not know: what a section means to its room, the contents of files that settings name.
Spec: none.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from broker.foreign_settings import ForeignBusSettings
from broker.settings import BrokerSettings
from shadow.settings import ShadowSettings
from storage.settings import StorageSettings

from .errors import ConfigurationError
from .http_settings import HTTPSettings

ENVIRONMENT_PREFIX: Final = "GNOMON_"
_NESTED: Final = "__"
_FILE_SIZE_MAXIMUM: Final = 1024 * 1024
_SHOWN_MAXIMUM: Final = 60

#: Kinds of findings that pydantic tells in Python's words.
_WORDS: Final[Mapping[str, str]] = {
    "model_type": "should be a table of keys",
    "path_type": "should be the path of a file, in quotes",
    "too_short": "should have at least one entry",
    "tuple_type": "should be a list",
}

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
LoopName = Literal["auto", "uvloop", "asyncio"]


class LogSettings(BaseModel):
    """The `[log]` section."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    level: LogLevel = "info"
    """Least severe event that is written: debug, info, warning or error."""
    format: LogFormat = "auto"
    """console for people, json for machines; auto is console on a terminal and json elsewhere."""


class GnomonSettings(BaseSettings):
    """Every setting. `load_settings` builds it; construction alone reads no file and no environment."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter=_NESTED,
    )

    data: Path = Path("gnomon-data")
    """Data folder: state, development PKI, ready.json. Relative paths start at the working directory."""
    loop: LoopName = "auto"
    """Event loop: uvloop, asyncio, or auto for uvloop where it is installed."""
    log: LogSettings = LogSettings()
    """What is written to standard error."""
    http: HTTPSettings = HTTPSettings()
    """Metrics and health for machines that watch."""
    broker: BrokerSettings = Field(default_factory=BrokerSettings)
    """The MQTT broker."""
    foreign_broker: ForeignBusSettings = ForeignBusSettings()
    """The broker that `gnomon services` runs beside."""
    shadow: ShadowSettings = Field(default_factory=ShadowSettings)
    """The device shadows."""
    storage: StorageSettings = StorageSettings()
    """The database that keeps what a restart must not forget."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load_settings` merged, and nothing else."""
        return (init_settings,)


def load_settings(
    config: Path | None = None, overrides: Mapping[str, object] | None = None
) -> GnomonSettings:
    """Read and check all settings.

    Args:
        config: TOML file, or None.
        overrides: values of the command line in the shape of the file, or None.

    Raises:
        ConfigurationError: one sentence with source, key and what would be right.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("environment", _read_environment()),
        ("command line", overrides or {}),
    ]
    if config is not None:
        layers.insert(0, (str(config), _read_toml(config)))
    merged: dict[str, Any] = {}
    settings = GnomonSettings()
    for source, values in layers:  # One by one, so that a finding is blamed on the source that brought it.
        merged = _merge(merged, values)
        try:
            settings = GnomonSettings(**merged)
        except ValidationError as error:
            raise ConfigurationError(_sentence(source, error)) from None
    return settings


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema of the TOML file."""
    schema = GnomonSettings.model_json_schema()
    listeners = schema["$defs"]["BrokerSettings"]["properties"]["listeners"]
    listeners["items"] = {"anyOf": [{"type": "string"}, listeners["items"]]}  # a URL alone will do
    return schema


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_SIZE_MAXIMUM + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}; name a readable TOML file"
        ) from None
    if len(content) > _FILE_SIZE_MAXIMUM:
        raise ConfigurationError(
            f"{path}: larger than {_FILE_SIZE_MAXIMUM} bytes; name a TOML file of settings"
        )
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not valid TOML: nested too deeply") from None


def _read_environment() -> dict[str, Any]:
    """Read `GNOMON_SECTION__KEY` variables.

    A name without `__` that is no top-level key is somebody else's (container platforms set
    `GNOMON_PORT` for a service called gnomon); with `__` it can only be a setting or a typo.
    """
    sections = GnomonSettings.model_fields
    for name in os.environ:
        section, separator, _ = name.removeprefix(ENVIRONMENT_PREFIX).partition(_NESTED)
        if name.startswith(ENVIRONMENT_PREFIX) and separator and section.lower() not in sections:
            hint = _did_you_mean(section.lower(), list(sections))
            raise ConfigurationError(f"environment: {name} names no section of the settings; {hint}")
    try:
        return EnvSettingsSource(GnomonSettings)()
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}; lists and tables are written as JSON") from None


def _merge(base: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in above.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def _sentence(source: str, error: ValidationError) -> str:
    """Put the first finding into words: source, key, what would be right."""
    finding = error.errors(include_url=False)[0]
    location, kind = finding["loc"], finding["type"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
    text = _WORDS.get(kind) or finding["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if kind == "extra_forbidden":
        text = f"unknown key; {_did_you_mean(str(location[-1]), _fields_at(location[:-1]))}"
    elif kind != "value_error" and isinstance(shown := finding["input"], str | int | float):
        text = f"{text[0].lower()}{text[1:]}, not {_shorten(repr(shown))}"
    return f"{source}: {key}: {text}"


def _fields_at(location: Sequence[int | str]) -> list[str]:
    """Return the keys that the model has at a place."""
    model: Any = GnomonSettings
    for part in location:
        if isinstance(part, int):
            continue
        model = model.model_fields[part].annotation
        model = next((item for item in get_args(model) if hasattr(item, "model_fields")), model)
    return list(model.model_fields)


def _did_you_mean(word: str, known: list[str]) -> str:
    if close := difflib.get_close_matches(word, known, n=1):
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_MAXIMUM else f"{text[:_SHOWN_MAXIMUM]}..."
