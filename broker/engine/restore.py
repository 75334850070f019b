"""The engine's state after a restart, from what the store kept.

Knows: how stored Sessions, Wills and retained messages become live ones.
Does not know: how they are stored.
Spec: v5 §3.1.2.5, §4.1, §4.4; v3.1.1 §4.1, §4.4.
"""

from ..protocol.packets import ClientId
from ..session.message import Delivery
from ..session.records import PutSession
from ..session.session import Session
from ..storage.ports import Snapshot, StoredSession
from .lifecycle import end_session, publish_will_message, schedule_end
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
        rows = (row for stored in snapshot.sessions.values() for row in stored.outbound)
        state.journal.next_row = max(rows, default=0) + 1
    sessions = [_restore_session(state, *key, stored, now) for key, stored in snapshot.sessions.items()]
    for (tenant_name, client_id), will in list(snapshot.wills.items()):
        session = state.tenant(tenant_name).sessions.get(client_id)
        if session is None:
            publish_will_message(state, tenant_name, client_id, will, now)
        else:
            session.will = will
    for session in sessions:
        if session.has_expired(now):
            end_session(state, session, now)
        else:
            schedule_end(state, session, session.disconnected_at or now)


def _restore_session(
    state: EngineState, tenant_name: str, client_id: ClientId, stored: StoredSession, now: float
) -> Session:
    tenant = state.tenant(tenant_name)
    session = Session(
        tenant_name,
        client_id,
        limits=state.session_limits,
        stats=state.stats.sessions,
        dirty=state.dirty,
        journal=state.journal,
    )
    session.expiry_interval = stored.expiry_interval
    session.disconnected_at = now if stored.disconnected_at is None else stored.disconnected_at
    if stored.disconnected_at is None and state.journal is not None:
        # Its time runs from this restart on, not from the next one.
        state.journal.append(PutSession(tenant_name, client_id, stored.expiry_interval, now, stored.identity))
    session.identity = stored.identity
    session.inbound = set(stored.inbound)
    for subscription in stored.subscriptions.values():
        session.subscriptions[subscription.topic_filter] = subscription
        tenant.tree.add(subscription, session)
    for row, outbound in sorted(stored.outbound.items()):
        delivery = Delivery(outbound.message, outbound.qos, outbound.is_retain, outbound.identifiers)
        session.restore(delivery, row=row, packet_id=outbound.packet_id, flow=outbound.flow)
    tenant.sessions[client_id] = session
    state.session_count += 1
    return session
