"""The engine's state after a restart, from what the store kept.

Knows: how stored Sessions, Wills and retained messages become live ones.
Does not know: how they are stored.
Spec: v5 §3.1.2.5, §4.1, §4.4; v3.1.1 §4.1, §4.4.
"""

from collections.abc import Iterable

from ..protocol.packets import ClientId
from ..session.flow import Flow
from ..session.records import DeliveryRow, Will
from ..session.session import Session
from ..storage.ports import Snapshot, StoredSession
from .lifecycle import end_session, publish_will_message, schedule_end
from .pages import delivery_of
from .retained import keep_retained
from .state import EngineState


def restore(state: EngineState, snapshot: Snapshot, now: float) -> None:
    """Put back everything; Clients that were connected count as gone since `now`.

    Sessions whose time is over end at once, and Wills of Clients without a Session are published: their
    connection ended with the process.
    """
    for (tenant_name, _), message in snapshot.retained.items():
        keep_retained(state, state.tenant(tenant_name), message)
    if state.journal is not None:
        state.journal.continue_from(next_row=snapshot.next_row, next_session=snapshot.next_session)
    wills = dict(snapshot.wills)
    living: list[tuple[Session, StoredSession]] = []
    ended: list[tuple[Session, StoredSession]] = []
    for stored in snapshot.sessions.values():
        session = _make_session(state, stored, now)
        (ended if session.has_expired(now) else living).append((session, stored))
    for session, stored in living:
        state.keep(session)
        tree = state.tenant(session.tenant).tree
        for subscription in stored.subscriptions.values():
            tree.add(subscription, session)
    for session, stored in living + ended:  # Now every Shared Subscription has its members.
        _put_in_flight(state, session, stored.in_flight)
        session.will = wills.pop((session.tenant, session.client_id), None)
    for session, stored in living:
        if stored.row.disconnected_at is None:
            session.store()  # Its time runs from this restart on, not from the next one.
        schedule_end(state, session, session.disconnected_at or now)
    for session, _ in ended:
        end_session(state, session, now)
    _publish_wills(state, wills.items(), now)


def _make_session(state: EngineState, stored: StoredSession, now: float) -> Session:
    row = stored.row
    session = Session(
        row.tenant,
        row.client_id,
        limits=state.session_limits,
        stats=state.stats.sessions,
        dirty=state.dirty,
        journal=state.journal,
        number=row.number,
    )
    session.expiry_interval = row.expiry_interval
    session.disconnected_at = now if row.disconnected_at is None else row.disconnected_at
    session.identity = row.identity
    session.dropped = row.dropped
    session.inbound = stored.inbound
    session.subscriptions = stored.subscriptions
    session.restore_pending(stored.pending_messages, stored.pending_bytes)
    return session


def _put_in_flight(state: EngineState, session: Session, rows: Iterable[DeliveryRow]) -> None:
    tenant = state.tenant(session.tenant)
    for row in rows:
        flow = Flow.AWAIT_PUBACK if row.flow is None else row.flow
        session.restore_in_flight(delivery_of(tenant, row), row=row.row, packet_id=row.packet_id, flow=flow)


def _publish_wills(
    state: EngineState, wills: Iterable[tuple[tuple[str, ClientId], Will]], now: float
) -> None:
    for (tenant_name, client_id), will in wills:
        publish_will_message(state, tenant_name, client_id, will, now)
