import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from shadow.document import (
    JsonObject,
    Metadata,
    delta,
    encode,
    is_equal,
    merge,
    mirror,
    new_document,
    restore_document,
)
from shadow_strategies import sections

OLD: Metadata = {"timestamp": 1}
NEW: Metadata = {"timestamp": 2}


def merged(state: JsonObject, patch: JsonObject) -> JsonObject:
    return merge(state, mirror(state, OLD), patch, NEW)[0]


def lacking(desired: JsonObject, reported: JsonObject) -> JsonObject:
    return delta(desired, reported, mirror(desired, OLD))[0]


def naive_merge(target: Any, patch: dict[str, Any]) -> dict[str, Any]:
    """Merge by the words of the specification, after stripping what can have no effect."""
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif not isinstance(value, dict):
            result[key] = value
        elif isinstance(result.get(key), dict):
            result[key] = naive_merge(result[key], value)
        else:
            stripped = naive_merge({}, value)
            if stripped or value == {} or key in result:
                result[key] = stripped
    return result


def assert_mirrors(metadata: Any, state: Any) -> None:
    if isinstance(state, dict):
        assert metadata.keys() == state.keys()
        for key, value in state.items():
            assert_mirrors(metadata[key], value)
    elif isinstance(state, list):
        assert isinstance(metadata, list)
        assert len(metadata) == len(state)
        for stamps, value in zip(metadata, state, strict=True):
            assert_mirrors(stamps, value)
    else:
        assert metadata in (OLD, NEW)


@given(sections(), sections(nulls=True))
def test_merge_equals_the_specification(state: JsonObject, patch: JsonObject) -> None:
    assert encode(merged(state, patch)) == encode(naive_merge(state, patch))


@given(sections(), sections())
def test_merging_a_patch_without_nulls_twice_changes_nothing_more(
    state: JsonObject, patch: JsonObject
) -> None:
    once = merged(state, patch)
    assert merged(once, patch) == once


@given(sections(), sections(nulls=True))
def test_metadata_mirrors_the_merged_state(state: JsonObject, patch: JsonObject) -> None:
    new_state, metadata = merge(state, mirror(state, OLD), patch, NEW)
    assert_mirrors(metadata, new_state)


@given(sections(), sections(nulls=True))
def test_merge_changes_none_of_its_arguments(state: JsonObject, patch: JsonObject) -> None:
    metadata = mirror(state, OLD)
    before = copy.deepcopy((state, metadata, patch))
    merge(state, metadata, patch, NEW)
    assert (state, metadata, patch) == before


@given(sections())
def test_equal_sections_have_no_delta(desired: JsonObject) -> None:
    assert lacking(desired, copy.deepcopy(desired)) == {}


@given(sections(), sections())
def test_reporting_the_delta_leaves_none(desired: JsonObject, reported: JsonObject) -> None:
    assert lacking(desired, merged(reported, lacking(desired, reported))) == {}


@given(sections(), sections())
def test_delta_holds_desired_values_and_their_metadata(desired: JsonObject, reported: JsonObject) -> None:
    state, metadata = delta(desired, reported, mirror(desired, OLD))
    assert_mirrors(metadata, state)
    assert merged(desired, state) == desired


def test_only_what_the_patch_names_is_stamped() -> None:
    state: JsonObject = {"kept": 1, "same": 2, "inner": {"kept": [3], "set": 4}}
    patch: JsonObject = {"same": 2, "inner": {"set": [[5], {}]}}
    _, metadata = merge(state, mirror(state, OLD), patch, NEW)
    assert metadata == {"kept": OLD, "same": NEW, "inner": {"kept": [OLD], "set": [[NEW], {}]}}


def test_a_key_called_timestamp_is_an_ordinary_key() -> None:
    state: JsonObject = {"timestamp": 5, "inner": {"timestamp": {"timestamp": 6}}}
    patch: JsonObject = {"inner": {"timestamp": {"timestamp": 7}}}
    new_state, metadata = merge(state, mirror(state, OLD), patch, NEW)
    assert new_state == {"timestamp": 5, "inner": {"timestamp": {"timestamp": 7}}}
    assert metadata == {"timestamp": OLD, "inner": {"timestamp": {"timestamp": NEW}}}


@pytest.mark.parametrize(
    ("state", "patch", "expected"),
    [
        ({}, {"a": {}}, {"a": {}}),
        ({"a": 1}, {"a": {}}, {"a": {}}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}),
        ({}, {"a": {"b": None}}, {}),
        ({}, {"a": {"b": {"c": None}}}, {}),
        ({}, {"a": {"b": {"c": None}, "d": 1}}, {"a": {"d": 1}}),
        ({"a": 1}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({}, {"a": None}, {}),
    ],
)
def test_merge_of_nulls_and_empty_objects(state: JsonObject, patch: JsonObject, expected: JsonObject) -> None:
    assert merged(state, patch) == expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1, [0]], [1, [False]], False),
        ({"a": [1]}, {"a": [True]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("1", 1, False),
        ([1, 2], [2, 1], False),
        (2**53 + 1, float(2**53), False),
        (None, False, False),
    ],
)
def test_equality_is_that_of_json(one: Any, other: Any, expected: bool) -> None:
    assert is_equal(one, other) is expected
    assert is_equal(other, one) is expected


def test_a_document_survives_its_encoded_form() -> None:
    state: dict[str, JsonObject] = {"desired": {"big": 2**70, "float": 1.0, "text": 'é"'}}
    document = new_document(state, mirror(state, NEW), 7, encoded_state=encode(state))
    assert json.loads(document.encoded) == {"state": state, "metadata": mirror(state, NEW), "version": 7}
    assert restore_document(document.encoded) == document


@pytest.mark.parametrize(
    "encoded", [b"", b"[]", b'{"state":{},"metadata":{}}', b'{"state":[],"metadata":{},"version":1}']
)
def test_other_bytes_are_no_document(encoded: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        restore_document(encoded)
