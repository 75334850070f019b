"""What a fuzzer calls with any bytes: the codec, the stream of one connection, an engine with connections.

Knows: what must hold whatever the bytes are. A target returns if it does, and raises if not.
Does not know: where the bytes come from (tests/fuzz/guided.py makes them, tests/fuzz/corpus keeps some).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec.structs import replace

from broker.protocol.codec import decode_packet, encode_packet
from broker.protocol.connection import ConnectionState
from broker.protocol.errors import PeerError
from broker.protocol.packets import V3_1_1, V5, ControlPacket, PingReq, Publish
from broker.protocol.primitives import decode_variable_byte_integer
from broker.protocol.stream import PacketStream
from fakes import EngineDriver
from fakes_client import FakeClient

#: Between two pieces of the input of `connection`: seldom in a packet, quickly found by a fuzzer.
SEPARATOR: Final = b"\xff\xff"
_ATTACKERS: Final = 3
_PACKET_SIZE: Final = 4096


def codec(data: bytes) -> None:
    """Take a packet's first byte and its body: a PeerError, or a packet that comes back the same."""
    if not data:
        return
    for version in (V3_1_1, V5):
        try:
            packet = decode_packet(data[0], data[1:], version)
        except PeerError:
            continue
        _check_return(packet, version)


def stream(data: bytes) -> None:
    """Take how to cut (one byte), and what: any cutting gives the packets that the codec gives one by one."""
    if not data:
        return
    version = V5 if data[0] & 1 else V3_1_1
    step, data = 1 + (data[0] >> 1), data[1:]
    expected = _one_by_one(data, version)
    assert _read(version, [data]) == expected
    assert _read(version, (data[at : at + step] for at in range(0, len(data), step))) == expected
    for packet in expected[0]:
        _check_return(packet, version)


def connection(data: bytes) -> None:
    """Take pieces for three connections: each ends in a clean close at worst, and others are served on.

    A piece begins with a byte that says whose it is and what happens before.
    """
    if not data:
        return
    first, *pieces = data.split(SEPARATOR)
    is_durable = not (first and first[0] & 1)
    driver = EngineDriver(
        is_durable=is_durable, maximum_packet_size=_PACKET_SIZE, pending_messages_maximum=50
    )
    good = driver.connect("good client")
    good.subscribe(b"good/topic", qos=1)
    attackers = [_Attacker.opened(driver) for _ in range(_ATTACKERS)]
    for piece in pieces:
        if piece:
            _play(driver, attackers, piece[0], piece[1:])
    for attacker in attackers:
        if not attacker.is_closed:
            attacker.lose()
    assert good.connection.state is ConnectionState.CONNECTED
    good.take()
    good.publish(b"good/topic", b"still here", qos=1)
    good.send(PingReq())
    assert sorted(type(packet).__name__ for packet in good.take()) == ["PingResp", "PubAck", "Publish"]
    state = driver.engine.state
    assert state.session_count == sum(len(tenant.sessions) for tenant in state.tenants.values())
    served = [session.connection for tenant in state.tenants.values() for session in tenant.sessions.values()]
    assert [one for one in served if one is not None] == [good.connection]
    good.disconnect()
    # Values of the hot path are not traced for cycles, so only what was ended is free for the next input.
    for tenant in state.tenants.values():
        for client_id in list(tenant.sessions):
            driver.connect(client_id, V3_1_1, is_clean_start=True).disconnect()
    assert state.session_count == 0


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "codec": codec,
    "stream": stream,
    "connection": connection,
}


class _Attacker(FakeClient):
    """Reads what it is sent in the version that the engine took from its CONNECT."""

    @classmethod
    def opened(cls, driver: EngineDriver) -> "_Attacker":
        connection = driver.open().connection
        attacker = cls(driver, connection, V3_1_1)
        driver.clients[connection] = attacker
        return attacker

    def feed(self, data: bytes) -> None:
        self.version = self.connection.version
        super().feed(data)


def _play(driver: EngineDriver, attackers: list[_Attacker], action: int, data: bytes) -> None:
    position = action % _ATTACKERS
    attacker = attackers[position]
    if action & 0x10 and not attacker.is_closed:
        attacker.lose()
    if attacker.is_closed:
        attacker = attackers[position] = _Attacker.opened(driver)
    if action & 0x20:
        attacker.set_writable(not action & 0x40)
    if action & 0x80 and not attacker.is_closed:
        driver.sleep(20.0)
    if not attacker.is_closed:
        attacker.send_bytes(data)
    assert attacker.connection.state is not ConnectionState.CLOSED or attacker.is_closed


def _check_return(packet: ControlPacket, version: int) -> None:
    encoded = encode_packet(packet, version)
    _, start = decode_variable_byte_integer(encoded, 1)
    assert decode_packet(encoded[0], encoded[start:], version) == _without_frame(packet)


def _without_frame(packet: ControlPacket) -> ControlPacket:
    return replace(packet, frame=None) if isinstance(packet, Publish) else packet


def _read(version: int, reads: Iterable[bytes]) -> tuple[list[ControlPacket], bool]:
    """Return the packets, and whether an error ended them."""
    cutter = PacketStream(maximum_packet_size=_PACKET_SIZE)
    cutter.version = version
    packets: list[ControlPacket] = []
    for data in reads:
        cutter.feed(data)
        while taken := cutter.read(3):
            packets += map(_without_frame, taken)
    return packets, cutter.failure is not None


def _one_by_one(data: bytes, version: int) -> tuple[list[ControlPacket], bool]:
    """Return what `_read` should: v5 §2.1.4, and no Topic Alias is allowed."""
    packets: list[ControlPacket] = []
    at = 0
    try:
        while len(data) - at >= 2:
            length = shift = 0
            body = at + 1
            while body < len(data):
                length |= (data[body] & 0x7F) << shift
                shift += 7
                body += 1
                if data[body - 1] < 0x80:
                    break
                if shift == 28:
                    return packets, True
            else:
                return packets, False
            is_longer_than_needed = body - at > 2 and not data[body - 1]
            if (is_longer_than_needed and version == V5) or body - at + length > _PACKET_SIZE:
                return packets, True
            if body + length > len(data):
                return packets, False
            packet = decode_packet(data[at], data[body : body + length], version)
            if isinstance(packet, Publish) and (
                packet.properties.topic_alias is not None or packet.properties.subscription_identifiers
            ):
                return packets, True
            packets.append(packet)
            at = body + length
    except PeerError:
        return packets, True
    return packets, False
