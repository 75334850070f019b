"""Persistent sessions of MQTT 3.1.1 at QoS 1 in as few instructions as Python allows: frames of one size.

Knows: the bytes of each packet, how many frames are cut out of a read, and acknowledged in one write.
Does not know: what is measured; sockets block, and are asked when epoll says so.
Spec: v3.1.1 §3.1 to §3.4, §3.8, §4.4.
"""

import select
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

PAYLOAD_SIZE: Final = 64
#: Begins a payload: the number of the message within its topic, and when it was due in nanoseconds.
STAMP: Final = struct.Struct(">QQ")
_TOPIC: Final = "durable/%06d"
PACKET_ID_AT: Final = 4 + len(_TOPIC % 0)
PAYLOAD_AT: Final = PACKET_ID_AT + 2
FRAME_SIZE: Final = PAYLOAD_AT + PAYLOAD_SIZE
PACKET_IDS: Final = 0xFFFF
PING: Final = b"\xc0\x00"
PING_ANSWER: Final = b"\xd0\x00"
SETUP_TIMEOUT_S: Final = 20.0
#: After so much silence something is missing.
SILENCE_S: Final = 120.0
_READ_SIZE: Final = 256 * 1024


class LoadError(Exception):
    """The broker did something else than deliver each message in order."""


def client_id(number: int) -> str:
    """Return the client id of a session that receives."""
    return f"durable-{number:06}"


def frames(topics: Sequence[int], per_topic: int) -> bytearray:
    """Return PUBLISH packets of QoS 1 to all topics in turn, with packet ids that rise."""
    heads = []
    for topic in topics:
        name = (_TOPIC % topic).encode()
        heads.append(bytes((0x32, FRAME_SIZE - 2)) + struct.pack(">H", len(name)) + name)
    rest = bytes(PAYLOAD_SIZE - STAMP.size)
    pack = struct.Struct(">HQQ").pack
    frames = bytearray()
    packet_id = 0
    for number in range(per_topic):
        for head in heads:
            packet_id = packet_id % PACKET_IDS + 1
            frames += head + pack(packet_id, number, 0) + rest
    return frames


def take_messages(sock: socket.socket, data: bytes) -> tuple[int, bytes]:
    """Acknowledge the whole frames in `data` in one write; returns their number and what is left."""
    count = len(data) // FRAME_SIZE
    if count:
        end = count * FRAME_SIZE
        if set(data[:end:FRAME_SIZE]) - {0x32} or set(data[1:end:FRAME_SIZE]) != {FRAME_SIZE - 2}:
            raise LoadError("something else than the messages of this load, or one sent again")
        answers = bytearray(b"\x40\x02\x00\x00" * count)
        answers[2::4] = data[PACKET_ID_AT:end:FRAME_SIZE]
        answers[3::4] = data[PACKET_ID_AT + 1 : end : FRAME_SIZE]
        sock.sendall(answers)
    return count, data[count * FRAME_SIZE :]


def count_acknowledgements(data: bytes) -> tuple[int, bytes]:
    """Return the number of whole PUBACKs in `data`, and what is left."""
    count = len(data) // 4
    if set(data[: count * 4 : 4]) - {0x40}:
        raise LoadError("something else than PUBACK")
    return count, data[count * 4 :]


def received(sock: socket.socket) -> bytes:
    """Read what is there."""
    data = sock.recv(_READ_SIZE)
    if not data:
        raise LoadError("the broker closed a connection")
    return data


def poll(poller: select.epoll) -> list[tuple[int, int]]:
    """Wait until a socket has something."""
    events = poller.poll(SILENCE_S)
    if not events:
        raise LoadError(f"nothing came for {SILENCE_S:.0f} s")
    return events


@contextmanager
def connected(port: int, name: str, *, clean: bool = False) -> Iterator[socket.socket]:
    """Connect a client whose session is new."""
    with socket.create_connection(("127.0.0.1", port), timeout=SETUP_TIMEOUT_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(connect_packet(name, clean=clean))
        expect(sock, b"\x20\x02\x00\x00")
        yield sock


def connect_packet(name: str, *, clean: bool) -> bytes:
    """Return CONNECT."""
    body = b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + b"\x01\x2c"
    body += struct.pack(">H", len(name)) + name.encode()
    return bytes((0x10, len(body))) + body


def subscribe(sock: socket.socket, number: int) -> None:
    """Subscribe to the topic with this number at QoS 1."""
    name = (_TOPIC % number).encode()
    body = b"\x00\x01" + struct.pack(">H", len(name)) + name + b"\x01"
    sock.sendall(bytes((0x82, len(body))) + body)
    expect(sock, b"\x90\x03\x00\x01\x01")


def expect(sock: socket.socket, wanted: bytes) -> None:
    """Read exactly this; nothing wanted is the end of the connection."""
    sock.settimeout(SETUP_TIMEOUT_S)
    data = sock.recv(len(wanted) or 1)
    while wanted and data and len(data) < len(wanted):
        data += sock.recv(len(wanted) - len(data))
    if data != wanted:
        raise LoadError(f"{data!r} came instead of {wanted!r}")
    sock.settimeout(None)
