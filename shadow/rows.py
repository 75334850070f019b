"""Rows and journal entries as SQL databases hold them.

Knows: the order of the columns, the form of `origin`, that a classic shadow has the empty name.
Does not know: any database, any statement.
Spec: none.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from storage import Migrations

from .records import Author, Changes, Drifting, JournalEntry, Row
from .topics import ShadowKey

MIGRATIONS: Final = Migrations(component="shadow", package="shadow")

#: In this order: (tenant, thing_name, shadow_name) and then these.
ROW_COLUMNS: Final = (
    "version", "numbering", "changed_at", "base_version", "base_at",
    "drift_since", "told_at", "tellings", "drift_keys", "document",
)  # fmt: skip
ENTRY_COLUMNS: Final = ("numbering", "version", "at", "origin", "patch", "document")

#: The largest integer of both databases.
VERSION_MAXIMUM: Final = 2**63 - 1
#: What a row takes in a database beside its document, about, in bytes.
_ROW_BYTES: Final = 300

SQLRow: TypeAlias = tuple[Any, ...]


class _Origin(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    topic: str
    client_id: str | None = None
    identity: str | None = None
    certificate: str | None = None
    client_token: str | None = None


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Origin).decode


def name_of(key: ShadowKey) -> str:
    """The column `shadow_name`."""
    return key.shadow_name or ""


def key_of(thing_name: str, shadow_name: str) -> ShadowKey:
    """The key of the first two columns behind the tenant."""
    return ShadowKey(thing_name, shadow_name or None)


def rows_of(tenant: str, changes: Changes) -> list[SQLRow]:
    """The table's new rows."""
    return [
        (
            tenant,
            key.thing_name,
            key.shadow_name or "",
            row.version,
            row.numbering,
            row.changed_at,
            row.base_version,
            row.base_at,
            *_drift_columns(row.drift),
            _text(row.document),
        )
        for key, row in changes.rows.items()
    ]


def entries_of(tenant: str, changes: Changes) -> list[SQLRow]:
    """The journal's new rows."""
    return [
        (
            tenant,
            key.thing_name,
            key.shadow_name or "",
            entry.numbering,
            entry.version,
            entry.at,
            _origin(entry),
            _text(entry.patch),
            _text(entry.document),
        )
        for key, entry in changes.entries
    ]


def size_of(changes: Changes) -> int:
    """The bytes that a commit writes, about."""
    documents = sum(len(row.document or b"") + _ROW_BYTES for row in changes.rows.values())
    entries = (len(entry.patch or b"") + len(entry.document or b"") for _, entry in changes.entries)
    return documents + sum(entries) + _ROW_BYTES * len(changes.entries)


def read_row(columns: Sequence[Any]) -> Row:
    """The row of `ROW_COLUMNS`."""
    version, numbering, changed_at, base_version, base_at, *drift, document = columns
    return Row(
        version=version,
        numbering=numbering,
        changed_at=changed_at,
        document=None if document is None else document.encode(),
        base_version=base_version,
        base_at=base_at,
        drift=None if drift[0] is None else read_drift(drift),
    )


def read_drift(columns: Sequence[Any]) -> Drifting:
    """The drift of `drift_since`, `told_at`, `tellings` and `drift_keys`."""
    since, told_at, tellings, keys = columns
    return Drifting(since=since, told_at=told_at, tellings=tellings, keys=keys)


def read_entry(columns: Sequence[Any]) -> JournalEntry:
    """The journal's entry of `ENTRY_COLUMNS`.

    Raises:
        msgspec.MsgspecError: `origin` is something else.
    """
    numbering, version, at, origin, patch, document = columns
    told = _decode(origin)
    return JournalEntry(
        version=version,
        numbering=numbering,
        at=at,
        author=Author(told.client_id, told.identity, told.certificate),
        topic=told.topic,
        client_token=told.client_token,
        patch=None if patch is None else patch.encode(),
        document=None if document is None else document.encode(),
    )


def _origin(entry: JournalEntry) -> str:
    author = entry.author
    return _encode(
        _Origin(
            topic=entry.topic,
            client_id=author.client_id,
            identity=author.identity,
            certificate=author.certificate,
            client_token=entry.client_token,
        )
    ).decode()


def _drift_columns(drift: Drifting | None) -> SQLRow:
    if drift is None:
        return (None, None, None, None)
    return (drift.since, drift.told_at, drift.tellings, drift.keys)


def _text(encoded: bytes | None) -> str | None:
    return None if encoded is None else encoded.decode()
