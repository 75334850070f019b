"""JSON, paths, patches and differences of the shadow commands."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.shadow_command_values import (
    MISSING,
    Change,
    changes,
    format_path,
    is_equal,
    leaves,
    merge_patch,
    merged,
    nested,
    parse_assignment,
    parse_json,
    parse_object,
    parse_path,
)
from shadow import Document, ShadowKey, ShadowSettings, Update, decide

_scalars = st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text(max_size=3)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)
_objects = st.dictionaries(st.sampled_from("abcd"), _values, max_size=4)
_KEY = ShadowKey("lamp")


def updated(document: Document | None, state: dict[str, Any]) -> Document:
    change = decide(_KEY, document, Update(state), now=1, settings=ShadowSettings()).change
    assert isinstance(change, Document)
    return change


@given(_objects, _objects)
def test_the_service_makes_of_a_patch_what_was_wanted(old: dict[str, Any], new: dict[str, Any]) -> None:
    patch = merge_patch(old, new)
    document = updated(updated(None, {"desired": old}), {"desired": patch})
    assert is_equal(document.state.get("desired", {}), new)
    assert is_equal(merged(old, patch), new)


@given(_objects)
def test_what_is_equal_needs_no_patch(value: dict[str, Any]) -> None:
    assert merge_patch(value, json.loads(json.dumps(value))) == {}
    assert changes(value, json.loads(json.dumps(value))) == []


@given(_objects, _objects)
def test_a_patch_touches_nothing_that_stays(old: dict[str, Any], new: dict[str, Any]) -> None:
    changed = {change.path for change in changes(old, new)}
    for path, _ in leaves(merge_patch(old, new)):
        assert any(path == each[: len(path)] or each == path[: len(each)] for each in changed)


@given(st.lists(st.text(min_size=1, max_size=4) | st.sampled_from(["a b", 'q"', "x.y", "a=b"]), min_size=1))
def test_every_path_is_read_as_it_is_written(path: list[str]) -> None:
    text = format_path(path)
    assert parse_path(text) == tuple(path)
    assert text.isprintable()
    assert parse_assignment(f"{text}=[1]") == (tuple(path), [1])


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", '"a', "a b", 'a"b"', '"a"b', "=1"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no path"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a", "no assignment"),
        ("a=", "not JSON"),
        ("a=red", "quotes"),
        ("a=null", "unset"),
        ("a=NaN", "not JSON"),
    ],
)
def test_an_assignment_needs_json(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_assignment(text)


def test_a_path_is_given_once() -> None:
    assert nested([(("a", "b"), 1), (("a", "c"), {"d": 2})]) == {"a": {"b": 1, "c": {"d": 2}}}
    for paths in (["a", "a"], ["a", "a.b"], ["a.b", "a"], ["a.b", "a.b.c"]):
        with pytest.raises(ValueError, match="given"):
            nested([(parse_path(path), {}) for path in paths])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        b"\xff",
        b"\xff\xfe{\x00}\x00",
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        '{"a":' * 101 + "1" + "}" * 101,
        "[" * 100_000 + "]" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        "[1]",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_no_shadow_holds_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (each has its own words)
        parse_object(text)


def test_what_a_shadow_holds_is_read_exactly() -> None:
    assert parse_json(b'{"a": 18446744073709551617, "b": "\\ud800", "c": "\xc3\xbc"}') == {
        "a": 2**64 + 1,
        "b": "\ud800",
        "c": "ü",
    }


def test_differences_are_told_by_leaf_and_true_is_not_1() -> None:
    before = {"a": 1, "b": {"c": True, "d": {}}, "e": [1]}
    after = {"a": 1.0, "b": {"c": 1, "d": {}}, "f": None}
    assert changes(before, after) == [
        Change(("b", "c"), True, 1),
        Change(("e",), [1], MISSING),
        Change(("f",), MISSING, None),
    ]
