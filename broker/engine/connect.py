"""CONNECT: checks, authentication, Session take-over and resumption, CONNACK.

Knows: what must hold before a Client is let in, and in which order it learns of it.
Does not know: how a principal is found, how connections end (lifecycle).
Spec: v5 §3.1, §3.2, §4.1; v3.1.1 §3.1, §3.2, §4.1.
"""

from functools import partial
from typing import Final

from msgspec.structs import replace

from ..access.asking import Question
from ..access.ports import AccessRefusedError, ConnectRequest
from ..access.principal import Principal
from ..protocol.codec import encode_packet
from ..protocol.connection import ConnectionState
from ..protocol.errors import (
    ClientIdentifierError,
    NotAuthorizedError,
    PacketTooLargeError,
    PeerError,
    TopicNameInvalidError,
)
from ..protocol.packets import V3_1_1, V5, ClientId, ConnAck, Connect
from ..protocol.packets import Will as ConnectWill
from ..protocol.properties import NO_PROPERTIES, Properties
from ..protocol.reason_codes import ReasonCode, connect_return_code
from ..protocol.topics import levels
from ..session.message import ApplicationMessage
from ..session.records import Will
from ..session.session import NEVER_EXPIRES, Session
from .connection import Exchange, Hold, Origin, ServedConnection
from .decisions import questions_about_session
from .effects import AskMethod, Authenticate, Authorize
from .holds import hold, unhold
from .lifecycle import (
    cancel_end,
    close_connection,
    drop_will,
    end_connection,
    end_session,
    explanation,
)
from .state import EngineState, Tenant
from .subscribe import withdraw_forbidden

#: v5 §3.1.2.11.3: what holds where the Client names none.
_RECEIVE_MAXIMUM_DEFAULT: Final = 65_535


def handle_connect(state: EngineState, connection: ServedConnection, packet: Connect, now: float) -> None:
    """Check a CONNECT as far as that goes without knowing who it is, then ask who it is."""
    connection.handle_connect(packet)
    connection.connect = packet
    client_id = packet.client_id
    try:
        if not client_id:
            if packet.version == V3_1_1 and not packet.is_clean_start:
                raise ClientIdentifierError(
                    "empty ClientId without Clean Session", spec="v3.1.1 [MQTT-3.1.3-8]"
                )
            client_id = state.new_client_id()
        method_name = packet.properties.authentication_method
        if method_name is not None and method_name not in state.methods:
            raise _BadAuthenticationMethodError("no such method", spec="v5 [MQTT-4.12.0-1]")
    except PeerError as error:
        refuse(state, connection, error.reason_code, str(error), now)
        return
    connection.client_id = client_id
    hold(state, connection, Hold.AUTHENTICATING)
    request = ConnectRequest(
        client_id=client_id,
        version=packet.version,
        user_name=packet.user_name,
        password=packet.password,
        certificate=connection.certificate,
        listener=connection.listener,
        tenant=connection.tenant_name,
        peer_address=connection.peer_address,
    )
    if method_name is None:
        connection.request = request
        state.effects.append(Authenticate(connection, request))
        return
    method = state.methods[method_name]
    connection.exchange = Exchange(method, replace(request, password=None))
    question = partial(method.start, request, packet.properties.authentication_data)
    state.effects.append(AskMethod(connection, question))


def handle_authenticated(
    state: EngineState, connection: ServedConnection, answer: Principal | AccessRefusedError, now: float
) -> None:
    """Let the Client in or not; nothing happens where it went away meanwhile."""
    packet = connection.connect
    if connection.state is not ConnectionState.AUTHENTICATING or packet is None:
        return
    if isinstance(answer, AccessRefusedError):
        refuse(state, connection, answer.reason_code, answer.detail, now)
        return
    if connection.is_outdated and connection.request is not None:
        connection.is_outdated = False
        state.effects.append(Authenticate(connection, connection.request))
        return
    if questions := _open_questions(state, answer, packet):
        resume = partial(_decided, state, connection, answer)
        state.effects.append(Authorize(connection, answer, questions, resume))
        return
    connection.connect = None
    connection.principal = answer
    connection.tenant_name = answer.tenant
    tenant = state.tenant(answer.tenant)
    try:
        will = None if packet.will is None else _check_will(state, connection, packet.will)
        properties = _announcements(state, connection, packet)
        session, is_present = _find_session(state, tenant, connection, answer, packet, now)
    except (PeerError, AccessRefusedError) as error:
        refuse(state, connection, error.reason_code, str(error), now)
        return
    connection.origin = Origin(connection.client_id, answer)
    connection.session = session
    session.expiry_interval = _expiry_interval(state, packet)
    if will is not None:
        session.will = will
        if state.journal is not None and (session.is_durable or state.stores_every_will):
            state.journal.put_will(tenant.name, session.client_id, will)
    session.disconnected_at = None
    session.store()
    _welcome(
        state, tenant, connection, session, packet, ConnAck(is_present, ReasonCode.SUCCESS, properties), now
    )


