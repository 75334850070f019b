"""The documents name what exists, and what exists is documented."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECORDS = sorted(DOCS.glob("adr/[0-9]*.md"))
PAGES = sorted(DOCS.rglob("*.md"))
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
FRAGMENTS = sorted(path for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md")

NAV = set(re.findall(r"[\w./-]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
TARGETS = dict(re.findall(r"^([a-z]+):.*?(##.*)?$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
_FOLDERS = "attestation|benchmarks|broker|config|docs|fleet|gnomon|ota|shadow|simulators|storage|tests|tools"


def _id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_each_page_is_in_the_navigation(page: Path) -> None:
    assert page.relative_to(DOCS).as_posix() in NAV


@pytest.mark.parametrize("page", sorted(NAV))
def test_the_navigation_names_pages_that_exist(page: str) -> None:
    assert (DOCS / page).is_file()


@pytest.mark.parametrize("record", RECORDS, ids=_id)
def test_each_decision_has_its_number_its_state_and_a_place_in_the_index(record: Path) -> None:
    text = record.read_text("utf-8")
    assert text.startswith(f"# {record.name[:4]}: ")
    assert re.search(r"^State: (accepted|superseded by \d{4})$", text, re.MULTILINE)
    assert f"]({record.name})" in (DOCS / "adr/index.md").read_text("utf-8")


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("page", PROSE, ids=_id)
def test_a_page_names_make_targets_that_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE))
    assert named <= TARGETS.keys()


@pytest.mark.parametrize("target", [name for name, comment in TARGETS.items() if comment])
def test_each_make_target_is_explained_to_contributors(target: str) -> None:
    assert f"make {target}" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("page", PROSE, ids=_id)
def test_a_page_names_files_that_exist(page: Path) -> None:
    named = re.findall(rf"`((?:{_FOLDERS})/[\w./-]*)`", page.read_text("utf-8"))
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=_id)
def test_each_changelog_fragment_has_a_kind_and_a_text(fragment: Path) -> None:
    assert re.fullmatch(r"[\w-]+\.(added|changed|fixed|security|removed)\.md", fragment.name)
    assert fragment.read_text("utf-8").strip()
