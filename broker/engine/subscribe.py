"""SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a Subscription brings.

Knows: what a filter must be to be granted, which retained messages follow, in slices.
Does not know: how live messages find their receivers (fan_out).
Spec: v5 §3.8 to §3.11, §3.3.1.3; v3.1.1 §3.8 to §3.11, §3.3.1.3.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

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
from ..protocol.topics import levels, split_shared
from ..session.message import ApplicationMessage, Delivery
from ..session.records import DropRetained, DropSubscription, PutSubscription
from ..session.session import Session
from .connection import ServedConnection
from .state import EngineState, Tenant

#: Retained messages sent to one connection before others have their turn.
_SLICE: Final = 500


def handle_subscribe(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Subscribe, now: float
) -> None:
    """Grant or refuse each filter, answer, then send retained messages (v5 [MQTT-3.8.4-1] ff.).

    Raises:
        ProtocolError: more filters in one packet than we allow.
    """
    _check_count(state, len(packet.requests))
    session = connection.attached
    identifiers = packet.properties.subscription_identifiers
    identifier = identifiers[0] if identifiers else None
    codes = []
    retained: list[tuple[Subscription, list[ApplicationMessage]]] = []
    for request in packet.requests:
        code = _refusal(state, connection, session, request)
        if code is None:
            qos = min(request.qos, connection.permissions.maximum_qos(_inner(request.topic_filter)))
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
                retained.append((subscription, _retained(state, tenant, connection, subscription, now)))
        codes.append(code)
    connection.write_packet(SubAck(packet.packet_id, tuple(codes)))
    for subscription, messages in retained:
        if messages:
            connection.backlog.append(_deliveries(subscription, messages))
    send_backlog(state, connection, now)


def handle_unsubscribe(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Unsubscribe, now: float
) -> None:
    """Take filters back and answer (v5 [MQTT-3.10.4-1] ff.).

    Raises:
        ProtocolError: more filters in one packet than we allow.
    """
    _check_count(state, len(packet.topic_filters))
    session = connection.attached
    codes = tuple(
        ReasonCode.SUCCESS
        if remove(state, tenant, session, topic_filter)
        else ReasonCode.NO_SUBSCRIPTION_EXISTED
        for topic_filter in packet.topic_filters
    )
    connection.write_packet(UnsubAck(packet.packet_id, codes))


def remove(state: EngineState, tenant: Tenant, session: Session, topic_filter: TopicFilter) -> bool:
    """Take one Subscription from a Session; False where there was none."""
    if session.subscriptions.pop(topic_filter, None) is None:
        return False
    tenant.tree.remove(topic_filter, session)
    tenant.changed()
    if session.is_durable and state.journal is not None:
        state.journal.append(DropSubscription(tenant.name, session.client_id, topic_filter))
    return True


def withdraw_forbidden(state: EngineState, tenant: Tenant, connection: ServedConnection) -> None:
    """Take back Subscriptions that the Client may no longer have: its rights may have changed since."""
    session = connection.attached
    for topic_filter in tuple(session.subscriptions):
        if not connection.permissions.may_subscribe(_inner(topic_filter)):
            remove(state, tenant, session, topic_filter)


def send_backlog(state: EngineState, connection: ServedConnection, now: float) -> bool:
    """Send the next slice of retained messages; returns whether more can follow at once."""
    session = connection.attached
    room = _SLICE
    while connection.backlog and room and session.is_writable and not session.pending_messages:
        taken = list(islice(connection.backlog[0], room))
        room -= len(taken)
        for delivery in taken:
            if delivery.message.has_expired(now):
                continue
            state.stats.publishes_sent += 1
            if delivery.qos:
                session.deliver(delivery, now)
            elif len(frame := delivery.frame(session.version, now)) <= session.maximum_packet_size:
                connection.write(frame)
        if room:
            connection.backlog.popleft()
    return bool(connection.backlog) and session.is_writable and not session.pending_messages


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
    if not connection.permissions.may_subscribe(_inner(topic_filter)):
        return ReasonCode.NOT_AUTHORIZED
    if (
        len(session.subscriptions) >= limits.subscriptions_maximum
        and topic_filter not in session.subscriptions
    ):
        return ReasonCode.QUOTA_EXCEEDED
    return None


def _inner(topic_filter: TopicFilter) -> TopicFilter:
    shared = split_shared(topic_filter)
    return topic_filter if shared is None else shared[1]


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
        state.journal.append(PutSubscription(tenant.name, session.client_id, subscription))
    return earlier is None


def _retained(
    state: EngineState, tenant: Tenant, connection: ServedConnection, subscription: Subscription, now: float
) -> list[ApplicationMessage]:
    """Return the retained messages for a Subscription; none for a shared one (v5 §4.8.2)."""
    if split_shared(subscription.topic_filter) is not None:
        return []
    may_receive = connection.permissions.may_receive
    found = list(tenant.retained.match(subscription.topic_filter))
    messages = []
    for topic, message in found:
        if message.has_expired(now):
            tenant.retained.remove(topic)
            if state.journal is not None:
                state.journal.append(DropRetained(tenant.name, topic))
        elif may_receive(topic):
            messages.append(message)
    return messages


def _deliveries(subscription: Subscription, messages: list[ApplicationMessage]) -> Iterator[Delivery]:
    identifiers = () if subscription.identifier is None else (subscription.identifier,)
    for message in messages:
        # v5 [MQTT-3.3.1-8]: what is sent because of a new Subscription has RETAIN set.
        yield Delivery(message, min(message.qos, subscription.qos), True, identifiers)
