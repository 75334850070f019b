"""The journal: from a decision to what is kept of it, and from what is kept back to a document.

Knows: which entries hold whole documents, how far back the others reach, what replaying means.
Does not know: stores, requests, clocks.
Spec: design: replaying the journal gives the document, byte for byte.

An entry holds the request's state. A replay begins at a *base*: version 1, a delete, and every so many
versions an entry that holds the whole document too. Forward patches replay exactly, because merging is the
one function that made the document in the first place; a reverse patch could not bring back the order of
keys or old timestamps, and whole documents would be five times the bytes. A base is at most `BASE_VERSIONS`
back, and `BASE_S`: so a replay is bounded, and what is older by as much than the settings ask for may be
removed without a look at anything else.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from .document import Document, Stored, Tombstone, restore_document
from .engine import Decision, apply
from .records import Author, Drifting, JournalEntry, Row

#: A base comes at least every so many versions, and seconds.
BASE_VERSIONS: Final = 32
BASE_S: Final = 86_400.0

_decode_patch: Final = msgspec.json.Decoder(dict[str, dict[str, Any] | None] | None).decode


def stored_of(row: Row) -> Stored:
    """What `decide` needs of a row.

    Raises:
        msgspec.MsgspecError: the row holds something else than a document.
    """
    if row.document is None:
        return Tombstone(row.version, int(row.changed_at))
    return restore_document(row.document)


def next_row(row: Row | None, decision: Decision, *, now: float) -> Row:
    """The row that an accepted change makes of the one before it, at `now`."""
    change = decision.change
    if change is None:
        raise ValueError("the decision changes nothing")
    if row is None or change.version <= row.version:  # A forgotten counter begins anew.
        row = Row(version=0, numbering=max(int(now), 0 if row is None else row.numbering + 1), changed_at=now)
    document = change.encoded if isinstance(change, Document) else None
    is_base = (
        document is None
        or not row.version
        or change.version - row.base_version >= BASE_VERSIONS
        or not 0 <= now - row.base_at < BASE_S
    )
    drift = None
    if decision.differing:
        since = now if row.drift is None else row.drift.since
        drift = Drifting(since=since, told_at=now, tellings=1, keys=decision.differing)
    return Row(
        version=change.version,
        numbering=row.numbering,
        changed_at=now,
        document=document,
        base_version=change.version if is_base else row.base_version,
        base_at=now if is_base else row.base_at,
        drift=drift,
    )


def told(row: Row, *, now: float) -> Row:
    """The row after its delta was published once more."""
    if row.drift is None:
        raise ValueError("the shadow has no delta")
    return replace(row, drift=replace(row.drift, told_at=now, tellings=row.drift.tellings + 1))


def entry_of(
    row: Row, decision: Decision, *, author: Author, topic: str, client_token: str | None
) -> JournalEntry:
    """The journal's entry for the change that made `row`."""
    is_base = row.base_version == row.version > 1  # Version 1 is made of nothing.
    return JournalEntry(
        version=row.version,
        numbering=row.numbering,
        at=row.changed_at,
        author=author,
        topic=topic,
        client_token=client_token,
        patch=decision.patch,
        document=row.document if is_base else None,
    )


def oldest_kept(row: Row, *, versions: int) -> int:
    """The version below which the journal may forget, so that the last `versions` can be replayed."""
    return row.version - (versions - 1) - (BASE_VERSIONS - 1)


def replay(entries: Iterable[JournalEntry]) -> Stored | None:
    """What there was after the last entry; they come newest first, as a store returns them.

    Returns:
        None where they do not reach back to a base, or have a gap.

    Raises:
        msgspec.MsgspecError: an entry holds something else than a patch or a document.
    """
    later: list[JournalEntry] = []
    stored: Stored | None = None
    for entry in entries:
        if later and (entry.version != later[-1].version - 1 or entry.numbering != later[-1].numbering):
            return None
        if entry.patch is None:
            stored = Tombstone(entry.version, int(entry.at))
        elif entry.document is not None:
            stored = restore_document(entry.document)
        else:
            later.append(entry)
            if entry.version > 1:
                continue
        break
    else:
        return None
    for entry in reversed(later):
        if entry.patch is not None:
            stored = apply(stored, _decode_patch(entry.patch), now=int(entry.at))
    return stored
