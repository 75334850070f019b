"""Text that a terminal shows and does not obey.

Knows: which characters a terminal could act on, or an eye could be deceived by.
Does not know: where text comes from, colours.
Spec: RFC 8259 §7; ECMA-48.
"""

import json
import re
from typing import Final

_BYTE: Final = 0x100
_BASIC_PLANE: Final = 0x1_0000
#: Everything that is not plainly ASCII, but line ends: only between the values of indented JSON.
_SUSPECT: Final = re.compile(r"[^ -~\n]")


def plain(text: str) -> str:
    r"""Return text with each control, format or lone surrogate character as `\x1b` or `\u202e`."""
    return "".join(character if character.isprintable() else _visible(character) for character in text)


def plain_json(value: object, *, indent: int | None = None) -> str:
    """Return JSON without control characters: it reads back as the same value."""
    separators = (",", ": ") if indent else (", ", ": ")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return _SUSPECT.sub(
        lambda found: found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1], text
    )


def _visible(character: str) -> str:
    code = ord(character)
    if code < _BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC_PLANE else f"\\U{code:08x}"
