"""SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a Subscription brings.

Knows: what a filter must be to be granted, which retained messages follow, in slices.
Does not know: how live messages find their receivers (fan_out).
Spec: v5 §3.8 to §3.11, §3.3.1.3; v3.1.1 §3.8 to §3.11, §3.3.1.3.
"""

from collections.abc import Iterator
from typing import Final

from ..access.asking import Action
from ..protocol.codec import encode_packet
from ..protocol.errors import ProtocolError
from ..protocol.packets import (
    SubAck,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    UnsubAck,
    Unsubscribe,
)
from ..protocol.reason_codes import ReasonCode
from ..protocol.subscription import Subscription
from ..protocol.topics import has_wildcard, levels, split_shared
from ..session.message import Delivery
from ..session.session import Session
from .connection import Origin, ServedConnection
from .decisions import inner_filter, require
from .retained import drop_retained
from .state import EngineState, Tenant
from .stats import count

#: Retained messages sent to one connection before others have their turn.
_SLICE: Final = 500


def handle_subscribe(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Subscribe, now: float
) -> None:
    """Grant or refuse each filter and answer; retained messages follow as backlog (v5 [MQTT-3.8.4-1] ff.).

    Raises:
        ProtocolError: more filters in one packet than we allow.
        UndecidedError: whether the Client may subscribe must be asked for.
    """
    _check_count(state, len(packet.requests))
    require(connection, Action.SUBSCRIBE, [inner_filter(request.topic_filter) for request in packet.requests])
    session = connection.attached
    identifiers = packet.properties.subscription_identifiers
    identifier = identifiers[0] if identifiers else None
    codes = []
    for request in packet.requests:
        code = _refusal(state, connection, session, request)
        if code is None:
            qos = min(request.qos, connection.permissions.maximum_qos(inner_filter(request.topic_filter)))
            code = ReasonCode(qos)
            subscription = Subscription(
                request.topic_filter,
                qos,
                request.is_no_local,
                request.is_retain_as_published,
                request.retain_handling,
                identifier,
            )
            is_new = _add(state, tenant, session, subscription)
            if request.retain_handling == 0 or (request.retain_handling == 1 and is_new):
                connection.backlog.pop(request.topic_filter, None)
                connection.backlog[request.topic_filter] = _retained(
                    state, tenant, connection, subscription, now
                )
        else:
            count(state.stats.subscriptions_refused, code)
        codes.append(code)
    _answer(state, connection, SubAck(packet.packet_id, tuple(codes)))


def handle_unsubscribe(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Unsubscribe, now: float
) -> None:
    """Take filters back and answer (v5 [MQTT-3.10.4-1] ff.).

    Raises:
        ProtocolError: more filters in one packet than we allow.
    """
    _check_count(state, len(packet.topic_filters))
    session = connection.attached
    for topic_filter in packet.topic_filters:
        connection.backlog.pop(topic_filter, None)
    codes = tuple(
        ReasonCode.SUCCESS
        if remove(state, tenant, session, topic_filter)
        else ReasonCode.NO_SUBSCRIPTION_EXISTED
        for topic_filter in packet.topic_filters
    )
    _answer(state, connection, UnsubAck(packet.packet_id, codes))


def remove(state: EngineState, tenant: Tenant, session: Session, topic_filter: TopicFilter) -> bool:
    """Take one Subscription from a Session; False where there was none."""
    if session.subscriptions.pop(topic_filter, None) is None:
        return False
    tenant.tree.remove(topic_filter, session)
    tenant.changed()
    if session.is_durable and state.journal is not None:
        state.journal.drop_subscription(session.number, topic_filter)
    return True


def withdraw_forbidden(state: EngineState, tenant: Tenant, connection: ServedConnection) -> None:
    """Take back Subscriptions that the Client may no longer have: its rights may have changed since."""
    session = connection.attached
    for topic_filter in tuple(session.subscriptions):
        if not connection.permissions.may_subscribe(inner_filter(topic_filter)):
            remove(state, tenant, session, topic_filter)


