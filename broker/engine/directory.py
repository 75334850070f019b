"""Sessions as an operator sees them: listed page by page, looked at, ended, followed.

Knows: what may be told of a Session, how many are walked before others have their turn.
Does not know: who asks, and whether they may.
Spec: v5 §3.14, §4.1; v3.1.1 §4.1.
"""

import heapq
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from ..protocol.packets import ClientId, TopicName
from ..protocol.reason_codes import ReasonCode
from ..protocol.subscription import Subscription
from ..session.session import NEVER_EXPIRES, Session
from .connection import ServedConnection
from .fan_out import audience
from .lifecycle import close_connection, end_session
from .state import EngineState
from .tap import PacketNote, Tap

#: ClientIds looked at before others have their turn; some 0.5 ms.
_SLICE: Final = 2_000


class SessionInfo(Struct, frozen=True, kw_only=True):
    """One Session at one moment.

    `since`: seconds since the epoch at which the connection was opened, or the last one ended.
    `expiry_interval_s`: None for never. What only a connection has is None without one.
    """

    client_id: str
    identity: str | None
    is_connected: bool
    since: float | None
    expiry_interval_s: int | None
    subscriptions: int
    pending_messages: int
    pending_bytes: int
    in_flight_messages: int
    dropped_messages: int
    protocol_version: int | None = None
    listener: str | None = None
    peer_address: str | None = None
    keep_alive_s: int | None = None
    thing_name: str | None = None
    roles: tuple[str, ...] = ()


def page_of_client_ids(
    state: EngineState, tenant: str, *, after: str, limit: int, page: list[ClientId]
) -> Iterator[None]:
    """Fill `page` with the first `limit` ClientIds after `after`; yields when others should have a turn."""
    of = state.tenants.get(tenant)
    if of is None:
        return
    everybody = tuple(of.sessions)
    for start in range(0, len(everybody), _SLICE):
        if start:
            yield
        found = (client_id for client_id in everybody[start : start + _SLICE] if client_id > after)
        page[:] = heapq.nsmallest(limit, chain(page, found))


def session_info(state: EngineState, tenant: str, client_id: str) -> SessionInfo | None:
    """Return how a Session is at the moment, None where there is no such Session."""
    session = _find(state, tenant, client_id)
    if session is None:
        return None
    connection = session.connection
    interval = session.expiry_interval
    info = SessionInfo(
        client_id=session.client_id,
        identity=session.identity,
        is_connected=connection is not None,
        since=session.disconnected_at,
        expiry_interval_s=None if interval == NEVER_EXPIRES else interval,
        subscriptions=len(session.subscriptions),
        pending_messages=session.pending_messages,
        pending_bytes=session.pending_bytes,
        in_flight_messages=len(session.in_flight),
        dropped_messages=session.dropped,
    )
    if not isinstance(connection, ServedConnection):
        return info
    principal = connection.principal
    return replace(
        info,
        since=connection.opened_at,
        protocol_version=connection.version,
        listener=connection.listener,
        peer_address=connection.peer_address,
        keep_alive_s=connection.keep_alive,
        thing_name=None if principal is None else principal.thing_name,
        roles=() if principal is None else tuple(sorted(principal.roles)),
    )


def subscriptions_of(state: EngineState, tenant: str, client_id: str) -> tuple[Subscription, ...]:
    """Return the Subscriptions of a Session, none where there is no such Session."""
    session = _find(state, tenant, client_id)
    return () if session is None else tuple(session.subscriptions.values())


def kick(state: EngineState, tenant: str, client_id: str, *, is_end: bool, now: float) -> bool:
    """Close a Client's connection (v5 §3.14.2.1: 0x98), and with `is_end` end its Session too.

    Returns:
        Whether there is such a Session.
    """
    session = _find(state, tenant, client_id)
    if session is None:
        return False
    connection = session.connection
    if isinstance(connection, ServedConnection):
        if is_end:
            session.expiry_interval = 0
        close_connection(state, connection, ReasonCode.ADMINISTRATIVE_ACTION, "closed by an operator", now)
    elif is_end:
        end_session(state, session, now)
    return True


def count_receivers(state: EngineState, tenant: str, topic: TopicName, publisher: str | None) -> int:
    """Return how many Sessions get a message on `topic` at the moment, one per shared Subscription."""
    of = state.tenants.get(tenant)
    if of is None:
        return 0
    sender = None if publisher is None else of.sessions.get(ClientId(publisher))
    found = audience(state, of, topic, sender)
    return sum(len(group.receivers) for group in found.groups) + len(found.shared)


def follow(
    state: EngineState, tenant: str, client_id: str, listener: Callable[[PacketNote], None]
) -> Callable[[], None]:
    """Tell `listener` of every packet of a Client, on this connection and later ones.

    Returns:
        What ends it; may be called again.
    """
    key = tenant, client_id
    tap = state.taps.get(key)
    if tap is None:
        tap = state.taps[key] = Tap()
    tap.listeners.append(listener)
    session = _find(state, tenant, client_id)
    if session is not None and isinstance(session.connection, ServedConnection):
        session.connection.tap = tap

    def end() -> None:
        if listener not in tap.listeners:
            return
        tap.listeners.remove(listener)
        if not tap.listeners:
            del state.taps[key]
            session = _find(state, tenant, client_id)
            if session is not None and isinstance(session.connection, ServedConnection):
                session.connection.tap = None

    return end


def _find(state: EngineState, tenant: str, client_id: str) -> Session | None:
    of = state.tenants.get(tenant)
    return None if of is None else of.sessions.get(ClientId(client_id))
