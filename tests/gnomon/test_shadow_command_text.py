"""What strangers write reaches no terminal as a command, and is not deceiving."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.shadow_command_text import plain, plain_json

_any_text = st.text(st.characters(), max_size=20)
_values = st.recursive(
    _any_text | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(_any_text, inner),
    max_leaves=5,
)


@given(_values, st.sampled_from([None, 2]))
def test_json_reads_back_as_the_same_value_and_holds_no_control_character(
    value: Any, indent: int | None
) -> None:
    text = plain_json(value, indent=indent)
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
    assert indent or "\n" not in text


@given(_any_text)
def test_text_holds_no_control_character(text: str) -> None:
    assert plain(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\tc\x7f", r"a\x0ab\x09c\x7f"),
        ("\u202etxt", r"\u202etxt"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("grün 灯 [red]", "grün 灯 [red]"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert plain(text) == shown