def refuse(
    state: EngineState, connection: ServedConnection, reason_code: ReasonCode, detail: str, now: float
) -> None:
    """Answer a CONNECT with a failure, where the version has a word for it, and close."""
    state.stats.connects_refused += 1
    if connection.version == V5 or connect_return_code(reason_code) is not None:
        properties = explanation(state, connection, reason_code)
        if not connection.write_packet(ConnAck(False, reason_code, properties)):
            connection.write_packet(ConnAck(False, reason_code))
    end_connection(state, connection, reason_code, detail, now)


def watch_connect(state: EngineState, connection: ServedConnection, now: float) -> None:
    """A Client must have been let in by now (timer set when the connection was opened)."""
    if connection.state in (ConnectionState.AWAIT_CONNECT, ConnectionState.AUTHENTICATING):
        end_connection(state, connection, ReasonCode.MAXIMUM_CONNECT_TIME, "no CONNECT in time", now)


class _BadAuthenticationMethodError(PeerError):
    """The Client asks for enhanced authentication, and there is no method (v5 §4.12)."""

    reason_code = ReasonCode.BAD_AUTHENTICATION_METHOD


def _open_questions(state: EngineState, principal: Principal, packet: Connect) -> list[Question]:
    """Return what must be asked before the Client is let in: may it have its Will and its Session?"""
    is_kept = not packet.is_clean_start
    tenant = state.tenant(principal.tenant)
    session = tenant.sessions.get(ClientId(principal.client_id)) if is_kept else None
    return questions_about_session(principal, session, None if packet.will is None else packet.will.topic)


def _decided(
    state: EngineState, connection: ServedConnection, principal: Principal, is_complete: bool, now: float
) -> None:
    """Who decides has answered; without an answer the Client is better off to come again."""
    if is_complete:
        handle_authenticated(state, connection, principal, now)
    else:
        detail = "nobody decided what the client may do"
        refusal = AccessRefusedError(ReasonCode.SERVER_UNAVAILABLE, detail)
        handle_authenticated(state, connection, refusal, now)


def _check_will(state: EngineState, connection: ServedConnection, will: ConnectWill) -> Will:
    """Return the Will as it will be published.

    Raises:
        NotAuthorizedError: the Client may not publish to its topic.
        TopicNameInvalidError: the topic is beyond our limits.
    """
    limits = state.limits
    if len(will.topic) > limits.topic_bytes_maximum or levels(will.topic) > limits.topic_levels_maximum:
        raise TopicNameInvalidError("Will Topic beyond our limits", spec="v5 §3.2.2.2")
    if not connection.permissions.may_publish(will.topic, is_retain=will.retain):
        raise NotAuthorizedError("Will not allowed", spec="v5 §3.2.2.2")
    properties = will.properties
    message = ApplicationMessage(
        will.topic,
        will.payload,
        will.qos,
        will.retain,
        properties,
        None,
        Origin(connection.client_id, connection.principal, is_will=True),
    )
    return Will(message, properties.will_delay_interval or 0)


def _find_session(
    state: EngineState,
    tenant: Tenant,
    connection: ServedConnection,
    principal: Principal,
    packet: Connect,
    now: float,
) -> tuple[Session, bool]:
    """Return the Session to attach, and whether it was there before (v5 §3.1.2.4).

    A Session belongs to whoever made it: nobody gets another's messages by its ClientId. One that was
    made without identity gives way to a Client with one.

    Raises:
        AccessRefusedError: the Session is somebody else's, or there are too many.
    """
    client_id = ClientId(connection.client_id)
    session = tenant.sessions.get(client_id)
    is_foreign = session is not None and session.identity != principal.identity
    if session is not None and session.identity is not None and is_foreign:
        raise AccessRefusedError(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "the Session is somebody else's")
    if session is not None and isinstance(session.connection, ServedConnection):
        # v5 [MQTT-3.1.4-3]; v3.1.1 [MQTT-3.1.4-2]: the later connection wins.
        state.stats.session_takeovers += 1
        detail = "the client connected again"
        close_connection(state, session.connection, ReasonCode.SESSION_TAKEN_OVER, detail, now)
        session = tenant.sessions.get(client_id)
    if session is not None and (packet.is_clean_start or is_foreign or session.has_expired(now)):
        end_session(state, session, now)
        session = None
    if session is not None:
        drop_will(state, session)  # v5 [MQTT-3.1.3-9]: back before the Will Delay has passed.
        cancel_end(state, session)
        return session, True
    if state.session_count >= state.limits.sessions_maximum:
        raise AccessRefusedError(ReasonCode.QUOTA_EXCEEDED, "sessions_maximum reached")
    is_durable = _expiry_interval(state, packet) > 0
    session = Session(
        tenant.name,
        client_id,
        limits=state.session_limits,
        stats=state.stats.sessions,
        dirty=state.dirty,
        journal=state.journal if is_durable else None,
    )
    session.identity = principal.identity
    state.keep(session)
    return session, False


