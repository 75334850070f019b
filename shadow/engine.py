"""The decision: a document and a command in, the new document and the messages out.

Knows: versions, the optimistic lock, tombstones, the size limit, the form and order of the replies.
Does not know: clocks, stores, the root of topics, who asked.
Spec: AWS IoT device shadow service, request and response documents.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, Raw, Struct, UnsetType

from .commands import Command, Delete, Get, Update
from .document import (
    Document,
    JsonObject,
    Metadata,
    Patch,
    Sections,
    Stored,
    Tombstone,
    delta,
    encode,
    merge,
    mirror,
    new_document,
)
from .errors import RequestError, ShadowNotFoundError, TooLargeError, VersionConflictError
from .settings import ShadowSettings
from .topics import Operation, Reply, ShadowKey

_HOUR_S: Final = 3600
_REJECTED: Final = {
    Operation.GET: Reply.GET_REJECTED,
    Operation.UPDATE: Reply.UPDATE_REJECTED,
    Operation.DELETE: Reply.DELETE_REJECTED,
}


class ShadowMessage(Struct, frozen=True, gc=False):
    """One message to publish on a topic of the shadow."""

    reply: Reply
    payload: bytes


class Decision(Struct, frozen=True, gc=False):
    """What a command does.

    Attributes:
        change: what must be stored before anything is published; None when nothing changes.
        messages: in publish order delta, documents, accepted. Some clients drop a delta whose version is not
            above that of the last accepted.
        patch: the state of the update that made `change`, as JSON; None for a delete.
        differing: keys at the top of the delta that `change` has; 0 where reported follows desired.
    """

    change: Stored | None
    messages: tuple[ShadowMessage, ...]
    patch: bytes | None = None
    differing: int = 0


class _Body(Struct, rename="camel", kw_only=True, gc=False):
    """The keys of all replies, in the order of the specification; an unset one is left out."""

    code: int | UnsetType = UNSET
    message: str | UnsetType = UNSET
    previous: Raw | UnsetType = UNSET
    current: Raw | UnsetType = UNSET
    state: Mapping[str, object] | Raw | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    version: int | UnsetType = UNSET
    timestamp: int | UnsetType = UNSET
    client_token: str | UnsetType


#: The shadow that does not exist: version 0 passes the optimistic lock, and `previous` is null.
_NOTHING: Final = Document(state={}, metadata={}, version=0, encoded=b"null")


def decide(
    key: ShadowKey, stored: Stored | None, command: Command, *, now: int, settings: ShadowSettings
) -> Decision:
    """Apply a command to what is stored under `key`, at `now` (epoch seconds).

    No argument is ever changed.

    Raises:
        RequestError: the request is refused and nothing changes; it carries the command's `client_token`.
    """
    if isinstance(stored, Tombstone) and now - stored.deleted_at >= settings.tombstone_hours * _HOUR_S:
        stored = None
    if isinstance(command, Update):
        return _update(stored, command, now, settings)
    if not isinstance(stored, Document):
        raise ShadowNotFoundError(key.shadow_name or key.thing_name, client_token=command.client_token)
    if isinstance(command, Get):
        return _get(stored, command, now)
    return _delete(stored, command, now)


def reject(operation: Operation, error: RequestError) -> ShadowMessage:
    """The message that tells the client about a refusal."""
    body = _Body(code=error.code, message=error.message, client_token=_or_unset(error.client_token))
    return ShadowMessage(_REJECTED[operation], encode(body))


def tell(document: Document, *, now: int) -> ShadowMessage | None:
    """The message that tells of the delta once more; None where there is no delta."""
    lacking, stamps = _delta(document)
    if not lacking:
        return None
    body = _Body(state=lacking, metadata=stamps, version=document.version, timestamp=now, client_token=UNSET)
    return ShadowMessage(Reply.UPDATE_DELTA, encode(body))


def apply(stored: Stored | None, patch: Patch, *, now: int) -> Document:
    """Return the document that an update makes of what is stored; a tombstone's version goes on."""
    return _apply(stored, patch, {"timestamp": now})[0]


