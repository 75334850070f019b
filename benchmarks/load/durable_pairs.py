"""Messages between connected persistent sessions; one process with its share of the pairs.

Knows: the closed loop, the paced one, what is counted when, that each message comes once and in order.
Does not know: which broker it is, what the broker spends (durable).
Spec: v3.1.1 §4.1, §4.6.
"""

import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import ExitStack

from msgspec import Struct

from simulators.histogram import Histogram

from .durable_wire import (
    FRAME_SIZE,
    PACKET_ID_AT,
    PACKET_IDS,
    PAYLOAD_AT,
    SILENCE_S,
    STAMP,
    LoadError,
    client_id,
    connected,
    count_acknowledgements,
    frames,
    received,
    subscribe,
    take_messages,
)


class PairsPlan(Struct, frozen=True, kw_only=True):
    """What one process does with its pairs; `rate` 0 publishes as fast as the window allows.

    `rate` is in messages a second over these pairs. Counted is what is delivered from `begin_s` to `end_s`,
    both monotonic.
    """

    port: int
    pairs: Sequence[int]
    begin_s: float
    end_s: float
    window: int
    rate: float = 0.0


class PairsResult(Struct, frozen=True, kw_only=True):
    """What came in the time counted: latencies of delivery and of PUBACK are nanoseconds by bucket."""

    delivered: int
    latency: dict[int, int]
    acknowledged: dict[int, int]
    cpu_s: float


def run_pairs(plan: PairsPlan) -> PairsResult:
    """Publish in pairs of persistent sessions that stay connected.

    Raises:
        LoadError: a message is missing or out of order.
    """
    with ExitStack() as stack:
        poller = select.epoll()
        stack.callback(poller.close)
        pairs: dict[int, _Pair] = {}
        for number in plan.pairs:
            receiver = stack.enter_context(connected(plan.port, client_id(number)))
            subscribe(receiver, number)
            sender = stack.enter_context(connected(plan.port, f"durable-sender-{number}"))
            pair = _Pair(sender, receiver, number, plan)
            for sock in (sender, receiver):
                poller.register(sock, select.EPOLLIN)
                pairs[sock.fileno()] = pair
        if time.monotonic() > plan.begin_s:
            raise LoadError("the sessions were not made in time; the machine is too busy")
        each = list(dict.fromkeys(pairs.values()))
        _turn(poller, pairs, each, plan)
    latency, acknowledged = Histogram(), Histogram()
    for pair in each:
        latency.merge(pair.latency)
        acknowledged.merge(pair.puback)
    return PairsResult(
        delivered=sum(pair.counted for pair in each),
        latency=dict(latency.counts),
        acknowledged=dict(acknowledged.counts),
        cpu_s=time.process_time(),
    )


def _turn(poller: select.epoll, by_socket: "dict[int, _Pair]", pairs: "list[_Pair]", plan: PairsPlan) -> None:
    """Publish until the end, then wait until everything is through."""
    interval_ns = round(1e9 / plan.rate) if plan.rate else 0
    end_ns = round(plan.end_s * 1e9)
    due_ns = time.monotonic_ns()
    turn = 0
    if not interval_ns:
        for pair in pairs:
            pair.send(plan.window, due_ns)
    while True:
        now_ns = time.monotonic_ns()
        is_over = now_ns >= end_ns
        if is_over and all(pair.is_through for pair in pairs):
            return
        timeout_s = 0.1
        if interval_ns and not is_over:
            while due_ns <= now_ns:
                pairs[turn % len(pairs)].send(1, due_ns)
                turn += 1
                due_ns += interval_ns
            timeout_s = (due_ns - now_ns) / 1e9
        if now_ns > end_ns + SILENCE_S * 1e9:
            raise LoadError("messages are missing")
        for descriptor, _ in poller.poll(timeout_s):
            pair = by_socket[descriptor]
            if descriptor == pair.receiver.fileno():
                pair.take()
            elif (done := pair.take_acknowledgements()) and not interval_ns and not is_over:
                pair.send(done, time.monotonic_ns())


class _Pair:
    """A sender and its receiver."""

    def __init__(self, sender: socket.socket, receiver: socket.socket, number: int, plan: PairsPlan) -> None:
        self.receiver = receiver
        self.counted = 0
        self.latency = Histogram()
        self.puback = Histogram()
        self._sender = sender
        self._frames = frames([number], 1) * plan.window
        self._begin_ns, self._end_ns = round(plan.begin_s * 1e9), round(plan.end_s * 1e9)
        self._is_timed = bool(plan.rate)
        self._sent = self._acknowledged = self._delivered = 0
        self._times: list[int] = []
        self._rests = [b"", b""]

    @property
    def is_through(self) -> bool:
        """Whether everything that was sent is delivered and acknowledged."""
        return self._sent == self._acknowledged == self._delivered

    def send(self, count: int, due_ns: int) -> None:
        """Publish some messages."""
        frames = self._frames
        for at in range(0, count * FRAME_SIZE, FRAME_SIZE):
            struct.pack_into(">H", frames, at + PACKET_ID_AT, self._sent % PACKET_IDS + 1)
            STAMP.pack_into(frames, at + PAYLOAD_AT, self._sent, due_ns)
            self._sent += 1
        if self._is_timed:
            self._times += [due_ns] * count
        self._sender.sendall(memoryview(frames)[: count * FRAME_SIZE])

    def take_acknowledgements(self) -> int:
        """Count PUBACKs; returns how many came."""
        count, self._rests[0] = count_acknowledgements(self._rests[0] + received(self._sender))
        if self._is_timed:
            now_ns = time.monotonic_ns()
            if self._begin_ns <= now_ns < self._end_ns:
                for sent_ns in self._times[self._acknowledged : self._acknowledged + count]:
                    self.puback.add(now_ns - sent_ns)
        self._acknowledged += count
        return count

    def take(self) -> None:
        """Take and acknowledge messages."""
        data = self._rests[1] + received(self.receiver)
        now_ns = time.monotonic_ns()
        count, self._rests[1] = take_messages(self.receiver, data)
        is_counted = self._begin_ns <= now_ns < self._end_ns
        for at in range(PAYLOAD_AT, count * FRAME_SIZE, FRAME_SIZE):
            number, due_ns = STAMP.unpack_from(data, at)
            if number != self._delivered:
                raise LoadError(f"message {number} came where {self._delivered} was due")
            self._delivered += 1
            if is_counted and self._is_timed:
                self.latency.add(now_ns - due_ns)
        if is_counted:
            self.counted += count
