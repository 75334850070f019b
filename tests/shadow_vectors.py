"""The rows of vectors/shadow_vectors.json, and how a test reads them.

Knows: the file's form, its placeholder for the time.
Does not know: what decides a request.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shadow.document import Document, Stored, Tombstone, restore_document
from shadow.journal import stored_of as content_of
from shadow.records import Changes, Row
from shadow.settings import ShadowSettings
from shadow.topics import ShadowKey

FILE = json.loads((Path(__file__).parent / "vectors" / "shadow_vectors.json").read_text("utf-8"))
NOW = 1_700_000_000
SETTINGS = ShadowSettings()


def with_now(value: Any) -> Any:
    """Put the time in place of `<NOW>`."""
    return json.loads(json.dumps(value).replace('"<NOW>"', str(NOW)))


def canonical(value: Any) -> str:
    """A text that tells true from 1 and 1 from 1.0, which Python's equality does not."""
    return json.dumps(value, sort_keys=True)


def payload_of(vector: Any) -> bytes:
    asked = vector["request"]
    text: str = asked["payload_raw"] if "payload_raw" in asked else json.dumps(asked["payload"])
    return text.encode()


def stored_of(value: Any) -> Stored | None:
    if value is None:
        return None
    if value.get("deleted"):
        return Tombstone(value["version"], NOW)
    return restore_document(json.dumps(value).encode())


def row_of(stored: Stored) -> Row:
    """A row as if made at `NOW`; without a journal."""
    document = stored.encoded if isinstance(stored, Document) else None
    return Row(version=stored.version, numbering=NOW, changed_at=NOW, document=document)


def changes_of(rows: Mapping[ShadowKey, Stored]) -> Changes:
    """What puts these into a store."""
    return Changes({key: row_of(stored) for key, stored in rows.items()}, [], {})


def assert_is_kept(row: Row | None, expected: Any) -> None:
    assert_is_stored(None if row is None else content_of(row), expected)


def assert_is_stored(stored: Stored | None, expected: Any) -> None:
    match stored:
        case None:
            assert expected is None
        case Tombstone():
            assert expected == {"deleted": True, "version": stored.version}
        case Document():
            parts = {"state": stored.state, "metadata": stored.metadata, "version": stored.version}
            assert canonical(parts) == canonical(with_now(expected))
            assert canonical(json.loads(stored.encoded)) == canonical(with_now(expected))
