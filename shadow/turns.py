"""Turns: requests that share one commit, and what they change.

Knows: what a request has come to, what falls with a commit that failed.
Does not know: documents, the bus, the store.
Spec: none.
"""

from collections.abc import Collection
from typing import TypeAlias

from msgspec import Struct

from broker.api import Message

from .engine import ShadowMessage, reject
from .errors import InternalFailureError, RequestError
from .hot import UNKNOWN, Slot
from .records import Changes
from .topics import Operation, ShadowKey

#: Requests in flight are counted per thing and client; beside a foreign broker the client is unknown.
Flow: TypeAlias = tuple[str, str | None]


class Request(Struct):
    """A request on its way: what was asked, then what will be answered after the commit.

    Only an admitted one was decided against a document, and counts as in flight.
    """

    operation: Operation
    slot: Slot
    flow: Flow
    message: Message
    is_over_rate: bool = False
    client_token: str | None = None
    is_admitted: bool = False
    is_change: bool = False
    messages: tuple[ShadowMessage, ...] = ()

    def refuse(self, error: RequestError) -> None:
        """Answer with an error."""
        self.messages = (reject(self.operation, error),)
        self.is_change = False


class Telling(Struct):
    """A delta to publish once more; it was asked for by nobody, and is dropped when its commit fails."""

    slot: Slot
    messages: tuple[ShadowMessage, ...] = ()


class Turn:
    """Requests that share one commit, in order of arrival.

    `messages` counts what of the bus they came from, ignored messages included.
    """

    def __init__(self) -> None:
        self.messages = 0
        self.requests: list[Request | Telling] = []
        self.changes = Changes({}, [], {})
        #: How long shadows drifted that follow now, in seconds.
        self.converged: list[float] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for its end."""
        return not (self.messages or self.requests)

    def fail(self, keys: Collection[ShadowKey]) -> None:
        """Refuse what was decided on shadows whose rows were lost: it may build on what is not stored."""
        for request in self.requests:
            if request.slot.key not in keys:
                continue
            if isinstance(request, Telling):
                request.slot.row = UNKNOWN
                request.messages = ()
            elif request.is_admitted:
                request.slot.row = UNKNOWN
                request.refuse(InternalFailureError(client_token=request.client_token))
        changes = self.changes
        for key in keys:
            changes.rows.pop(key, None)
            changes.obsolete.pop(key, None)
        changes.entries = [(key, entry) for key, entry in changes.entries if key not in keys]
