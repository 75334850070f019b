"""Messages from a foreign broker: waiting for the service, then for its acknowledgement.

Knows: order of arrival, which packet ids are owed a PUBACK, what a broker sends again.
Does not know: sockets, connections, what a message means.
Spec: v5 §4.3.2, §4.4, §4.6.
"""

from collections import deque
from typing import Final

from msgspec import Struct

from ..protocol.packets import Publish

#: What a message takes beside its payload and topic, about, in bytes.
_OVERHEAD: Final = 512


class _Arrival(Struct):
    """One message; `packet_id` is 0 where the present connection waits for no PUBACK."""

    publish: Publish
    packet_id: int
    is_done: bool = False


class Inbound:
    """Every message that came and was not acknowledged by the service yet, in order of arrival.

    A PUBACK is due when the service acknowledges, so that a message survives the service. When the
    connection is lost before that, the broker sends the message again on the next one: the service,
    which has it already, gets it no second time.

    Whether it holds too much is for its owner to see, who reads no more then: not every broker keeps to
    the Receive Maximum (mosquitto 2.0.11 sent 791 messages where 10 were allowed).
    """

    def __init__(self) -> None:
        #: What is held, in bytes of memory, about.
        self.size_bytes = 0
        self._is_closed = False
        self._waiting: list[Publish] = []
        self._arrivals: deque[_Arrival] = deque()
        #: What the service is done with, its PUBACK not yet sent.
        self._due: list[_Arrival] = []
        #: By packet id: what an earlier connection was not sent a PUBACK of.
        self._earlier: dict[int, _Arrival] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def has_waiting(self) -> bool:
        """Whether `take` would give a message."""
        return bool(self._waiting)

    def put(self, publish: Publish) -> None:
        """Take in a message of QoS 0 or 1."""
        if self._is_closed:
            return
        packet_id = publish.packet_id
        if packet_id:
            earlier = self._earlier.pop(packet_id, None)
            if earlier is not None and _is_same(earlier.publish, publish):
                earlier.packet_id = packet_id
                if earlier.is_done:
                    self._due.append(earlier)
                return
        self._arrivals.append(_Arrival(publish, packet_id))
        self._waiting.append(publish)
        self.size_bytes += _size(publish)

    def take(self, limit: int) -> list[Publish]:
        """Return the next messages for the service, at most `limit`."""
        taken = self._waiting[:limit]
        del self._waiting[:limit]
        return taken

    def acknowledge(self, count: int) -> None:
        """The service is done with the oldest `count` messages that it took.

        They are the oldest, so that PUBACKs leave in the order of arrival (v5 [MQTT-4.6.0-2]).

        Raises:
            ValueError: it did not take so many.
        """
        if not 0 <= count <= len(self._arrivals) - len(self._waiting):
            raise ValueError(f"{count} messages acknowledged of {len(self._arrivals) - len(self._waiting)}")
        for _ in range(count):
            arrival = self._arrivals.popleft()
            arrival.is_done = True
            self.size_bytes -= _size(arrival.publish)
            if arrival.packet_id:
                self._due.append(arrival)

    def pubacks(self) -> list[int]:
        """Return the packet ids whose PUBACK is due; it must be sent now.

        After it the id may stand for another message (v5 [MQTT-4.3.2-5]).
        """
        packet_ids = [arrival.packet_id for arrival in self._due]
        self._due.clear()
        return packet_ids

    def disconnected(self) -> None:
        """The connection is lost: no PUBACK can be sent for what it brought."""
        for arrival in (*self._due, *self._arrivals):
            if arrival.packet_id:
                self._earlier[arrival.packet_id] = arrival
                arrival.packet_id = 0
        self._due.clear()

    def close(self) -> None:
        """Leave to the broker what the service did not take, and what comes."""
        self._is_closed = True
        for _ in range(len(self._waiting)):
            self.size_bytes -= _size(self._arrivals.pop().publish)
        self._waiting.clear()

    def connected(self, *, is_session_present: bool) -> None:
        """A new connection stands; without its Session the broker will send nothing again."""
        if not is_session_present:
            self._earlier.clear()


def _is_same(earlier: Publish, publish: Publish) -> bool:
    """Tell a repetition from another message under the same packet id.

    A broker may have given a shared subscription's message to another member, and use its id anew.
    """
    return publish.is_dup and publish.topic == earlier.topic and publish.payload == earlier.payload


def _size(publish: Publish) -> int:
    return _OVERHEAD + len(publish.topic) + len(publish.payload)
