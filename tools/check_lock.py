"""Fails when requirements.lock does not hold what pyproject.toml asks for.

Knows: the two files; each direct dependency is pinned within its range, with hashes, and from no named index.
Does not know: whether a newer version exists (`make lock ARGS=--upgrade`).
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)")
_PLACE = re.compile(r"://|--(?:extra-)?index-url|--find-links|^-[fi] | @ ")


def direct_dependencies(project: Mapping[str, Any]) -> Iterator[Requirement]:
    """Yield what the project, its extras and its build ask for."""
    name = canonicalize_name(project["project"]["name"])
    texts = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        texts.extend(extra)
    for requirement in map(Requirement, texts):
        if canonicalize_name(requirement.name) != name:  # an extra that is made of others
            yield requirement


def findings(project: Mapping[str, Any], lock: str) -> list[str]:
    """Return one sentence for each way in which the lock is not the project's."""
    sentences = []
    pinned: dict[str, list[Version]] = {}
    for entry in lock.replace("\\\n", " ").splitlines():
        if entry.startswith("#") or not entry.strip():
            continue
        if _PLACE.search(entry):
            sentences.append(f"requirements.lock names a place to download from: {entry.split()[0]}")
        elif not (pin := _PIN.match(entry)):
            sentences.append(f"requirements.lock does not pin: {entry.split()[0]}")
        elif "--hash=sha256:" not in entry:
            sentences.append(f"requirements.lock has no hash for {pin['name']}")
        else:
            pinned.setdefault(canonicalize_name(pin["name"]), []).append(Version(pin["version"]))
    for requirement in direct_dependencies(project):
        versions = pinned.get(canonicalize_name(requirement.name))
        if versions is None:
            sentences.append(f"requirements.lock lacks {requirement.name}; run `make lock`")
        elif not all(requirement.specifier.contains(version, prereleases=True) for version in versions):
            sentences.append(
                f"requirements.lock pins {requirement.name} outside {requirement.specifier}; run `make lock`"
            )
    return sentences


def main() -> int:
    """Check the two files of the tree that this file lies in."""
    root = Path(__file__).resolve().parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    sentences = findings(project, (root / "requirements.lock").read_text("utf-8"))
    for sentence in sentences:
        print(sentence)
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
