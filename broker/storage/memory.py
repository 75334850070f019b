"""A store that forgets with its process: the port's simplest adapter, and its reference in tests.

Knows: what each change does to the stored state.
Does not know: files.
"""

from collections.abc import Sequence
from typing import TypeVar

from msgspec.structs import replace

from ..protocol.packets import ClientId, TopicFilter, TopicName
from ..protocol.subscription import Subscription
from ..session.message import ApplicationMessage
from ..session.records import Changes, DeliveryRow, SessionRow, Will
from .ports import Page, Snapshot, StoredSession, SweptDelivery

_KeyT = TypeVar("_KeyT")
_ValueT = TypeVar("_ValueT")


class MemoryStore:
    """Applies changes to tables in memory; a second broker may load what a first one left."""

    def __init__(self) -> None:
        self._sessions: dict[int, SessionRow] = {}
        self._subscriptions: dict[int, dict[TopicFilter, Subscription]] = {}
        self._deliveries: dict[int, dict[int, DeliveryRow]] = {}
        self._session_of: dict[int, int] = {}
        self._inbound: dict[int, set[int]] = {}
        self._wills: dict[tuple[str, ClientId], Will] = {}
        self._retained: dict[tuple[str, TopicName], ApplicationMessage] = {}
        self._next_row = 1
        self._next_session = 1
        self._at = 0.0

    async def load(self) -> Snapshot:
        """Return the state as of the last commit."""
        return Snapshot(
            {number: self._load(row) for number, row in self._sessions.items()},
            dict(self._wills),
            dict(self._retained),
            self._next_row,
            self._next_session,
            self._at,
        )

    def commit(self, changes: Changes) -> None:
        """Apply the changes; they are as durable as this object at once."""
        self._at = max(self._at, changes.at)
        self._next_row = max(self._next_row, *(row + 1 for row in changes.put), 1)
        self._next_session = max(self._next_session, *(number + 1 for number in changes.sessions), 1)
        for number, session in changes.sessions.items():
            if session is not None:
                self._sessions[number] = session
        for (number, topic_filter), subscription in changes.subscriptions.items():
            _set(self._subscriptions.setdefault(number, {}), topic_filter, subscription)
        for row, put in changes.put.items():
            self._deliveries.setdefault(put.session, {})[row] = replace(put)
            self._session_of[row] = put.session
        for row, (packet_id, flow) in changes.moved.items():
            delivery = self._deliveries.get(self._session_of.get(row, 0), {}).get(row)
            if delivery is not None:
                delivery.packet_id = packet_id
                delivery.flow = flow
        for row in changes.dropped:
            self._deliveries.get(self._session_of.pop(row, 0), {}).pop(row, None)
        for (number, packet_id), is_held in changes.inbound.items():
            held = self._inbound.setdefault(number, set())
            (held.add if is_held else held.discard)(packet_id)
        for key, will in changes.wills.items():
            _set(self._wills, key, will)
        for topic, message in changes.retained.items():
            _set(self._retained, topic, message)
        for number, session in changes.sessions.items():
            if session is None:
                self._drop(number)

    async def read_pending(self, session: int, *, after: int, messages: int, size_bytes: int) -> Page:
        """Return the next pending deliveries."""
        rows = [
            delivery
            for row, delivery in sorted(self._deliveries.get(session, {}).items())
            if row > after and not delivery.packet_id
        ]
        page: list[DeliveryRow] = []
        while len(page) < min(messages, len(rows)) and (size_bytes > 0 or not page):
            delivery = rows[len(page)]
            page.append(replace(delivery))
            size_bytes -= delivery.size_bytes
        return Page(page, len(page) == len(rows))

    async def sweep(self, now: float, *, messages: int) -> Sequence[SweptDelivery]:
        """Forget expired pending deliveries."""
        expired = [
            SweptDelivery(delivery.session, row, delivery.size_bytes)
            for deliveries in self._deliveries.values()
            for row, delivery in deliveries.items()
            if not delivery.packet_id and delivery.message.has_expired(now)
        ][:messages]
        for swept in expired:
            del self._deliveries[swept.session][swept.row], self._session_of[swept.row]
        return expired

    def _load(self, row: SessionRow) -> StoredSession:
        deliveries = sorted(self._deliveries.get(row.number, {}).items())
        pending = [delivery for _, delivery in deliveries if not delivery.packet_id]
        return StoredSession(
            row,
            dict(self._subscriptions.get(row.number, {})),
            [replace(delivery) for _, delivery in deliveries if delivery.packet_id],
            set(self._inbound.get(row.number, ())),
            len(pending),
            sum(delivery.size_bytes for delivery in pending),
        )

    def _drop(self, number: int) -> None:
        self._sessions.pop(number, None)
        self._subscriptions.pop(number, None)
        self._inbound.pop(number, None)
        for row in self._deliveries.pop(number, ()):
            del self._session_of[row]


def _set(table: dict[_KeyT, _ValueT], key: _KeyT, value: _ValueT | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
