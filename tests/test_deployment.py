"""The unit and the container file fit the program that they start."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import click

from gnomon.cli import cli
from gnomon.settings import load_settings

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "config/gnomon.service"
CONTAINER = (ROOT / "config/Containerfile").read_text("utf-8")


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # as documented
    parser.read(UNIT)
    return parser


def refused(arguments: list[str]) -> str | None:
    """What the command line says to these arguments of `serve`; nothing is started."""
    try:
        cli.commands["serve"].make_context("serve", list(arguments))
    except click.ClickException as error:
        return error.message
    return None


def test_the_unit_starts_what_the_command_line_knows() -> None:
    program, command, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    assert (Path(program).name, command) == ("gnomon", "serve")
    assert refused(arguments) is None


def test_an_option_that_the_command_line_does_not_know_would_be_found() -> None:
    assert refused(["--nonsense"]) is not None


def test_the_unit_waits_longer_than_the_server_drains() -> None:
    assert float(unit()["Service"]["TimeoutStopSec"]) > load_settings().broker.limits.drain_s


def test_the_unit_allows_as_many_files_as_there_may_be_connections() -> None:
    assert int(unit()["Service"]["LimitNOFILE"]) > load_settings().broker.limits.connections_maximum


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:  # Never required: not every machine has systemd, and the other tests hold anyway.
        return
    # The program is not installed where the unit says; any program will do.
    text = UNIT.read_text("utf-8").replace("/opt/gnomon/bin/gnomon", "/bin/true")
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    result = subprocess.run(
        [analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=30, check=False
    )
    assert UNIT.name not in result.stderr


def test_the_container_starts_what_the_command_line_knows() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", CONTAINER, re.MULTILINE)
    name, *arguments = json.loads(command)
    assert name == "serve"
    assert refused(arguments) is None


def test_the_container_does_not_run_as_root_and_leaves_the_tools_behind() -> None:
    final = CONTAINER.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*$", final, re.MULTILINE)
    assert CONTAINER.count("\nFROM ") == 2
    assert "pip install" not in final


def test_the_container_has_every_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        include = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {name for name in include if "." not in name}
    assert set(re.findall(r"^COPY (\w+) \1$", CONTAINER, re.MULTILINE)) == packages


def test_the_health_check_asks_where_the_container_listens() -> None:
    url = load_settings(ROOT / "config/container.toml").http.url
    assert f"{url}/ready" in CONTAINER