def _expiry_interval(state: EngineState, packet: Connect) -> int:
    """Seconds that the Session outlives its connection; 3.1.1 knows 0 and for ever only."""
    if packet.version == V5:
        asked = packet.properties.session_expiry_interval or 0
    else:
        asked = 0 if packet.is_clean_start else NEVER_EXPIRES
    return min(asked, state.limits.session_expiry_maximum_s)


def _welcome(
    state: EngineState,
    tenant: Tenant,
    connection: ServedConnection,
    session: Session,
    packet: Connect,
    answer: ConnAck,
    now: float,
) -> None:
    """Send CONNACK, then what the Session has for the Client (v5 [MQTT-3.2.0-1])."""
    limits = state.limits
    if state.taps:
        connection.tap = state.taps.get((session.tenant, session.client_id))
        if connection.tap is not None:
            connection.tap.attached(packet)
    if limits.server_keep_alive_s is not None and packet.version == V5:
        connection.keep_alive = limits.server_keep_alive_s
    connection.accept(
        maximum_packet_size=limits.maximum_packet_size, topic_alias_maximum=limits.topic_alias_maximum
    )
    connection.write_packet(answer)
    state.stats.connects_accepted += 1
    permissions = connection.permissions
    has_other_rights = session.permissions != permissions
    before = session.frame_needs
    session.permissions = permissions
    session.may_receive = permissions.may_receive
    if has_other_rights:
        session.drop_forbidden()
    session.attach(
        connection,
        receive_maximum=packet.properties.receive_maximum or _RECEIVE_MAXIMUM_DEFAULT,
        topic_alias_maximum=min(packet.properties.topic_alias_maximum or 0, limits.topic_alias_maximum),
        now=now,
    )
    if session.subscriptions:
        withdraw_forbidden(state, tenant, connection)
        if has_other_rights or before != session.frame_needs:
            tenant.changed()  # Plans depend on all of them.
    if connection.timer is not None:
        state.timers.cancel(connection.timer)
    if connection.keep_alive:
        _watch_silence(state, connection, now)
    unhold(state, connection, Hold.AUTHENTICATING)


def _announcements(state: EngineState, connection: ServedConnection, packet: Connect) -> Properties:
    """Return the CONNACK's Properties: only what differs from the specification's defaults (v5 §3.2.2.3).

    Raises:
        PacketTooLargeError: the Client does not take so large a CONNACK, so it cannot be let in.
    """
    if packet.version == V3_1_1:
        return NO_PROPERTIES
    limits = state.limits
    asked = packet.properties.session_expiry_interval or 0
    granted = _expiry_interval(state, packet)
    properties = Properties(
        session_expiry_interval=granted if granted != asked else None,
        receive_maximum=limits.receive_maximum,
        maximum_packet_size=limits.maximum_packet_size,
        assigned_client_identifier=None if packet.client_id else connection.client_id,
        topic_alias_maximum=limits.topic_alias_maximum or None,
        server_keep_alive=limits.server_keep_alive_s,
        authentication_method=packet.properties.authentication_method,
        authentication_data=None if connection.exchange is None else connection.exchange.data,
    )
    if (
        len(encode_packet(ConnAck(False, ReasonCode.SUCCESS, properties), V5))
        > connection.maximum_packet_size
    ):
        raise PacketTooLargeError(
            "no CONNACK fits the Client's Maximum Packet Size", spec="v5 [MQTT-3.1.2-24]"
        )
    return properties


def _watch_silence(state: EngineState, connection: ServedConnection, now: float) -> None:
    """Look whether the Client has been silent for too long (v5 [MQTT-3.1.2-22])."""
    if connection.hold:
        connection.last_received = now  # While we do not listen, the Client is not silent.
    until = connection.silent_until()
    if connection.state is not ConnectionState.CONNECTED or until is None:
        return
    if now < until:
        connection.timer = state.timers.add(until, partial(_watch_silence, state), connection)
        return
    state.stats.keep_alive_timeouts += 1
    close_connection(state, connection, ReasonCode.KEEP_ALIVE_TIMEOUT, "silent for too long", now)
