"""Pending messages come back from the store in pages: to their Session, or to others where it ended.

Knows: what becomes of a page, how an ended Session is emptied.
Does not know: how pages are read, in which order a Session sends.
Spec: v5 §4.8.2.
"""

from ..protocol.packets import TopicFilter
from ..protocol.topics import split_shared
from ..routing.tree import SharedGroup
from ..session.message import Delivery
from ..session.records import DeliveryRow
from ..session.session import Session
from ..storage.ports import Page, SweptDelivery
from .connection import ServedConnection
from .effects import Proceed
from .fan_out import deliver_shared
from .state import EngineState, Tenant


def delivery_of(tenant: Tenant, row: DeliveryRow) -> Delivery:
    """Return what was stored as it was; without its Shared Subscription if that has no member any more."""
    share = None if row.share is None else tenant.tree.shared_group(TopicFilter(row.share))
    return Delivery(row.message, row.qos, row.is_retain, row.identifiers, share)


def take_page(state: EngineState, session: Session, asked: object, page: Page, now: float) -> None:
    """Take what was read for a Session, unless it asked for something else meanwhile."""
    if session.page is not asked:
        return
    tenant = state.tenant(session.tenant)
    deliveries = [(delivery_of(tenant, row), row.row) for row in page.deliveries]
    session.take_page(deliveries, is_last=page.is_last)
    if tenant.sessions.get(session.client_id) is session:
        session.drop_forbidden()
        session.pump(now)
        connection = session.connection
        if isinstance(connection, ServedConnection) and connection.backlog:
            state.effects.append(Proceed(connection))  # Retained messages wait until nothing is pending.
        return
    for delivery, _ in deliveries:
        share = delivery.share
        if isinstance(share, SharedGroup) and delivery.qos == 1 and not delivery.message.has_expired(now):
            deliver_shared(state, share, delivery.message, now)
    session.drop_pending(lambda _: True)
    drain_or_drop(state, session)


def drain_or_drop(state: EngineState, session: Session) -> None:
    """Let the store forget a Session that ended.

    What waits there for one of its Shared Subscriptions is read first: another member is to have it (v5
    §4.8.2). A crash meanwhile finds a Session whose time is over, and goes on.
    """
    journal = state.journal
    if journal is None or not session.is_durable:
        return
    is_shared = any(split_shared(topic_filter) is not None for topic_filter in session.subscriptions)
    if session.stored_messages and is_shared:
        session.expiry_interval = 0
        session.store()
        session.ask_for_page()
    else:
        journal.drop_session(session.number)
        session.restore_pending(0, 0)


def take_swept(state: EngineState, swept: SweptDelivery) -> None:
    """The store has forgotten a pending delivery that expired."""
    session = state.durable_sessions.get(swept.session)
    if session is not None:
        session.swept(swept.row, swept.size_bytes)
