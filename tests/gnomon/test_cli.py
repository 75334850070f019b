"""The command line: output, JSON, exit codes."""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from gnomon.cli import cli, main
from gnomon.settings import GnomonSettings


def run(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        found += [(*path, name)]
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


@pytest.mark.parametrize("path", [(), *commands(cli)], ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    assert "Usage: gnomon" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["serve", "config", "pki", "demo"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([command, "--help"])
    assert f"gnomon {command}" in capsys.readouterr().out.partition("Example")[2]


@pytest.mark.parametrize(
    "arguments", [["serv"], ["serve", "--bogus"], ["pki", "device"], ["simulate", "devices", "--count", "0"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_config_check_says_ok_or_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text("")
    bad.write_text("loop = 1")
    assert run(["config", "check", "--config", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: ok\n"
    assert run(["config", "check", "--config", str(bad)]) == 2
    assert capsys.readouterr().err.startswith(f"gnomon: {bad}: loop: should be")
    assert run(["config", "check", "--config", str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True}
    assert run(["config", "check", "--config", str(bad), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith(f"{bad}: loop: ")


def test_config_check_looks_into_the_files_that_settings_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(
        '[broker]\nlisteners = ["mtls://127.0.0.1:0?cert=/absent/c&key=/absent/k&ca=/absent/a"]'
    )
    assert run(["config", "check", "--config", str(config)]) == 2
    assert "/absent/c: cannot be read" in capsys.readouterr().err


def test_config_show_prints_settings_that_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert GnomonSettings(**tomllib.loads(text)) == GnomonSettings()
    assert run(["config", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["broker"]["allow_anonymous"] is False


def test_config_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "schema"]) == 0
    assert "broker" in json.loads(capsys.readouterr().out)["properties"]


@pytest.mark.parametrize(
    ("arguments", "stem"),
    [(["init"], "server"), (["device", "lamp-1"], "devices/lamp-1"), (["operator", "ada"], "operators/ada")],
)
def test_pki_commands_print_the_files_that_they_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], stem: str
) -> None:
    assert run(["pki", *arguments, "--data", str(tmp_path), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)
    assert files["certificate"] == str(tmp_path / "pki" / f"{stem}.pem")
    assert all(Path(path).is_file() for path in files.values())
    assert run(["pki", *arguments, "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split()[1::2] == list(files.values())


def test_a_name_that_cannot_be_used_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "device", "a/b", "--data", str(tmp_path)]) == 2
    assert "use 1 to 64 characters" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_ends_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pki").write_text("")
    assert run(["pki", "init", "--data", str(tmp_path)]) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_simulate_without_a_server_ends_with_3_and_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["simulate", "devices", "--data", str(tmp_path)]) == 3
    assert f"gnomon serve --data {tmp_path}" in capsys.readouterr().err
