"""From a message to everyone who gets it.

Knows: who subscribes to a topic, groups that share a frame, shared Subscriptions, mailboxes.
Does not know: who published and whether that was allowed, acknowledgements.
Spec: v5 §3.3.4, §4.8.2; v3.1.1 §3.3.5.
"""

from functools import partial

from ..protocol.packets import TopicName
from ..routing.plan import Group, plan
from ..session.message import ApplicationMessage, Delivery
from ..session.records import Commit
from ..session.session import Session
from .connection import Audience, ServedConnection
from .holds import wait_for
from .state import EngineState, Tenant


def audience(state: EngineState, tenant: Tenant, topic: TopicName, publisher: Session | None) -> Audience:
    """Return who gets messages on `topic`; `publisher` matters where No Local leaves it out."""
    known = tenant.audiences.get(topic)
    if known is not None:
        return known
    found = plan(tenant.tree.match(topic), publisher=publisher, may_receive=partial(_may_receive, topic))
    mailboxes = dict.fromkeys(mailbox for mailbox, _ in tenant.services.match(topic).direct)
    made = Audience(found.groups, found.shared, tuple(mailboxes))
    if not found.is_private:
        if len(tenant.audiences) >= state.limits.route_cache_maximum:
            tenant.audiences.clear()
        tenant.audiences[topic] = made
    return made


def fan_out(
    state: EngineState,
    audience: Audience,
    message: ApplicationMessage,
    now: float,
    connection: ServedConnection | None,
) -> Commit | None:
    """Deliver to every group, to one member of each shared Subscription, and to services.

    `connection` is the publisher's, held back where a service has too much to do.

    Returns:
        The commit of the present turn, if it holds the message for a durable Session.
    """
    journal = state.journal
    first_row = 0 if journal is None else journal.next_row
    for group in audience.groups:
        deliver(state, group, message, now)
    for shared in audience.shared:
        chosen = shared.next_member(_is_ready) or shared.next_member(_may_wait)
        if chosen is not None:
            session, subscription = chosen
            group = Group[Session](session.version, subscription.qos, subscription.is_retain_as_published, ())
            group.add(session)
            deliver(state, group, message, now)
    for mailbox in audience.mailboxes:
        mailbox.put(message)
        if mailbox.is_full and connection is not None:
            wait_for(state, connection, mailbox)
    return journal.commit if journal is not None and journal.next_row != first_row else None


def deliver(state: EngineState, group: Group[Session], message: ApplicationMessage, now: float) -> None:
    """Deliver to the Sessions of one group, encoding once."""
    qos = min(message.qos, group.qos)
    delivery = Delivery(message, qos, message.is_retain and group.is_retain_as_published, group.identifiers)
    if qos:
        state.stats.publishes_sent += len(group.receivers)
        for session in group.receivers:
            session.deliver(delivery, now)
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
        outgoing = session.outgoing
        if outgoing:
            outgoing.append(frame)  # Not empty: it is on `dirty`, and was writable then.
        elif session.is_writable:
            dirty.append(session.connection)  # type: ignore[arg-type]  # writable means attached
            outgoing.append(frame)
        elif session.connection is not None:
            state.stats.sessions.dropped_congested += 1


def _may_receive(topic: TopicName, session: Session) -> bool:
    return session.may_receive is None or session.may_receive(topic)


def _is_ready(session: Session) -> bool:
    """Whether a shared message can be sent to the member now."""
    return session.is_writable


def _may_wait(session: Session) -> bool:
    """Whether a shared message may wait for the member: nobody is there to take it at once."""
    return True
