"""From a message to everyone who gets it.

Knows: who subscribes to a topic, groups that share a frame, shared Subscriptions, mailboxes.
Does not know: who published and whether that was allowed, acknowledgements.
Spec: v5 §3.3.4, §4.8.2; v3.1.1 §3.3.5.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from ..protocol.packets import TopicName
from ..routing.plan import Group, group_of, plan
from ..routing.tree import SharedGroup
from ..session.message import ApplicationMessage, Delivery
from ..session.session import Session
from .connection import Audience, ServedConnection
from .holds import wait_for
from .state import EngineState, Tenant

#: What is remembered per topic is remembered for topics up to this length only.
REMEMBERED_TOPIC_BYTES_MAXIMUM: Final = 256


def audience(state: EngineState, tenant: Tenant, topic: TopicName, publisher: Session | None) -> Audience:
    """Return who gets messages on `topic`; `publisher` matters where No Local leaves it out."""
    known = tenant.audiences.get(topic)
    if known is not None and publisher not in known.no_local:
        return known
    found = plan(tenant.tree.match(topic), publisher=publisher, may_receive=partial(_may_receive, topic))
    mailboxes = dict.fromkeys(mailbox for mailbox, _ in tenant.services.match(topic).direct)
    made = Audience(found.groups, found.shared, tuple(mailboxes), found.no_local)
    if publisher not in found.no_local and len(topic) <= REMEMBERED_TOPIC_BYTES_MAXIMUM:
        if len(tenant.audiences) >= state.limits.route_cache_maximum:
            tenant.audiences.clear()
            state.stats.route_cache_clears += 1
        tenant.audiences[topic] = made
    return made


def fan_out(
    state: EngineState,
    audience: Audience,
    message: ApplicationMessage,
    now: float,
    connection: ServedConnection | None,
) -> None:
    """Deliver to every group, to one member of each shared Subscription, and to services.

    `connection` is the publisher's, held back where a service has too much to do.
    """
    for group in audience.groups:
        deliver(state, group, message, now)
    for shared in audience.shared:
        deliver_shared(state, shared, message, now)
    for mailbox in audience.mailboxes:
        mailbox.put(message)
        if mailbox.is_full and connection is not None:
            wait_for(state, connection, mailbox)


def deliver(
    state: EngineState,
    group: Group[Session],
    message: ApplicationMessage,
    now: float,
    share: SharedGroup[Session] | None = None,
) -> None:
    """Deliver to the Sessions of one group, encoding once."""
    qos = min(message.qos, group.qos)
    is_retain = message.is_retain and group.is_retain_as_published
    delivery = Delivery(message, qos, is_retain, group.identifiers, share)
    if qos:
        state.stats.publishes_sent += len(group.receivers)
        for session in group.receivers:
            session.deliver(delivery, now)
        return
    if group.has_aliases:
        state.stats.publishes_sent += len(group.receivers)
        for session in group.receivers:
            session.send(delivery, now)
        return
    frame = delivery.frame(group.version, now)
    if len(frame) <= group.maximum_packet_size:
        send_frame(state, group.receivers, frame)
        return
    fitting = [session for session in group.receivers if len(frame) <= session.maximum_packet_size]
    state.stats.sessions.dropped_too_large += len(group.receivers) - len(fitting)
    send_frame(state, fitting, frame)


def send_frame(state: EngineState, sessions: list[Session], frame: bytes) -> None:
    """Put one QoS 0 frame into the `outgoing` of every Session that can take it."""
    state.stats.publishes_sent += len(sessions)
    dirty = state.dirty
    for session in sessions:
        if session.is_writable:
            outgoing = session.outgoing
            if not outgoing:
                dirty.append(session.connection)  # type: ignore[arg-type]  # writable means attached
            outgoing.append(frame)
        else:
            stats = state.stats.sessions
            stats.unsent += 1
            stats.dropped_congested += session.connection is not None


def pass_on_shared(state: EngineState, session: Session, now: float) -> None:
    """Give QoS 1 messages of Shared Subscriptions that a Client left unacknowledged to other members.

    As soon as its connection is lost, where another member can take them; when its Session ends, to
    whoever is left. QoS 2 waits for the Session, and ends with it (v5 [MQTT-4.8.2-5], [MQTT-4.8.2-6]).
    """
    if not session.in_flight and not session.pending_messages:
        return
    has_ended = state.tenant(session.tenant).sessions.get(session.client_id) is not session
    # What was stored must not go where nothing is: its publisher was told that it is safe.
    must_be_durable = session.is_durable and not has_ended

    def is_ready(topic: TopicName, member: Session) -> bool:
        return _is_ready(topic, member) and (member.is_durable or not must_be_durable)

    def is_wanted(delivery: Delivery) -> bool:
        share = delivery.share
        if not isinstance(share, SharedGroup):
            return False
        return has_ended or share.next_member(partial(is_ready, delivery.message.topic)) is not None

    for delivery in session.give_up_shared(is_wanted):
        if isinstance(delivery.share, SharedGroup) and not delivery.message.has_expired(now):
            deliver_shared(state, delivery.share, delivery.message, now, is_ready)


def deliver_shared(
    state: EngineState,
    shared: SharedGroup[Session],
    message: ApplicationMessage,
    now: float,
    is_ready: Callable[[TopicName, Session], bool] | None = None,
) -> None:
    """Deliver to the member whose turn it is; one that must wait only if nobody is there.

    `is_ready` says whom a message can be sent to now; absent: whoever is connected and may receive it.
    """
    topic = message.topic
    ready = partial(is_ready or _is_ready, topic)
    chosen = shared.next_member(ready) or shared.next_member(partial(_may_receive, topic))
    if chosen is not None:
        deliver(state, group_of(*chosen), message, now, shared)


def _may_receive(topic: TopicName, session: Session) -> bool:
    return session.may_receive is None or session.may_receive(topic)


def _is_ready(topic: TopicName, session: Session) -> bool:
    """Whether a shared message can be sent to the member now."""
    return session.is_writable and _may_receive(topic, session)
