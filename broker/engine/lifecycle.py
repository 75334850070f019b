"""How connections and Sessions end: DISCONNECT, loss, errors, expiry, and the Will that may follow.

Knows: the order of the end: tell the peer, detach, publish or schedule the Will, end or schedule the Session.
Does not know: how they begin (connect).
Spec: v5 §3.1.2.5, §3.1.2.11.2, §3.14, §4.13; v3.1.1 §3.1.2.5, §3.14, §4.8.
"""

from functools import partial

from msgspec.structs import replace

from ..protocol.connection import ConnectionState
from ..protocol.errors import ProtocolError
from ..protocol.packets import V5, ClientId, Disconnect
from ..protocol.properties import NO_PROPERTIES, Properties
from ..protocol.reason_codes import ReasonCode
from ..session.records import Will
from ..session.session import NEVER_EXPIRES, Session
from .connection import ServedConnection
from .effects import Close
from .fan_out import pass_on_shared
from .pages import drain_or_drop
from .publish import publish_message, travelling
from .state import EngineState
from .stats import count


def handle_disconnect(
    state: EngineState, connection: ServedConnection, packet: Disconnect, now: float
) -> None:
    """The Client takes its leave; its Will goes with it if all is well (v5 [MQTT-3.14.4-3]).

    Raises:
        ProtocolError: it turns a Session that ends with the connection into one that does not.
    """
    session = connection.attached
    interval = packet.properties.session_expiry_interval
    if interval is not None:
        if session.expiry_interval == 0 and interval > 0:
            raise ProtocolError("Session Expiry Interval was 0 at CONNECT", spec="v5 §3.14.2.2.2")
        session.expiry_interval = min(interval, state.limits.session_expiry_maximum_s)
    if packet.reason_code is ReasonCode.SUCCESS:
        drop_will(state, session)
    end_connection(state, connection, packet.reason_code, "DISCONNECT from the client", now)


def close_connection(
    state: EngineState, connection: ServedConnection, reason_code: ReasonCode, detail: str, now: float
) -> None:
    """End a connection from our side, telling a v5 Client why (v5 [MQTT-3.14.0-1])."""
    if connection.state is ConnectionState.CONNECTED and connection.version == V5:
        properties = explanation(state, connection, reason_code)
        if not connection.write_packet(Disconnect(reason_code, properties)):
            connection.write_packet(Disconnect(reason_code))
    end_connection(state, connection, reason_code, detail, now)


def explanation(state: EngineState, connection: ServedConnection, reason_code: ReasonCode) -> Properties:
    """Return the Reason String of a refusal, where Clients are told; from a fixed list (v5 §3.2.2.3.9)."""
    if not state.reason_strings or connection.version != V5 or reason_code < ReasonCode.UNSPECIFIED_ERROR:
        return NO_PROPERTIES
    return Properties(reason_string=reason_code.name.replace("_", " ").capitalize())


def end_connection(
    state: EngineState, connection: ServedConnection, reason_code: ReasonCode, detail: str, now: float
) -> None:
    """Close the connection and let its Session go on without it, or end."""
    if connection.state is ConnectionState.CLOSED:
        return
    connection.close()
    count(state.stats.closed, reason_code)
    if connection.timer is not None:
        state.timers.cancel(connection.timer)
    if connection.tap is not None:
        connection.tap.sent(b"".join(connection.outgoing), connection.version)  # The last words go first.
        connection.tap.closed(reason_code, detail)
        connection.tap = None
    connection.routes.clear()
    connection.backlog.clear()
    state.effects.append(Close(connection, reason_code, detail))
    session = connection.session
    if session is not None and session.connection is connection:
        connection.session = None
        _detach(state, session, now)


def end_session(state: EngineState, session: Session, now: float) -> None:
    """Forget a Session that has no connection, publishing a Will that still waits (v5 §3.1.2.5)."""
    publish_will(state, session, now)
    cancel_end(state, session)
    tenant = state.tenant(session.tenant)
    for topic_filter in session.subscriptions:
        tenant.tree.remove(topic_filter, session)
    if session.subscriptions:
        tenant.changed()
    if tenant.sessions.get(session.client_id) is session:
        del tenant.sessions[session.client_id]
        state.session_count -= 1
        state.durable_sessions.pop(session.number, None)
    pass_on_shared(state, session, now)
    session.forget()
    drain_or_drop(state, session)


def publish_will(state: EngineState, session: Session, now: float) -> None:
    """Publish the Session's Will if there is one, and forget it (v5 [MQTT-3.1.2-8])."""
    if session.will is not None:
        will = session.will
        session.will = None
        publish_will_message(state, session.tenant, session.client_id, will, now)


def publish_will_message(
    state: EngineState, tenant_name: str, client_id: ClientId, will: Will, now: float
) -> None:
    """Publish a Will; its expiry counts from now (v5 §3.1.3.2.4)."""
    properties, expires_at = travelling(will.message.properties, now)
    message = replace(will.message, properties=properties, expires_at=expires_at)
    state.stats.wills_published += 1
    tenant = state.tenant(tenant_name)
    publish_message(state, tenant, message, now, publisher=tenant.sessions.get(client_id))
    if state.journal is not None:
        state.journal.drop_will(tenant_name, client_id)


def drop_will(state: EngineState, session: Session) -> None:
    """Forget the Will without publishing it (v5 [MQTT-3.14.4-3])."""
    if session.will is not None:
        session.will = None
        if state.journal is not None:
            state.journal.drop_will(session.tenant, session.client_id)


def schedule_end(state: EngineState, session: Session, since: float) -> None:
    """Set the timers of a Session without a connection `since` then: its Will, its expiry."""
    timers = []
    if session.will is not None:
        due = since + min(session.will.delay_s, session.expiry_interval)
        timers.append(state.timers.add(due, partial(_will_is_due, state, session.will), session))
    if session.expiry_interval != NEVER_EXPIRES:
        due = since + session.expiry_interval
        timers.append(state.timers.add(due, partial(_expiry_is_due, state), session))
    if timers:
        state.session_timers[session] = timers


def cancel_end(state: EngineState, session: Session) -> None:
    """Take the timers of a Session back: its Client is there again, or it ended."""
    for timer in state.session_timers.pop(session, ()):
        state.timers.cancel(timer)


def _detach(state: EngineState, session: Session, now: float) -> None:
    session.detach(now)
    if session.expiry_interval == 0:
        end_session(state, session, now)
        return
    if session.will is not None and session.will.delay_s == 0:
        publish_will(state, session, now)
    pass_on_shared(state, session, now)
    session.leave_to_store()
    session.store()
    schedule_end(state, session, now)


def _will_is_due(state: EngineState, will: Will, session: Session, now: float) -> None:
    if session.will is will and session.connection is None:
        publish_will(state, session, now)


def _expiry_is_due(state: EngineState, session: Session, now: float) -> None:
    is_current = state.tenant(session.tenant).sessions.get(session.client_id) is session
    if is_current and session.has_expired(now):
        state.stats.sessions_expired += 1
        end_session(state, session, now)