def _update(stored: Stored | None, command: Update, now: int, settings: ShadowSettings) -> Decision:
    before = stored if isinstance(stored, Document) else _NOTHING
    if command.version is not None and command.version != before.version:
        raise VersionConflictError(client_token=command.client_token)
    leaf = {"timestamp": now}
    patch = encode(command.state)
    if len(patch) > settings.document_size_maximum and b"null" not in patch:
        raise TooLargeError(
            client_token=command.client_token
        )  # What removes nothing ends up in the document.
    after, size = _apply(stored, command.state, leaf)
    if size > settings.document_size_maximum:
        raise TooLargeError(client_token=command.client_token)

    client_token = _or_unset(command.client_token)
    documents = _Body(
        previous=Raw(before.encoded), current=Raw(after.encoded), timestamp=now, client_token=client_token
    )
    accepted = _Body(
        state=Raw(patch),
        metadata=mirror(command.state, leaf),
        version=after.version,
        timestamp=now,
        client_token=client_token,
    )
    messages: tuple[ShadowMessage, ...] = (
        ShadowMessage(Reply.UPDATE_DOCUMENTS, encode(documents)),
        ShadowMessage(Reply.UPDATE_ACCEPTED, encode(accepted)),
    )
    lacking, stamps = _delta(after)
    if lacking:
        body = _Body(
            state=lacking, metadata=stamps, version=after.version, timestamp=now, client_token=client_token
        )
        messages = (ShadowMessage(Reply.UPDATE_DELTA, encode(body)), *messages)
    return Decision(after, messages, patch, len(lacking))


def _get(stored: Document, command: Get, now: int) -> Decision:
    lacking, _ = _delta(stored)
    body = _Body(
        state={**stored.state, "delta": lacking} if lacking else stored.state,
        metadata=stored.metadata,
        version=stored.version,
        timestamp=now,
        client_token=_or_unset(command.client_token),
    )
    return Decision(None, (ShadowMessage(Reply.GET_ACCEPTED, encode(body)),))


def _delete(stored: Document, command: Delete, now: int) -> Decision:
    body = _Body(version=stored.version, timestamp=now, client_token=_or_unset(command.client_token))
    tombstone = Tombstone(stored.version + 1, now)  # The delete counts as one version.
    return Decision(tombstone, (ShadowMessage(Reply.DELETE_ACCEPTED, encode(body)),))


def _apply(stored: Stored | None, patch: Patch, leaf: Metadata) -> tuple[Document, int]:
    """The new document, and the size of its state in bytes."""
    before = stored if isinstance(stored, Document) else _NOTHING
    state, metadata = _merge_sections(before, patch, leaf)
    encoded_state = encode(state)
    version = 1 if stored is None else stored.version + 1  # A tombstone's counter goes on.
    return new_document(state, metadata, version, encoded_state=encoded_state), len(encoded_state)


def _merge_sections(before: Document, patch: Patch, leaf: Metadata) -> tuple[Sections, Metadata]:
    """Merge each section of the request; one that is empty afterwards is no part of the document."""
    if patch is None:
        return {}, {}
    state, metadata = before.state.copy(), before.metadata.copy()
    for name, changes in patch.items():
        section: JsonObject = {}
        if changes is not None:
            section, stamps = merge(state.get(name, {}), metadata.get(name, {}), changes, leaf)
        if section:
            state[name], metadata[name] = section, stamps
        else:
            state.pop(name, None)
            metadata.pop(name, None)
    return state, metadata


def _delta(document: Document) -> tuple[JsonObject, Metadata]:
    desired = document.state.get("desired")
    if desired is None:
        return {}, {}
    return delta(desired, document.state.get("reported", {}), document.metadata["desired"])


def _or_unset(client_token: str | None) -> str | UnsetType:
    return UNSET if client_token is None else client_token
