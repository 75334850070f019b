"""Shadow documents: merge, delta, metadata, encoded form.

Knows: the two sections, and the metadata that mirrors them.
Does not know: requests, the rules of versions, topics, clocks.
Spec: AWS IoT device shadow service, shadow documents; JSON of RFC 8259.

Values are shared and never changed: a new document keeps the unchanged subtrees of the old one and takes
those of the request as they are. Metadata is always walked beside its state, so a key may be `timestamp`.
"""

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, "JsonValue"]
#: `desired` and `reported`, each only when not empty.
Sections: TypeAlias = dict[str, JsonObject]
#: The state of a request: a null section is removed, a null state clears both.
Patch: TypeAlias = dict[str, JsonObject | None] | None
#: Its shape is that of the state beside it, which no type can say; a leaf is `{"timestamp": seconds}`.
Metadata: TypeAlias = dict[str, Any]

#: Compact JSON. Integers of any length stay integers; orjson would turn those beyond 64 bits into floats.
encode: Final = msgspec.json.Encoder().encode


class Document(Struct, frozen=True, gc=False):
    """One shadow.

    Attributes:
        state: the sections.
        metadata: the mirror of `state`.
        version: counts accepted updates and deletes, from 1.
        encoded: the JSON object of these three, as stores keep it and `update/documents` shows it.
    """

    state: Sections
    metadata: Metadata
    version: int
    encoded: bytes


class Tombstone(Struct, frozen=True, gc=False):
    """What a deleted shadow leaves for a while: its version counter.

    Attributes:
        version: the counter; the delete counted as one.
        deleted_at: epoch seconds.
    """

    version: int
    deleted_at: int


#: What a store holds under one key.
Stored: TypeAlias = Document | Tombstone


class _Fields(Struct):
    state: dict[str, Any]
    metadata: dict[str, Any]
    version: int


_decode: Final = msgspec.json.Decoder(_Fields).decode


def new_document(state: Sections, metadata: Metadata, version: int, *, encoded_state: bytes) -> Document:
    """Make a document; `encoded_state` is `encode(state)`, which the caller has measured already."""
    encoded = encode({"state": Raw(encoded_state), "metadata": metadata, "version": version})
    return Document(state, metadata, version, encoded)


def restore_document(encoded: bytes) -> Document:
    """Read a document from `Document.encoded`.

    Raises:
        msgspec.MsgspecError: this is no document.
    """
    fields = _decode(encoded)
    return Document(fields.state, fields.metadata, fields.version, encoded)


def mirror(value: object, leaf: Metadata) -> Any:  # noqa: ANN401 - see Metadata
    """The metadata of a value whose leaves, nulls among them, were all set by one request."""
    if isinstance(value, dict):
        return {key: mirror(child, leaf) for key, child in value.items()}
    if isinstance(value, list):
        return [mirror(child, leaf) for child in value]
    return leaf


def merge(
    state: JsonObject, metadata: Metadata, patch: JsonObject, leaf: Metadata
) -> tuple[JsonObject, Metadata]:
    """Apply a patch to one section (or nested object) and to the metadata beside it.

    Null removes, objects merge, anything else replaces; arrays are values. What the patch names is stamped
    with `leaf`, even when its value stays the same.
    """
    state, metadata = state.copy(), metadata.copy()
    for key, value in patch.items():
        if value is None:
            state.pop(key, None)
            metadata.pop(key, None)
        elif isinstance(value, dict):
            old = state.get(key)
            if isinstance(old, dict):
                state[key], metadata[key] = merge(old, metadata[key], value, leaf)
            else:
                fresh, stamps = merge({}, {}, value, leaf)
                if fresh or not value or key in state:  # An object of nulls only does not create a key.
                    state[key], metadata[key] = fresh, stamps
        else:
            state[key] = value
            metadata[key] = mirror(value, leaf) if isinstance(value, list) else leaf
    return state, metadata


def delta(desired: JsonObject, reported: JsonObject, metadata: Metadata) -> tuple[JsonObject, Metadata]:
    """What `reported` lacks of `desired`, and the part of `metadata` (of `desired`) that belongs to it."""
    state: JsonObject = {}
    stamps: Metadata = {}
    for key, wanted in desired.items():
        if key in reported:
            actual = reported[key]
            if isinstance(wanted, dict) and isinstance(actual, dict):
                child, child_stamps = delta(wanted, actual, metadata[key])
                if child:
                    state[key], stamps[key] = child, child_stamps
                continue
            if is_equal(wanted, actual):
                continue
        state[key], stamps[key] = wanted, metadata[key]
    return state, stamps


def is_equal(one: JsonValue, other: JsonValue) -> bool:
    """Whether two values are equal as JSON: numbers by value (1 and 1.0), but true is not 1."""
    return one == other and _is_same_kind(one, other)


def _is_same_kind(one: JsonValue, other: JsonValue) -> bool:
    """Find the one thing that Python's equality overlooks: a boolean that met a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_is_same_kind(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return all(map(_is_same_kind, one, other))
    return isinstance(one, bool) == isinstance(other, bool)
