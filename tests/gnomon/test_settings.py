"""Where settings come from, which source wins, and what a wrong one is told."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gnomon.errors import ConfigurationError
from gnomon.settings import GnomonSettings, load_settings, settings_schema
from gnomon.settings_text import settings_text

ROOT = Path(__file__).parents[2]
LIMIT = "broker.limits.receive_maximum"
VARIABLE = "GNOMON_BROKER__LIMITS__RECEIVE_MAXIMUM"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GNOMON_")]:
        monkeypatch.delenv(name)


def write(folder: Path, text: str) -> Path:
    path = folder / "gnomon.toml"
    path.write_text(text)
    return path


def refusal(config: Path | None = None, overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, overrides)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert caught.value.exit_code == 2
    return sentence


def test_command_line_beats_environment_beats_file_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "[broker.limits]\nreceive_maximum = 7\nin_flight_maximum = 8\n")
    found = [
        load_settings().broker.limits.receive_maximum,
        load_settings(config).broker.limits.receive_maximum,
    ]
    monkeypatch.setenv(VARIABLE, "9")
    found.append(load_settings(config).broker.limits.receive_maximum)
    settings = load_settings(config, {"broker": {"limits": {"receive_maximum": 10}}})
    found.append(settings.broker.limits.receive_maximum)
    assert found == [1024, 7, 9, 10]
    assert settings.broker.limits.in_flight_maximum == 8


def test_the_environment_may_hold_lists_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_BROKER__LISTENERS", '["tcp://127.0.0.1:0"]')
    assert [item.url for item in load_settings().broker.listeners] == ["tcp://127.0.0.1:0"]


def test_names_that_platforms_set_for_a_service_called_gnomon_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GNOMON_PORT", "tcp://10.0.0.1:8883")
    monkeypatch.setenv("GNOMON_PORT_8883_TCP_ADDR", "10.0.0.1")
    assert load_settings() == GnomonSettings()


def test_construction_alone_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "9")
    assert GnomonSettings().broker.limits.receive_maximum == 1024


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("brokr = 1", "brokr: unknown key; did you mean broker?"),
        ("[broker]\nlistners = []", "broker.listners: unknown key; did you mean listeners?"),
        ("[broker.limits]\nrecieve_maximum = 1", "did you mean receive_maximum?"),
        (
            '[[broker.listeners]]\nurl = "tcp://a:1"\nnam = "x"',
            "broker.listeners[0].nam: unknown key; did you mean name?",
        ),
        ("[log]\nzzz = 1", "log.zzz: unknown key; known are level, format"),
        (
            "[broker.limits]\nreceive_maximum = 70000",
            f"{LIMIT}: should be less than or equal to 65535, not 70000",
        ),
        ('[broker.limits]\nreceive_maximum = "x"', f"{LIMIT}: should be a valid integer"),
        ('[broker]\nlisteners = ["tcp://a"]', "broker.listeners[0].url: 'tcp://a' names no port"),
        (
            '[broker]\nlisteners = ["mqtt://a:1"]',
            "broker.listeners[0].url: 'mqtt://a:1' is not a listener URL; use tcp://HOST:PORT",
        ),
        ('[broker]\nlisteners = "tcp://a:1"', "broker.listeners: should be a list"),
        ("[broker]\nlisteners = []", "broker.listeners: should have at least one entry"),
        ("[broker]\nlisteners = [3]", "broker.listeners[0]: should be a table of keys, not 3"),
        ("[broker]\nrules_file = 3", "broker.rules_file: should be the path of a file, in quotes, not 3"),
        ("broker = 1", "broker: should be a table of keys, not 1"),
        ('loop = "fast"', "loop: should be 'auto', 'uvloop' or 'asyncio', not 'fast'"),
        ("[shadow]\ndept_maximum = 1", "shadow.dept_maximum: unknown key; did you mean depth_maximum?"),
        ("a = 1\nb =\n", "not valid TOML: Invalid value (at line 2"),
        ("a = 1\na = 2\n", "not valid TOML: Cannot overwrite a value (at line 2"),
        ("a = " + "[" * 100_000, "not valid TOML: nested too deeply"),
        ("#" * 1_048_577, "larger than 1048576 bytes"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence_with_file_and_key(tmp_path: Path, text: str, told: str) -> None:
    config = write(tmp_path, text)
    sentence = refusal(config)
    assert sentence.startswith(f"{config}: ")
    assert told in sentence


def test_a_long_value_is_not_echoed_whole(tmp_path: Path) -> None:
    assert len(refusal(write(tmp_path, f'loop = "{"x" * 5000}"'))) < 250 + len(str(tmp_path))


def test_a_wrong_key_of_the_file_is_told_even_where_the_command_line_overrides_it(tmp_path: Path) -> None:
    config = write(tmp_path, "broker = 1")
    assert refusal(config, {"broker": {"allow_anonymous": True}}).startswith(f"{config}: broker: ")


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str) -> None:
    assert "cannot be read" in refusal(tmp_path / name)


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_bytes(b"\xff\xfe\x00")
    assert refusal(config).startswith(f"{config}: not valid TOML: ")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (VARIABLE, "0", f"environment: {LIMIT}: should be greater than or equal to 1, not '0'"),
        (
            "GNOMON_BROKER__LIMTS__RECEIVE_MAXIMUM",
            "1",
            "environment: broker.limts: unknown key; did you mean limits?",
        ),
        (
            "GNOMON_BRKER__ALLOW_ANONYMOUS",
            "1",
            "GNOMON_BRKER__ALLOW_ANONYMOUS names no section of the settings",
        ),
        ("GNOMON_BROKER__LISTENERS", "[", "environment: "),
        ("GNOMON_LOOP", "fast", "environment: loop: should be 'auto'"),
    ],
)
def test_a_wrong_variable_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert told in refusal()


def test_a_wrong_option_is_blamed_on_the_command_line() -> None:
    sentence = refusal(overrides={"broker": {"listeners": ["tcp://a:1?secret=1"]}})
    assert sentence.startswith("command line: broker.listeners[0]: unknown key 'secret'")


def test_settings_written_as_text_read_back_the_same(tmp_path: Path) -> None:
    settings = load_settings(
        overrides={
            "data": tmp_path / 'a "quoted" \\ path \x7f\n',
            "broker": {
                "listeners": ["tcp://[::1]:0", "mtls://h:1?cert=c&key=k&ca=a"],
                "rules_file": "r.toml",
            },
        }
    )
    assert load_settings(write(tmp_path, settings_text(settings))) == settings


def test_the_default_file_says_the_defaults_and_names_every_key() -> None:
    text = (ROOT / "config" / "default.toml").read_text()
    assert text == settings_text(GnomonSettings()), "run: gnomon config show > config/default.toml"
    assert GnomonSettings(**tomllib.loads(text)) == GnomonSettings()


def test_every_setting_has_a_meaning() -> None:
    models = {"GnomonSettings": settings_schema(), **settings_schema()["$defs"]}
    silent = [
        f"{model}.{name}"
        for model, schema in models.items()
        for name, key in schema["properties"].items()
        if len(key.get("description", "")) < 15
    ]
    assert silent == []


def test_the_schema_file_is_current() -> None:
    text = (ROOT / "config" / "settings.schema.json").read_text()
    assert json.loads(text) == settings_schema(), "run: gnomon config schema > config/settings.schema.json"


@pytest.mark.parametrize("name", ["default", "dev", "production"])
def test_every_file_that_we_ship_can_be_used(name: str) -> None:
    assert load_settings(ROOT / "config" / f"{name}.toml").broker.listeners


def test_the_production_file_lets_in_nobody_without_a_certificate() -> None:
    settings = load_settings(ROOT / "config" / "production.toml").broker
    assert not settings.allow_anonymous
    assert {item.scheme for item in settings.listeners} == {"mtls"}
    assert all(item.certificate for item in settings.listeners)
