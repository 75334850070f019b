"""The census: how much there is at the moment, counted in slices so that nobody waits for it.

Knows: what of the state is worth a gauge.
Does not know: who asks, how often.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from .state import Tenant

#: Sessions counted before others have their turn; some 0.3 ms.
_SLICE: Final = 1_000


class Census(Struct):
    """Amounts at one moment, over all tenants."""

    connections: int = 0
    sessions: int = 0
    sessions_connected: int = 0
    subscriptions: int = 0
    retained_messages: int = 0
    in_flight_messages: int = 0
    pending_messages: int = 0
    pending_bytes: int = 0


def take_census(tenants: Iterable[Tenant], census: Census) -> Iterator[None]:
    """Fill in what tenants have; yields whenever others should have their turn.

    Sessions come and go meanwhile: each is counted as it is when its turn comes.
    """
    for tenant in tuple(tenants):
        census.retained_messages += len(tenant.retained) - tenant.statistics
        for number, session in enumerate(tuple(tenant.sessions.values())):
            if number % _SLICE == _SLICE - 1:
                yield
            census.sessions += 1
            census.sessions_connected += session.connection is not None
            census.subscriptions += len(session.subscriptions)
            census.in_flight_messages += len(session.in_flight)
            census.pending_messages += session.pending_messages
            census.pending_bytes += session.pending_bytes
