"""Several processes that serve the same shadows: what they need of their store and of their bus.

Knows: what is held while a turn lasts, which requests a broker may send again.
Does not know: locks, tables, brokers.
Spec: v5 §4.8.2 (shared subscriptions), §4.3.2 (QoS 1).

A broker gives each request to one process, and again to somebody if that one dies. So a process holds a
thing from before it reads its shadows until the broker has the replies: then the messages of a shadow keep
the order of its versions. And the transaction that changes a shadow also notes the request as done: whoever
gets it again gives the same answer, and changes nothing. What a process had committed and not answered when
it died is answered late, with the version that it had.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from msgspec import Struct

from broker.api import Message

from .records import Changes
from .store import ShadowStore
from .topics import ShadowKey


class Done(Struct, frozen=True, gc=False):
    """What a request has made already."""

    numbering: int
    version: int


class SharedChanges(Changes):
    """What one commit writes, if no other process has changed these shadows.

    Attributes:
        before: what the new rows build on, None where there was none.
        done: by request, what it made.
        acknowledged: requests that the broker will not send again.
    """

    before: dict[ShadowKey, Done | None]
    done: dict[str, Done]
    acknowledged: list[str]


class SharedShadowStore(ShadowStore, Protocol):
    """A store that several processes write to; its methods raise ShadowStoreError as those of all stores."""

    async def hold(self, things: Collection[str], body: Callable[[], Awaitable[None]]) -> None:
        """Run `body` while no other process holds any of these things.

        Who dies holds nothing. Who is only cut off from the store may believe that it still does; its
        commits are then refused.

        Raises:
            ShadowStoreError: the things could not be had in time; `body` was not run.
        """
        ...

    async def done(self, request_ids: Collection[str], *, again: Collection[str] = ()) -> Mapping[str, Done]:
        """Return which of these requests another run of some process did in the last minutes.

        Of those that came `again` also which any run did in the last day.
        """
        ...

    async def commit_shared(self, changes: SharedChanges) -> None:
        """Write all changes or none, and return when they are durable.

        Raises:
            ShadowConflictError: another process has changed one of the shadows.
        """
        ...


class Sharing(Struct, frozen=True):
    """How to share: by which store, and how to wait until the broker has what was published."""

    store: SharedShadowStore
    settled: Callable[[], Awaitable[None]]


def request_id(message: Message, *, has_token: bool) -> str:
    """What tells a request that was sent again: where it went, its token, all that it says.

    One without a token may be meant twice, so the packet id tells it from its like; whoever has died gets it
    again under the same id.
    """
    digest = hashlib.blake2b(message.topic.encode(), digest_size=16)
    # No topic holds a NUL.
    digest.update(b"\0" if has_token else b"\0%d\0" % message.packet_id)
    digest.update(message.payload)
    return digest.hexdigest()
