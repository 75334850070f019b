"""How shadows are drawn: colours where there is a terminal, and nothing that a stranger chose."""

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from gnomon.shadow_command_client import Happening
from gnomon.shadow_command_values import MISSING, Change
from gnomon.shadow_command_views import change_lines, document_table, happening_lines, history_table
from shadow import Reply

_text = st.text(max_size=8) | st.sampled_from(["\x1b[2J", "\x9b1m", "[red]x[/]", ":bomb:", "timestamp", "a"])
_values = st.recursive(
    _text | st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_sections = st.fixed_dictionaries({}, optional={"desired": _values, "reported": _values})


def drawn(*items: RenderableType, is_terminal: bool = False) -> str:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=is_terminal, color_system="standard" if is_terminal else None, width=200
    )
    for item in items:
        console.print(item)
    return file.getvalue()


def is_harmless(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@given(_sections, _sections, st.integers() | _values, st.booleans())
def test_any_document_is_drawn_without_harm(
    state: dict[str, Any], metadata: dict[str, Any], timestamp: Any, with_ages: bool
) -> None:
    document = {"state": state, "metadata": metadata, "version": 1, "timestamp": timestamp}
    assert is_harmless(drawn(document_table(document, with_ages=with_ages)))


@given(
    st.sampled_from(Reply),
    st.none()
    | st.dictionaries(
        st.sampled_from(["state", "previous", "current", "code", "message", "version"]), _values
    )
    | st.fixed_dictionaries({"previous": _values, "current": st.fixed_dictionaries({"state": _sections})}),
)
def test_any_message_is_drawn_without_harm(reply: Reply, body: dict[str, Any] | None) -> None:
    assert is_harmless(drawn(*happening_lines(Happening(reply, body))))


@given(_text, _text, _sections)
def test_any_journal_is_drawn_without_harm(identity: str, token: str, state: dict[str, Any]) -> None:
    entry = {
        "version": 1,
        "at": 0.0,
        "author": {"identity": identity, "client_id": None},
        "client_token": token,
        "operation": "update",
        "state": state,
    }
    assert is_harmless(drawn(history_table([entry])))


def test_differences_have_colours_on_a_terminal_only() -> None:
    lines = change_lines([Change(("a",), MISSING, 1), Change(("b",), 2, MISSING), Change(("c",), 3, 4)])
    assert drawn(*lines) == "  + a = 1\n  - b = 2\n  ~ c = 3 → 4\n"
    added, removed, changed = drawn(*lines, is_terminal=True).splitlines()
    assert added.startswith("\x1b[32m")
    assert removed.startswith("\x1b[31m")
    assert changed.startswith("\x1b[33m")


def test_what_a_device_lacks_is_marked_and_an_object_meets_an_empty_one() -> None:
    state = {"desired": {"a": {}, "b": {"c": 1}, "d": 1}, "reported": {"a": {"x": 1}, "b": 2, "d": 1.0}}
    rows = drawn(document_table({"state": state}, with_ages=False)).splitlines()[1:]
    assert {row.split()[0]: "≠" in row for row in rows} == {
        "a": False,
        "b.c": True,
        "d": False,
        "a.x": False,
        "b": False,
    }
