"""What one answer to an operator holds.

Knows: how large an answer may become.
Does not know: what it tells.
Spec: none.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

#: JSON of the items of one answer, in characters; names, filters and documents may be long.
_ANSWER_MAXIMUM: Final = 256 * 1024


def fitting(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first items that one answer holds, at least one of them."""
    fitting: list[dict[str, Any]] = []
    room = _ANSWER_MAXIMUM
    for item in items:
        room -= len(json.dumps(item, ensure_ascii=False))
        if room < 0 and fitting:
            break
        fitting.append(item)
    return fitting
