"""Messages into sessions that are offline, and out again; one process with all its sockets.

Knows: who publishes how much, the window, that each session must get 0, 1, 2, ... and then nothing.
Does not know: which broker it is, what the broker spends (durable).
Spec: v3.1.1 §4.1, §4.4.
"""

import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack

from msgspec import Struct

from broker.protocol.packets import Publish
from broker.protocol.stream import PacketStream

from .durable_wire import (
    FRAME_SIZE,
    PAYLOAD_AT,
    PING,
    PING_ANSWER,
    SETUP_TIMEOUT_S,
    STAMP,
    LoadError,
    client_id,
    connect_packet,
    connected,
    count_acknowledgements,
    expect,
    frames,
    poll,
    received,
    subscribe,
    take_messages,
)


class Flow(Struct, frozen=True, kw_only=True):
    """Messages that went through, and the monotonic seconds from the first byte to the last."""

    messages: int
    begun_s: float
    ended_s: float

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.messages / (self.ended_s - self.begun_s)


def make_sessions(port: int, numbers: Sequence[int]) -> None:
    """Leave a persistent session for each number, subscribed to its topic at QoS 1, offline."""
    with ExitStack() as stack:
        for number in numbers:
            sock = stack.enter_context(connected(port, client_id(number)))
            subscribe(sock, number)
            sock.sendall(b"\xe0\x00")
            expect(sock, b"")


def publish(port: int, sessions: int, messages: int, publishers: int, window: int, limit_s: float) -> Flow:
    """Publish to the topics of all sessions in turn until all is acknowledged; `limit_s` ends the sending."""
    per_topic = messages // sessions
    with ExitStack() as stack:
        poller = select.epoll()
        stack.callback(poller.close)
        clients: dict[int, _Publishing] = {}
        for number in range(publishers):
            sock = stack.enter_context(connected(port, f"durable-publisher-{number}", clean=True))
            prepared = frames(range(number, sessions, publishers), per_topic)
            clients[sock.fileno()] = _Publishing(sock, prepared, window)
            poller.register(sock, select.EPOLLIN)
        begun = time.monotonic()
        for client in clients.values():
            client.send()
        waiting = {descriptor for descriptor, client in clients.items() if not client.is_done}
        while waiting:
            for descriptor, _ in poll(poller):
                client = clients[descriptor]
                client.receive()
                if time.monotonic() - begun > limit_s:
                    client.stop()
                client.send()
                if client.is_done:
                    waiting.discard(descriptor)
        ended = time.monotonic()
    return Flow(messages=sum(each.acknowledged for each in clients.values()), begun_s=begun, ended_s=ended)


def drain(port: int, sessions: Sequence[int], per_session: int) -> Flow:
    """Connect the sessions and take what waits for them, `per_session` messages each and in order.

    Raises:
        LoadError: a message is missing, out of order, or there is one too many.
    """
    with ExitStack() as stack:
        poller = select.epoll()
        stack.callback(poller.close)
        clients: dict[int, _Draining] = {}
        for _ in sessions:
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients[sock.fileno()] = _Draining(sock, per_session)
            poller.register(sock, select.EPOLLIN)
        begun = time.monotonic()
        for number, client in zip(sessions, clients.values(), strict=True):
            client.sock.sendall(connect_packet(client_id(number), clean=False))
        waiting = set(clients)
        ended = begun
        while waiting:
            for descriptor, _ in poll(poller):
                client = clients[descriptor]
                if client.receive():
                    ended = time.monotonic()
                if client.is_done:
                    waiting.discard(descriptor)
        for client in clients.values():  # A PINGRESP shows that the PUBACKs before it were taken.
            client.sock.sendall(PING)
        for client in clients.values():
            expect(client.sock, PING_ANSWER)
    return Flow(messages=per_session * len(sessions), begun_s=begun, ended_s=ended)


def take_pending(port: int, name: str, messages: int) -> float:
    """Connect any session, take and acknowledge its messages; returns the seconds that took."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=SETUP_TIMEOUT_S) as sock:
        sock.sendall(connect_packet(name, clean=False))
        expect(sock, b"\x20\x02\x01\x00")
        sock.settimeout(SETUP_TIMEOUT_S)
        stream = PacketStream(maximum_packet_size=1 << 20)
        taken = 0
        while taken < messages:
            stream.feed(received(sock))
            for packet in stream.read(messages):
                if not isinstance(packet, Publish):
                    raise LoadError(f"{packet} came instead of a message")
                sock.sendall(b"\x40\x02" + packet.packet_id.to_bytes(2, "big"))
                taken += 1
        return time.monotonic() - begun


class _Publishing:
    """One publisher: prepared frames, a window, and how far it is."""

    def __init__(self, sock: socket.socket, frames: bytearray, window: int) -> None:
        self.acknowledged = 0
        self._sock = sock
        self._frames = memoryview(frames)
        self._last = len(frames) // FRAME_SIZE
        self._window = window
        self._sent = 0
        self._rest = b""

    @property
    def is_done(self) -> bool:
        """Whether everything is acknowledged."""
        return self.acknowledged == self._last

    def send(self) -> None:
        """Send what the window allows."""
        until = min(self._last, self.acknowledged + self._window)
        if until > self._sent:
            self._sock.sendall(self._frames[self._sent * FRAME_SIZE : until * FRAME_SIZE])
            self._sent = until

    def stop(self) -> None:
        """Send no more."""
        self._last = self._sent

    def receive(self) -> None:
        """Count PUBACKs."""
        count, self._rest = count_acknowledgements(self._rest + received(self._sock))
        self.acknowledged += count


class _Draining:
    """One session that takes what waited for it."""

    def __init__(self, sock: socket.socket, expected: int) -> None:
        self.sock = sock
        self._expected = expected
        self._due = 0
        self._rest = b""
        self._is_connected = False

    @property
    def is_done(self) -> bool:
        """Whether everything is here."""
        return self._due == self._expected

    def receive(self) -> bool:
        """Take and acknowledge what is there; says whether messages were."""
        data = self._rest + received(self.sock)
        if not self._is_connected:
            if len(data) < 4:
                self._rest = data
                return False
            if data[:4] != b"\x20\x02\x01\x00":
                raise LoadError(f"{data[:4]!r} instead of a CONNACK with a session")
            self._is_connected = True
            data = data[4:]
        count, self._rest = take_messages(self.sock, data)
        for at in range(PAYLOAD_AT, count * FRAME_SIZE, FRAME_SIZE):
            number, _ = STAMP.unpack_from(data, at)
            if number != self._due:
                raise LoadError(f"message {number} came where {self._due} was due")
            self._due += 1
        return bool(count)
