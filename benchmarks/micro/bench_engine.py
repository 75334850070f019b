"""The engine without sockets: `python benchmarks/micro/bench_engine.py --fast` (any option of pyperf).

A turn is one read of fifty messages by every publisher, then one write to everybody, as the server
does it, then one read of acknowledgements from every subscriber. Figures are per message delivered.
"""

import sys
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import pyperf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from broker.access import Principal
from broker.engine import Authenticate, Engine, ServedConnection
from broker.protocol.codec import encode_packet
from broker.protocol.packets import (
    V3_1_1,
    ClientId,
    Connect,
    Publish,
    Subscribe,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
)
from broker.settings import LimitSettings

_MESSAGES: Final = 50
_NOW: Final = 1000.0
_PAYLOAD: Final = bytes(64)
_PUBACK: Final = b"\x40\x02"


class _Everything:
    """Permissions of somebody who may do everything; answers are cached by the engine anyway."""

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        """Yes."""
        return True

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        """Yes."""
        return True

    def may_receive(self, topic: TopicName) -> bool:
        """Yes."""
        return True

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        """Return the highest."""
        return 2


class _Load:
    """An engine with clients, and the turns that it is driven by."""

    def __init__(self, *, publishers: int, subscribers: int, qos: int) -> None:
        self._engine = Engine(
            LimitSettings(), journal=None, new_client_id=lambda: ClientId("unused"), now=_NOW
        )
        self._qos = qos
        self._subscribers = [self._connect(f"s{number}") for number in range(subscribers)]
        request = SubscriptionRequest(TopicFilter(b"load/#"), qos)
        for subscriber in self._subscribers:
            self._engine.receive(subscriber, encode_packet(Subscribe(1, (request,)), V3_1_1), _NOW)
        self._publishers = [
            (self._connect(f"p{number}"), self._read(b"load/%d" % number)) for number in range(publishers)
        ]
        self._write()
        self._next_packet_id = 1

    def turn(self, acknowledgements: bytes) -> int:
        """Publish a read of every publisher, write, and acknowledge; returns how many bytes were written."""
        engine = self._engine
        for publisher, data in self._publishers:
            engine.receive(publisher, data, _NOW)
        written = self._write()
        if acknowledgements:
            for subscriber in self._subscribers:
                engine.receive(subscriber, acknowledgements, _NOW)
        return written

    def acknowledgements(self) -> bytes:
        """Return what each subscriber answers to the next turn: packet ids run on from 1 to 65535."""
        if not self._qos:
            return b""
        first = self._next_packet_id
        numbers = range(first, first + _MESSAGES * len(self._publishers))
        self._next_packet_id = (numbers[-1] % 0xFFFF) + 1
        return b"".join([_PUBACK + ((number - 1) % 0xFFFF + 1).to_bytes(2, "big") for number in numbers])

    def check(self) -> None:
        """Everything that was delivered is acknowledged."""
        sessions = [subscriber.session for subscriber in self._subscribers]
        assert all(session is not None and not session.in_flight for session in sessions)

    def _write(self) -> int:
        dirty = self._engine.state.dirty
        written = sum(len(connection.data_to_send()) for connection in dirty)
        dirty.clear()
        return written

    def _read(self, topic: bytes) -> bytes:
        return b"".join(
            encode_packet(
                Publish(TopicName(topic), _PAYLOAD, self._qos, False, False, packet_id if self._qos else 0),
                V3_1_1,
            )
            for packet_id in range(1, _MESSAGES + 1)
        )

    def _connect(self, client_id: str) -> ServedConnection:
        engine = self._engine
        connection = engine.open(
            listener="bench", tenant="default", peer_address="", certificate=None, now=_NOW
        )
        connect = Connect(version=V3_1_1, client_id=ClientId(client_id))
        engine.receive(connection, encode_packet(connect, V3_1_1), _NOW)
        assert any(isinstance(effect, Authenticate) for effect in engine.take_effects())
        principal = Principal(
            tenant="default",
            client_id=client_id,
            user_name=None,
            certificate=None,
            thing_name=None,
            roles=frozenset(),
            permissions=_Everything(),
        )
        engine.authenticated(connection, principal, _NOW)
        engine.take_effects()
        return connection


def _time(loops: int, publishers: int, subscribers: int, qos: int) -> float:
    load = _Load(publishers=publishers, subscribers=subscribers, qos=qos)
    assert load.turn(load.acknowledgements()) > publishers * subscribers * _MESSAGES * len(_PAYLOAD)
    elapsed = 0.0
    for _ in range(loops):
        acknowledgements = load.acknowledgements()
        started = perf_counter()
        load.turn(acknowledgements)
        elapsed += perf_counter() - started
    load.check()
    return elapsed


#: Publishers, subscribers, QoS.
_CASES: Final = {
    "fanin 8 to 1, QoS 0": (8, 1, 0),
    "fanin 8 to 1, QoS 1": (8, 1, 1),
    "fanout 1 to 50, QoS 0": (1, 50, 0),
    "fanout 1 to 50, QoS 1": (1, 50, 1),
}


def main() -> None:
    """Run every case."""
    runner = pyperf.Runner()
    for name, (publishers, subscribers, qos) in _CASES.items():
        timed = partial(_time, publishers=publishers, subscribers=subscribers, qos=qos)
        runner.bench_time_func(name, timed, inner_loops=publishers * subscribers * _MESSAGES)


if __name__ == "__main__":
    main()
