"""The flat import names are ours and nobody else's (docs/adr/0001)."""

import importlib.metadata
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
NAMES = [name for name in _PROJECT["tool"]["setuptools"]["packages"]["find"]["include"] if "." not in name]

_FIND = """
import importlib.util, json
print(json.dumps({name: importlib.util.find_spec(name).origin for name in %r}))
"""


def test_each_name_resolves_to_this_project_from_anywhere(tmp_path: Path) -> None:
    # -I keeps the current folder and PYTHONPATH out: only what is installed counts.
    command = [sys.executable, "-I", "-c", _FIND % (NAMES,)]
    answer = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    installed = importlib.metadata.distribution("gnomon").locate_file("")
    for name, origin in json.loads(answer).items():
        homes = [ROOT / name / "__init__.py", Path(str(installed)) / name / "__init__.py"]
        assert Path(origin) in homes, f"import {name} finds somebody else's package"


@pytest.mark.parametrize("name", NAMES)
def test_no_other_distribution_claims_the_name(name: str) -> None:
    assert set(importlib.metadata.packages_distributions()[name]) == {"gnomon"}


@pytest.mark.parametrize("name", NAMES)
def test_no_name_hides_the_standard_library(name: str) -> None:
    assert name not in sys.stdlib_module_names


@pytest.mark.parametrize("name", NAMES)
def test_each_package_is_typed_and_says_what_it_knows(name: str) -> None:
    assert (ROOT / name / "py.typed").is_file()
    assert "Knows:" in (ROOT / name / "__init__.py").read_text("utf-8")


def test_every_folder_with_code_is_installed_or_known_as_a_tool() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders == set(NAMES)
