"""Bytes to packets and back: `python benchmarks/micro/bench_codec.py --fast` (any option of pyperf).

Reads hold fifty packets, as under load; figures are per packet. Payloads are 64 bytes.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import pyperf

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from broker.protocol.codec import encode_packet, encode_publish_head
from broker.protocol.packets import V3_1_1, V5, ControlPacket, PubAck, Publish, TopicName
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.stream import PacketStream

_PACKETS: Final = 50
_TOPIC: Final = TopicName(b"devices/50000/state")
_PAYLOAD: Final = bytes(64)
_PROPERTIES: Final = Properties(content_type="application/json", user_properties=(("unit", "K"),))


def _publish(qos: int, packet_id: int, properties: Properties = NO_PROPERTIES) -> Publish:
    return Publish(_TOPIC, _PAYLOAD, qos, False, False, packet_id if qos else 0, properties)


#: What a read holds, packet by packet: version and a function from the packet's number.
_READS: Final[dict[str, tuple[int, Callable[[int], ControlPacket]]]] = {
    "PUBLISH QoS 0, 3.1.1": (V3_1_1, partial(_publish, 0)),
    "PUBLISH QoS 0, 5": (V5, partial(_publish, 0)),
    "PUBLISH QoS 1, 3.1.1": (V3_1_1, partial(_publish, 1)),
    "PUBLISH QoS 1, 5": (V5, partial(_publish, 1)),
    "PUBLISH QoS 2, 3.1.1": (V3_1_1, partial(_publish, 2)),
    "PUBLISH QoS 1 with properties": (V5, partial(_publish, 1, properties=_PROPERTIES)),
    "PUBACK": (V3_1_1, PubAck),
}


def _time_read(loops: int, version: int, data: bytes) -> float:
    stream = PacketStream(maximum_packet_size=1 << 20)
    stream.version = version
    stream.feed(data)
    assert len(stream.read(_PACKETS)) == _PACKETS
    started = perf_counter()
    for _ in range(loops):
        stream.feed(data)
        stream.read(_PACKETS)
    return perf_counter() - started


def _encode_many(packet: ControlPacket, version: int) -> None:
    for _ in range(_PACKETS):
        encode_packet(packet, version)


def _encode_heads(properties: Properties, version: int) -> None:
    for _ in range(_PACKETS):
        encode_publish_head(_TOPIC, len(_PAYLOAD), version, 1, False, False, properties)


def main() -> None:
    """Run every case."""
    runner = pyperf.Runner()
    for name, (version, make) in _READS.items():
        data = b"".join(encode_packet(make(number), version) for number in range(1, _PACKETS + 1))
        runner.bench_time_func(f"read {name}", _time_read, version, data, inner_loops=_PACKETS)
    for name, properties, version in (
        ("3.1.1", NO_PROPERTIES, V3_1_1),
        ("5", NO_PROPERTIES, V5),
        ("with properties", _PROPERTIES, V5),
    ):
        runner.bench_func(
            f"encode head of PUBLISH, {name}", _encode_heads, properties, version, inner_loops=_PACKETS
        )
    runner.bench_func("encode PUBACK, 3.1.1", _encode_many, PubAck(7), V3_1_1, inner_loops=_PACKETS)
    runner.bench_func("encode PUBLISH QoS 1, 5", _encode_many, _publish(1, 7), V5, inner_loops=_PACKETS)


if __name__ == "__main__":
    main()
