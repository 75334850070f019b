"""What is kept of a shadow: its row, and the entries of its journal.

Knows: the fields, and which of them the store must be able to find rows by.
Does not know: how they come about, tables, JSON.
Spec: AWS IoT device shadow service, the version counter of a deleted shadow.

Times are seconds since the epoch. A *numbering* runs from version 1 on; a shadow that was deleted so long ago
that its counter is forgotten begins a new one.
"""

from msgspec import Struct

from .topics import ShadowKey


class Drifting(Struct, frozen=True, gc=False, kw_only=True):
    """How a shadow is apart from what is desired.

    Attributes:
        since: since when there is a delta, without a break.
        told_at: when the delta was last published.
        tellings: how often it was published since the last accepted update.
        keys: at the top of the delta.
    """

    since: float
    told_at: float
    tellings: int
    keys: int


class Row(Struct, frozen=True, gc=False, kw_only=True):
    """One shadow, or what a deleted one leaves.

    Attributes:
        version: counts accepted updates and deletes, from 1.
        numbering: when version 1 was made, whole seconds; tells this numbering from earlier ones.
        changed_at: when `version` was made.
        document: `Document.encoded`; None once deleted.
        base_version: the latest version at which a replay of the journal can begin.
        base_at: when that was made.
        drift: None where there is no delta.
    """

    version: int
    numbering: int
    changed_at: float
    document: bytes | None = None
    base_version: int = 0
    base_at: float = 0
    drift: Drifting | None = None


class Author(Struct, frozen=True, gc=False, omit_defaults=True):
    """Who asked for a change; all None beside a foreign broker, which does not tell, and for services.

    Attributes:
        client_id: of the MQTT client.
        identity: the certificate's common name, or `user/` and the name of a verified user.
        certificate: SHA-256 fingerprint of the client's certificate, in hexadecimal.
    """

    client_id: str | None = None
    identity: str | None = None
    certificate: str | None = None


class JournalEntry(Struct, frozen=True, gc=False, kw_only=True):
    """One accepted change.

    Attributes:
        version: the version that it made.
        numbering: of which numbering, as in `Row`.
        at: when it was made.
        author: who asked.
        topic: where.
        client_token: the request's.
        patch: the `state` of the update as JSON; None for a delete.
        document: the whole document after it, as in `Row`; in every so many entries only.
    """

    version: int
    numbering: int
    at: float
    author: Author
    topic: str
    client_token: str | None = None
    patch: bytes | None = None
    document: bytes | None = None


class Changes(Struct):
    """What one commit writes, whole or not at all.

    Attributes:
        rows: the new rows; the last of each shadow.
        entries: the journal's, in the order in which they were made.
        obsolete: of these shadows, the journal may forget versions below the number.
    """

    rows: dict[ShadowKey, Row]
    entries: list[tuple[ShadowKey, JournalEntry]]
    obsolete: dict[ShadowKey, int]
