"""PUBLISH of a Client: the cached route, the answer, the acknowledgement. The hot path.

Knows: what the publisher may do on a topic, when an acknowledgement must wait.
Does not know: how receivers are served (fan_out), how rules are evaluated, how frames are written.
Spec: v5 §3.3, §4.3; v3.1.1 §3.3, §4.3.
"""

from typing import Final

from ..access.asking import Action
from ..protocol.codec import encode_packet
from ..protocol.errors import NotAuthorizedError, ReceiveMaximumExceededError, TopicNameInvalidError
from ..protocol.packets import V5, PubAck, Publish, PubRec, TopicName
from ..protocol.properties import NO_PROPERTIES, Properties
from ..protocol.reason_codes import ReasonCode
from ..protocol.topics import levels
from ..session.message import ApplicationMessage
from ..session.session import Session
from .connection import Hold, Route, ServedConnection
from .decisions import require
from .fan_out import REMEMBERED_TOPIC_BYTES_MAXIMUM, audience, deliver, fan_out, send_frame
from .holds import hold, wait_for_store
from .retained import retain
from .state import EngineState, Tenant

_PUBACK: Final = b"\x40\x02"
_PUBREC: Final = b"\x50\x02"
#: Topics whose route one connection remembers; beyond it they are forgotten all at once.
_ROUTES_MAXIMUM: Final = 1024


def handle_publish(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Publish, now: float
) -> None:
    """Route one message of a Client and see to its acknowledgement.

    Raises:
        NotAuthorizedError: it may not publish this, and its version and QoS have no other answer.
        ReceiveMaximumExceededError: a v5 Client ignores our Receive Maximum.
        TopicNameInvalidError: the topic is beyond our limits.
    """
    route = connection.routes.get(packet.topic)
    if route is None or route.generation != tenant.generation:
        route = _find_route(state, tenant, connection, packet.topic)
    frame = packet.frame
    if frame is not None and route.is_plain:
        # QoS 0 to Sessions, and the bytes may travel on as they are: no message, no encoding.
        size = len(frame)
        version = connection.version
        for group in route.audience.groups:
            if group.version == version and group.is_plain and size <= group.maximum_packet_size:
                send_frame(state, group.receivers, frame)
            else:
                deliver(state, group, _message(connection, packet, now), now)
    elif packet.qos == 0:
        if route.may_retain if packet.is_retain else route.may_publish:
            _pass_on(state, tenant, connection, packet, route, now)
        else:
            _refuse(state, connection, packet)
    else:
        _handle_acknowledged(state, tenant, connection, packet, route, now)


def publish_message(
    state: EngineState,
    tenant: Tenant,
    message: ApplicationMessage,
    now: float,
    publisher: Session | None = None,
) -> None:
    """Route a message that no connection sent: a service's, or the Will of a Session, the `publisher`."""
    if message.is_retain:
        retain(state, tenant, message)
    fan_out(state, audience(state, tenant, message.topic, publisher), message, now, None)


def travelling(properties: Properties, now: float) -> tuple[Properties, float | None]:
    """Return the Properties of a PUBLISH or Will that receivers get, and when the message expires."""
    interval = properties.message_expiry_interval
    kept = Properties(
        payload_format_indicator=properties.payload_format_indicator,
        content_type=properties.content_type,
        response_topic=properties.response_topic,
        correlation_data=properties.correlation_data,
        user_properties=properties.user_properties,
    )
    return (NO_PROPERTIES if kept == NO_PROPERTIES else kept), None if interval is None else now + interval


