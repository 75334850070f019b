"""Fails when a Python file is longer than a reader's patience.

Knows: the limits, and the tables that may exceed them.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

#: From here on a file should be split; it is named, and the check passes.
WARN_LINES: Final = 400
#: From here on the check fails.
FAIL_LINES: Final = 600
#: Files that may be longer, each with the reason: tables grow with what they list.
TABLES: Final[Mapping[str, str]] = {}


def findings(lines_of: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the sentences about long files, and about files that are too long.

    Args:
        lines_of: path from the root to its number of lines.
    """
    long, too_long = [], []
    for path, lines in sorted(lines_of.items()):
        if path in TABLES or lines < WARN_LINES:
            continue
        if lines < FAIL_LINES:
            long.append(f"{path}: {lines} lines; split it soon ({WARN_LINES} is long)")
        else:
            too_long.append(f"{path}: {lines} lines; split it (the limit is {FAIL_LINES})")
    too_long.extend(f"{path}: listed in TABLES but gone" for path in TABLES if path not in lines_of)
    return long, too_long


def python_files(root: Path) -> Iterator[Path]:
    """Yield the Python files of the project: all but those in hidden folders and `build`."""
    for folder in root.iterdir():
        if folder.is_dir() and not folder.name.startswith(".") and folder.name != "build":
            yield from folder.rglob("*.py")


def main() -> int:
    """Check the tree that this file lies in."""
    root = Path(__file__).resolve().parents[1]
    lines_of = {
        path.relative_to(root).as_posix(): len(path.read_bytes().splitlines()) for path in python_files(root)
    }
    long, too_long = findings(lines_of)
    for sentence in (*long, *too_long):
        print(sentence)
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
