"""A store that forgets with its process: the port's simplest adapter, and its reference in tests.

Knows: what each operation does to the stored state.
Does not know: files.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..session.records import (
    DropInbound,
    DropOutbound,
    DropRetained,
    DropSession,
    DropSubscription,
    DropWill,
    MoveOutbound,
    Operation,
    PutInbound,
    PutOutbound,
    PutRetained,
    PutSession,
    PutSubscription,
    PutWill,
)
from ..session.session import Will
from .ports import Snapshot, StoredOutbound, StoredSession


class MemoryStore:
    """Applies operations to a `Snapshot`; a second broker may load what a first one left."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()

    async def load(self) -> Snapshot:
        """Return the state as of the last commit; the caller must not change it."""
        return self._snapshot

    def commit(self, operations: Sequence[Operation]) -> None:
        """Apply the operations; they are as durable as this object at once."""
        snapshot = self._snapshot
        for operation in operations:
            _APPLY[type(operation)](snapshot, operation)


def _put_session(snapshot: Snapshot, put: PutSession) -> None:
    stored = snapshot.sessions.get((put.tenant, put.client_id))
    if stored is None:
        snapshot.sessions[put.tenant, put.client_id] = StoredSession(
            put.expiry_interval, put.disconnected_at, put.identity
        )
    else:
        stored.expiry_interval = put.expiry_interval
        stored.disconnected_at = put.disconnected_at
        stored.identity = put.identity


def _drop_session(snapshot: Snapshot, drop: DropSession) -> None:
    snapshot.sessions.pop((drop.tenant, drop.client_id), None)


def _put_subscription(snapshot: Snapshot, put: PutSubscription) -> None:
    stored = snapshot.sessions[put.tenant, put.client_id]
    stored.subscriptions[put.subscription.topic_filter] = put.subscription


def _drop_subscription(snapshot: Snapshot, drop: DropSubscription) -> None:
    snapshot.sessions[drop.tenant, drop.client_id].subscriptions.pop(drop.topic_filter, None)


def _put_outbound(snapshot: Snapshot, put: PutOutbound) -> None:
    snapshot.sessions[put.tenant, put.client_id].outbound[put.row] = StoredOutbound(
        put.message, put.qos, put.is_retain, put.identifiers
    )


def _move_outbound(snapshot: Snapshot, move: MoveOutbound) -> None:
    stored = snapshot.sessions[move.tenant, move.client_id].outbound[move.row]
    stored.packet_id = move.packet_id
    stored.flow = move.flow


def _drop_outbound(snapshot: Snapshot, drop: DropOutbound) -> None:
    snapshot.sessions[drop.tenant, drop.client_id].outbound.pop(drop.row, None)


def _put_inbound(snapshot: Snapshot, put: PutInbound) -> None:
    snapshot.sessions[put.tenant, put.client_id].inbound.add(put.packet_id)


def _drop_inbound(snapshot: Snapshot, drop: DropInbound) -> None:
    snapshot.sessions[drop.tenant, drop.client_id].inbound.discard(drop.packet_id)


def _put_will(snapshot: Snapshot, put: PutWill) -> None:
    snapshot.wills[put.tenant, put.client_id] = Will(put.message, put.delay_s)


def _drop_will(snapshot: Snapshot, drop: DropWill) -> None:
    snapshot.wills.pop((drop.tenant, drop.client_id), None)


def _put_retained(snapshot: Snapshot, put: PutRetained) -> None:
    snapshot.retained[put.tenant, put.message.topic] = put.message


def _drop_retained(snapshot: Snapshot, drop: DropRetained) -> None:
    snapshot.retained.pop((drop.tenant, drop.topic), None)


_APPLY: Final[Mapping[type[Operation], Callable[[Snapshot, Any], None]]] = {
    PutSession: _put_session,
    DropSession: _drop_session,
    PutSubscription: _put_subscription,
    DropSubscription: _drop_subscription,
    PutOutbound: _put_outbound,
    MoveOutbound: _move_outbound,
    DropOutbound: _drop_outbound,
    PutInbound: _put_inbound,
    DropInbound: _drop_inbound,
    PutWill: _put_will,
    DropWill: _drop_will,
    PutRetained: _put_retained,
    DropRetained: _drop_retained,
}