def _handle_acknowledged(
    state: EngineState,
    tenant: Tenant,
    connection: ServedConnection,
    packet: Publish,
    route: Route,
    now: float,
) -> None:
    """QoS 1 and 2: the same fan-out, then PUBACK or PUBREC in the order of arrival (v5 §4.6)."""
    session = connection.attached
    packet_id = packet.packet_id
    answer = (_PUBACK if packet.qos == 1 else _PUBREC) + packet_id.to_bytes(2, "big")
    if packet.qos == 2 and packet_id in session.inbound:
        # v5 [MQTT-4.3.3-10]: the message is here already; say so again and do nothing else.
        connection.acknowledge(answer, session.inbound_commit)
        return
    if connection.unacknowledged or session.inbound:
        _check_quota(state, connection, session)
    if not (route.may_retain if packet.is_retain else route.may_publish):
        _refuse(state, connection, packet)
        return
    journal = state.journal
    receipt = None
    if journal is None:
        _pass_on(state, tenant, connection, packet, route, now)
        if packet.qos == 2:
            session.accept_inbound(packet_id)
    else:
        journal.open_receipt()
        _pass_on(state, tenant, connection, packet, route, now)
        if packet.qos == 2:
            session.accept_inbound(packet_id)
        receipt = journal.close_receipt()
        if (
            receipt is not None
            and journal.size_bytes + journal.taken_bytes > state.limits.journal_bytes_maximum
        ):
            wait_for_store(state, connection)
    if connection.version == V5 and route.audience.is_empty:
        code = ReasonCode.NO_MATCHING_SUBSCRIBERS
        answer = encode_packet(PubAck(packet_id, code) if packet.qos == 1 else PubRec(packet_id, code), V5)
    connection.acknowledge(answer, receipt)


def _pass_on(
    state: EngineState,
    tenant: Tenant,
    connection: ServedConnection,
    packet: Publish,
    route: Route,
    now: float,
) -> None:
    message = _message(connection, packet, now)
    if packet.is_retain:
        retain(state, tenant, message)
    fan_out(state, route.audience, message, now, connection)


def _check_quota(state: EngineState, connection: ServedConnection, session: Session) -> None:
    """Hold a Client to our Receive Maximum: v5 was told and is closed, 3.1.1 is read from later."""
    waiting = connection.unacknowledged_publishes + len(session.inbound)
    if waiting < state.limits.receive_maximum:
        return
    if connection.version == V5:
        raise ReceiveMaximumExceededError("more unacknowledged messages than allowed", spec="v5 §3.3.4")
    if connection.unacknowledged:
        state.stats.receive_maximum_holds += not connection.hold & Hold.ACKNOWLEDGEMENTS
        hold(state, connection, Hold.ACKNOWLEDGEMENTS)


def _refuse(state: EngineState, connection: ServedConnection, packet: Publish) -> None:
    """Answer a PUBLISH that is not allowed: by its acknowledgement in v5, otherwise by the end."""
    state.stats.publishes_denied += 1
    code = ReasonCode.NOT_AUTHORIZED
    if connection.version != V5 or packet.qos == 0:
        raise NotAuthorizedError("publish not allowed", spec="v5 §3.14.2.1; v3.1.1 §3.3.5")
    answer = PubAck(packet.packet_id, code) if packet.qos == 1 else PubRec(packet.packet_id, code)
    connection.acknowledge(encode_packet(answer, V5), None)


def _message(connection: ServedConnection, packet: Publish, now: float) -> ApplicationMessage:
    """Return what travels on of a packet."""
    properties = packet.properties
    expires_at = None
    if properties is not NO_PROPERTIES:
        properties, expires_at = travelling(properties, now)
    return ApplicationMessage(
        packet.topic, packet.payload, packet.qos, packet.is_retain, properties, expires_at, connection.origin
    )


def _find_route(state: EngineState, tenant: Tenant, connection: ServedConnection, topic: TopicName) -> Route:
    """Decide once per topic and generation what the connection's messages on it meet.

    Raises:
        TopicNameInvalidError: the topic is longer or deeper than we allow.
        UndecidedError: whether the Client may publish must be asked for.
    """
    limits = state.limits
    if len(topic) > limits.topic_bytes_maximum or levels(topic) > limits.topic_levels_maximum:
        raise TopicNameInvalidError("topic beyond our limits", spec="v5 §3.14.2.1")
    require(connection, Action.PUBLISH, (topic,))
    permissions = connection.permissions
    may_publish = permissions.may_publish(topic, is_retain=False)
    receivers = audience(state, tenant, topic, connection.session)
    route = Route(
        tenant.generation,
        may_publish,
        permissions.may_publish(topic, is_retain=True),
        may_publish and not receivers.shared and not receivers.mailboxes,
        receivers,
    )
    if len(topic) <= REMEMBERED_TOPIC_BYTES_MAXIMUM:
        if len(connection.routes) >= _ROUTES_MAXIMUM:
            connection.routes.clear()
        connection.routes[topic] = route
    return route
