"""From packets to the messages that an application is given, by the receiver's side of QoS 2.

Knows: packet ids of QoS 2 between PUBLISH and PUBREL.
Does not know: what should have been delivered (checker).
Spec: v5 §4.3; v3.1.1 §4.3.
"""

import heapq
from collections.abc import Iterator
from operator import attrgetter
from typing import NamedTuple

from .history import Connected, History, Key, Lost, Received


class Delivery(NamedTuple):
    """A message is given to the application."""

    at: int
    time: float
    client: str
    topic: str
    key: Key
    qos: int
    is_dup: bool
    is_retain: bool


class Misused(NamedTuple):
    """A PUBLISH came with the packet id of another QoS 2 message that had not been released."""

    at: int
    client: str
    packet_id: int


def deliveries(history: History) -> Iterator[Delivery | Misused]:
    """Yield what applications are given, in order.

    v5 §4.3.3: a packet id says whether a QoS 2 message is new, from its PUBLISH to its PUBREL, over
    connections, until the session ends.
    """
    taken: dict[str, dict[int, Key]] = {}
    for event in heapq.merge(history.received, history.connections, key=attrgetter("at")):
        if isinstance(event, Lost):
            continue
        ids = taken.setdefault(event.client, {})
        if isinstance(event, Connected):
            if not event.is_session_present:
                ids.clear()
        elif not isinstance(event, Received):
            ids.pop(event.packet_id, None)
        elif event.key is not None:
            if event.qos == 2:
                if (before := ids.get(event.packet_id)) is not None:
                    if before != event.key or not event.is_dup:
                        yield Misused(event.at, event.client, event.packet_id)
                    continue
                ids[event.packet_id] = event.key
            yield Delivery(
                event.at,
                event.time,
                event.client,
                event.topic,
                event.key,
                event.qos,
                event.is_dup,
                event.is_retain,
            )
