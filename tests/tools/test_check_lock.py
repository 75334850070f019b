from typing import Any

import pytest

from tools.check_lock import findings

_PROJECT: dict[str, Any] = {
    "build-system": {"requires": ["setuptools>=77"]},
    "project": {
        "name": "gnomon",
        "dependencies": ["Typing.Extensions>=4 ; python_version < '3.12'"],
        "optional-dependencies": {"dev": ["gnomon[test]"], "test": ["pytest>=8"]},
    },
}
_HASH = " \\\n    --hash=sha256:" + 64 * "0" + "\n"
_SETUPTOOLS = "setuptools==80.0" + _HASH
_TYPING = "typing-extensions==4.1 ; python_version < '3.12'" + _HASH
_PYTEST = "pytest==8.3" + _HASH


def test_a_lock_with_every_dependency_in_range_is_accepted() -> None:
    assert findings(_PROJECT, "# by a tool\n" + _SETUPTOOLS + _TYPING + _PYTEST) == []


@pytest.mark.parametrize(
    ("lock", "part"),
    [
        (_SETUPTOOLS + _TYPING, "lacks pytest"),
        (_SETUPTOOLS + _TYPING + "pytest==7.4" + _HASH, "pins pytest outside >=8"),
        (_SETUPTOOLS + _TYPING + _PYTEST + "pytest==7.4 ; python_version < '3.12'" + _HASH, "outside >=8"),
        (_SETUPTOOLS + _TYPING + "pytest>=8.3" + _HASH, "does not pin: pytest>=8.3"),
        (_SETUPTOOLS + _TYPING + _PYTEST + "pluggy==1.5\n", "no hash for pluggy"),
        ("--index-url=somewhere\n" + _SETUPTOOLS + _TYPING + _PYTEST, "names a place"),
        (_SETUPTOOLS + _TYPING + _PYTEST + "pluggy @ git+ssh://host/pluggy\n", "names a place"),
    ],
)
def test_a_lock_that_is_not_the_projects_is_refused(lock: str, part: str) -> None:
    assert any(part in sentence for sentence in findings(_PROJECT, lock))