def send_backlog(state: EngineState, connection: ServedConnection, now: float) -> bool:
    """Send the next slice of retained messages; returns whether more can follow at once."""
    session = connection.attached
    backlog = connection.backlog
    room = _SLICE
    room_bytes = state.limits.write_buffer_high_bytes
    while backlog and room > 0 and room_bytes > 0 and session.is_writable and not session.pending_messages:
        topic_filter, deliveries = next(iter(backlog.items()))
        delivery = next(deliveries, None)
        room -= 1
        if delivery is None:
            del backlog[topic_filter]
            if has_wildcard(topic_filter):
                break  # The next one may walk through everything that is retained, too.
            continue
        if delivery.message.has_expired(now):
            continue
        room_bytes -= delivery.size_bytes()
        state.stats.publishes_sent += 1
        if delivery.qos:
            session.deliver(delivery, now)
        else:
            session.send(delivery, now)
    return bool(backlog) and session.is_writable and not session.pending_messages


def _answer(state: EngineState, connection: ServedConnection, packet: SubAck | UnsubAck) -> None:
    """Answer once what the packet changed is durable, where a store keeps the Session."""
    journal = state.journal
    if journal is None or not connection.attached.is_durable:
        connection.write_packet(packet)
    else:
        connection.acknowledge(encode_packet(packet, connection.version), journal.latest())


def _check_count(state: EngineState, count: int) -> None:
    if count > state.limits.filters_per_subscribe_maximum:
        raise ProtocolError("too many Topic Filters in one packet", spec="v5 §4.13.1")


def _refusal(
    state: EngineState, connection: ServedConnection, session: Session, request: SubscriptionRequest
) -> ReasonCode | None:
    """Return why a filter is not granted, None where it is."""
    limits = state.limits
    topic_filter = request.topic_filter
    if len(topic_filter) > limits.topic_bytes_maximum or levels(topic_filter) > limits.topic_levels_maximum:
        return ReasonCode.TOPIC_FILTER_INVALID
    if not connection.permissions.may_subscribe(inner_filter(topic_filter)):
        return ReasonCode.NOT_AUTHORIZED
    if (
        len(session.subscriptions) >= limits.subscriptions_maximum
        and topic_filter not in session.subscriptions
    ):
        return ReasonCode.QUOTA_EXCEEDED
    return None


def _add(state: EngineState, tenant: Tenant, session: Session, subscription: Subscription) -> bool:
    """Put a Subscription in; returns whether the filter is new (v5 [MQTT-3.8.4-3])."""
    topic_filter = subscription.topic_filter
    earlier = session.subscriptions.get(topic_filter)
    if earlier == subscription:
        return False
    session.subscriptions[topic_filter] = subscription
    tenant.tree.add(subscription, session)
    tenant.changed()
    if session.is_durable and state.journal is not None:
        state.journal.put_subscription(session.number, subscription)
    return earlier is None


def _retained(
    state: EngineState, tenant: Tenant, connection: ServedConnection, subscription: Subscription, now: float
) -> Iterator[Delivery]:
    """Yield the retained messages for a Subscription; none for a shared one (v5 §4.8.2).

    Nothing is looked up before its turn comes: a message that was replaced meanwhile must not follow
    its successor.
    """
    if split_shared(subscription.topic_filter) is not None:
        return
    retained = tenant.retained
    identifiers = () if subscription.identifier is None else (subscription.identifier,)
    for topic in [topic for topic, _ in retained.match(subscription.topic_filter)]:
        message = retained.get(topic)
        if message is None or not connection.permissions.may_receive(topic):
            continue
        origin = message.origin
        if (
            subscription.is_no_local
            and isinstance(origin, Origin)
            and origin.client_id == connection.client_id
        ):
            continue  # v5 [MQTT-3.8.3-3]: not its own. After a restart nobody knows whose it was.
        if message.has_expired(now):
            drop_retained(state, tenant, topic)
            continue
        # v5 [MQTT-3.3.1-8]: what is sent because of a new Subscription has RETAIN set.
        yield Delivery(message, min(message.qos, subscription.qos), True, identifiers)
