"""One process of the generator: its clients on one epoll loop, phase after phase.

Knows: which clients a part of a scenario needs, what each command does, when a phase is over.
Does not know: other processes, the broker as a process, figures.
"""

import os
import select
import signal
import ssl
import time
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Final

from simulators.histogram import Histogram

from .clients import Account, Gate, Publisher, Subscriber
from .commands import Failed, Open, Opened, PhaseResult, Plan, Stop
from .scenarios import OUTSTANDING, TOPIC
from .wire import Client, PeerBrokeError

_POLL_S: Final = 0.1
#: A phase in which nothing moves for so long is over, and what is missing is lost.
_IDLE_NS: Final = 5_000_000_000
_SETTLE_S: Final = 0.05
_ALL_LATENCIES: Final = 0
_EVERY_SIXTEENTH: Final = 15
_PROGRESS_SIZE: Final = 8


def main(plan: Plan, commands: Connection, progress: Connection | None) -> None:
    """Serve commands until `Stop`; `progress` carries counts of deliveries from subscribers to publishers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The coordinator ends us.
    worker = _Worker(plan, progress)
    try:
        while not isinstance(command := commands.recv(), Stop):
            try:
                commands.send(
                    worker.open() if isinstance(command, Open) else worker.run(command.per_publisher)
                )
            except PeerBrokeError as error:
                commands.send(Failed(str(error)))
    finally:
        worker.close()


class _Worker:
    def __init__(self, plan: Plan, progress: Connection | None) -> None:
        self._plan = plan
        self._poller = select.epoll()
        self._progress = progress
        self._told = 0
        self._publishers: list[Publisher] = []
        self._subscribers: list[Subscriber] = []
        self._gate = Gate(OUTSTANDING)
        self._clients = self._make_clients()
        self._by_descriptor: dict[int, Client] = {}
        self._last_ns = 0
        if progress is not None and plan.part == "publishers":
            self._poller.register(progress.fileno(), select.EPOLLIN)

    def open(self) -> Opened:
        """Connect everybody, some at a time."""
        waiting = deque(self._clients)
        opening: set[Client] = set()
        latency = Histogram()
        begun_ns = self._last_ns = time.monotonic_ns()
        cpu_ns = time.process_time_ns()
        while waiting or opening:
            while waiting and len(opening) < self._plan.parallel:
                client = waiting.popleft()
                self._by_descriptor[client.open()] = client
                opening.add(client)
            if self._poll(_POLL_S):
                self._last_ns = time.monotonic_ns()
            elif time.monotonic_ns() - self._last_ns > _IDLE_NS:
                raise PeerBrokeError(f"{len(opening)} connections get no answer")
            for client in [client for client in opening if client.is_ready]:
                opening.remove(client)
                latency.add(client.ready_after_ns)
        return Opened(
            dict(latency.counts),
            (time.monotonic_ns() - begun_ns) / 1e9,
            (time.process_time_ns() - cpu_ns) / 1e9,
        )

    def run(self, per_publisher: int) -> PhaseResult:
        """Publish and receive one phase's messages, or as many of them as come."""
        scenario = self._plan.scenario
        cpu_ns = time.process_time_ns()
        begun_ns = self._last_ns = time.monotonic_ns()
        for subscriber in self._subscribers:
            subscriber.begin()
        late = Histogram()
        total = per_publisher * len(self._publishers)
        expected = 0
        if self._subscribers:
            senders = 1 if self._plan.part == "pairs" else scenario.publishers
            expected = per_publisher * senders
        if scenario.kind == "paced" and self._publishers:
            self._pace(total, begun_ns, late)
        else:
            for publisher in self._publishers:
                publisher.remaining = per_publisher
        self._exchange(expected)
        last_ns = self._last_ns
        while self._poll(_SETTLE_S) and time.monotonic_ns() - last_ns < _IDLE_NS:
            pass  # A message too many comes late.
        unsent = sum(publisher.remaining for publisher in self._publishers)
        accounts = [subscriber.account for subscriber in self._subscribers]
        latency = Histogram()
        for account in accounts:
            latency.merge(account.latency)
        return PhaseResult(
            sent=total - unsent,
            delivered=sum(account.delivered for account in accounts),
            duplicates=sum(account.duplicates for account in accounts),
            reordered=sum(account.reordered for account in accounts),
            foreign=sum(account.foreign for account in accounts),
            begun_ns=begun_ns,
            last_ns=last_ns,
            cpu_s=(time.process_time_ns() - cpu_ns) / 1e9,
            latency=dict(latency.counts),
            late=dict(late.counts),
        )

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()
        self._poller.close()

    # Private.

    def _exchange(self, expected: int) -> None:
        """Serve the clients until everybody has everything, or nothing moves any more."""
        publishers = [publisher for publisher in self._publishers if publisher.remaining]
        while True:
            has_published = False
            for publisher in publishers:
                has_published |= publisher.pump()
            if self._poll(0 if has_published else _POLL_S):
                self._last_ns = time.monotonic_ns()
                self._tell_progress()
            elif time.monotonic_ns() - self._last_ns > _IDLE_NS:
                return
            if not has_published and self._is_done(expected):
                return

    def _is_done(self, expected: int) -> bool:
        return all(publisher.is_done for publisher in self._publishers) and all(
            subscriber.completed >= expected for subscriber in self._subscribers
        )

    def _pace(self, total: int, begun_ns: int, late: Histogram) -> None:
        """Send each message at its time whatever the broker does; the time sent is the schedule's."""
        publishers = self._publishers
        interval_ns = 1e9 / (self._plan.scenario.rate * len(publishers))
        sent = 0
        while sent < total:
            due_ns = begun_ns + int(sent * interval_ns)
            now_ns = time.monotonic_ns()
            if now_ns >= due_ns:
                late.add(now_ns - due_ns)
                publisher = publishers[sent % len(publishers)]
                publisher.remaining += 1
                publisher.publish(1, due_ns)
                sent += 1
                continue
            # select takes microseconds where epoll rounds up to milliseconds.
            if select.select((self._poller,), (), (), (due_ns - now_ns) / 1e9)[0]:
                self._poll(0)
        self._last_ns = time.monotonic_ns()

    def _poll(self, timeout_s: float) -> bool:
        """Serve whoever is ready; says whether anybody was."""
        events = self._poller.poll(timeout_s)
        for descriptor, mask in events:
            client = self._by_descriptor.get(descriptor)
            if client is not None:
                client.handle(mask)
            else:
                self._hear_progress(descriptor)
        return bool(events)

    def _tell_progress(self) -> None:
        """Tell the publishers' process how far the slowest subscriber is."""
        if self._progress is None or not self._subscribers:
            return
        completed = min(subscriber.gate.completed for subscriber in self._subscribers)
        if completed != self._told:
            self._told = completed
            os.write(self._progress.fileno(), completed.to_bytes(_PROGRESS_SIZE, "big"))

    def _hear_progress(self, descriptor: int) -> None:
        data = os.read(descriptor, 1 << 16)
        self._gate.completed = int.from_bytes(data[-_PROGRESS_SIZE:], "big")

    def _make_clients(self) -> Sequence[Client]:
        plan = self._plan
        tls = None if plan.tls is None else plan.tls.context()
        if plan.part == "connections":
            return [self._connection(number, tls) for number in plan.numbers]
        for number in plan.numbers:
            if plan.part == "pairs":
                gate = Gate(max(1, OUTSTANDING // plan.scenario.clients))
                self._publishers.append(self._publisher(number, gate, tls))
                self._subscribers.append(self._subscriber(number, f"{TOPIC}/{number}", gate, tls))
            elif plan.part == "publishers":
                self._publishers.append(self._publisher(number, self._gate, tls))
            else:
                # Each counts for itself; the slowest count travels to the publishers' process.
                self._subscribers.append(self._subscriber(number, f"{TOPIC}/#", Gate(OUTSTANDING), tls))
        # Subscribers first: nobody publishes before everybody listens, in whichever process.
        return [*self._subscribers, *self._publishers]

    def _connection(self, number: int, tls: ssl.SSLContext | None) -> Client:
        return Client(self._poller, self._plan.address, tls, f"load-c{number}")

    def _publisher(self, number: int, gate: Gate, tls: ssl.SSLContext | None) -> Publisher:
        plan = self._plan
        return Publisher(
            self._poller,
            plan.address,
            tls,
            f"load-p{number}",
            topic=f"{TOPIC}/{number}".encode(),
            qos=plan.scenario.qos,
            number=number,
            run_id=plan.run_id,
            gate=gate,
        )

    def _subscriber(
        self, number: int, topic_filter: str, gate: Gate, tls: ssl.SSLContext | None
    ) -> Subscriber:
        plan = self._plan
        mask = _ALL_LATENCIES if plan.scenario.kind == "paced" else _EVERY_SIXTEENTH
        return Subscriber(
            self._poller,
            plan.address,
            tls,
            f"load-s{number}",
            topic_filter=topic_filter.encode(),
            qos=plan.scenario.qos,
            account=Account(plan.run_id, latency_mask=mask),
            gate=gate,
        )
