"""Shadow arithmetic of the simulated parties."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.shadow_values import delta, is_equal, merge, parse_object, section

keys = st.sampled_from("abc")
scalars = st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "1"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=3)


@given(objects)
def test_nothing_is_missing_from_itself(value: dict[str, Any]) -> None:
    assert delta(value, value) == {}


@given(objects, objects)
def test_a_device_that_applies_its_delta_has_no_delta(
    desired: dict[str, Any], reported: dict[str, Any]
) -> None:
    assert delta(desired, merge(reported, delta(desired, reported))) == {}


@given(objects, objects)
def test_merging_twice_is_merging_once(target: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


def test_null_removes_a_key() -> None:
    assert merge({"a": 1, "b": {"c": 1, "d": 2}}, {"a": None, "b": {"c": None}, "x": None}) == {"b": {"d": 2}}


@pytest.mark.parametrize(
    ("one", "other"), [(True, 1), (False, 0), ("1", 1), ([True], [1]), ({}, []), (None, 0)]
)
def test_types_matter(one: object, other: object) -> None:
    assert not is_equal(one, other)


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), ([1, {"a": 0}], [1.0, {"a": 0.0}]), (None, None)])
def test_numbers_compare_by_value(one: object, other: object) -> None:
    assert is_equal(one, other)


@pytest.mark.parametrize("payload", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000])
def test_a_payload_that_is_no_object_is_nothing(payload: bytes) -> None:
    assert parse_object(payload) is None


def test_a_section_that_is_absent_or_no_object_is_empty() -> None:
    document = {"state": {"desired": {"a": 1}, "reported": 3}}
    assert section(document, "state", "desired") == {"a": 1}
    assert section(document, "state", "reported") == {}
    assert section(document, "current", "state") == {}
