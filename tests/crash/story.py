"""A history that is told by hand, for tests of the checker.

Knows: every kind of event, its shortest telling.
Does not know: what the checker makes of it.
Spec: none.
"""

import itertools
from typing import Any

from .checker import Kind, violations
from .history import (
    Acknowledged,
    Connected,
    History,
    Key,
    Lost,
    Published,
    Received,
    Released,
    RetainedRead,
    ShadowSeen,
    Step,
    Subscription,
    WillSet,
)

ONE, TWO, THREE = (Key("p", number) for number in (1, 2, 3))


class Story:
    """A history that is told by hand; a second passes with each event unless `wait` adds some."""

    def __init__(self) -> None:
        self._now = itertools.count()
        self._waited_s = 0.0
        self.history = History(lambda: next(self._now) + self._waited_s)

    def wait(self, seconds: float) -> None:
        self._waited_s += seconds

    def send(self, key: Key, topic: str = "t", qos: int = 1, **fields: Any) -> None:
        self.history.add(Published(key, topic, qos, **fields))

    def acknowledge(self, key: Key) -> None:
        self.history.add(Acknowledged(key))

    def publish(self, key: Key, topic: str = "t", qos: int = 1, **fields: Any) -> None:
        self.send(key, topic, qos, **fields)
        self.acknowledge(key)

    def receive(
        self, key: Key | None, client: str = "s", topic: str = "t", qos: int = 1, **fields: Any
    ) -> None:
        self.history.add(Received(client, topic, key, qos, **fields))

    def release(self, packet_id: int, client: str = "s") -> None:
        self.history.add(Released(client, packet_id))

    def connect(self, client: str = "s", *, present: bool = True, **fields: Any) -> None:
        self.history.add(Connected(client, present, **fields))

    def lose(self, client: str = "s") -> None:
        self.history.add(Lost(client))

    def step(self, step: Step, topic_filter: str = "t", client: str = "s", **fields: Any) -> None:
        self.history.add(Subscription(client, topic_filter, step, **fields))

    def subscribe(self, topic_filter: str = "t", client: str = "s") -> None:
        self.step(Step.SUBSCRIBE, topic_filter, client)
        self.step(Step.SUBSCRIBED, topic_filter, client)

    def unsubscribe(self, topic_filter: str = "t", client: str = "s") -> None:
        self.step(Step.UNSUBSCRIBE, topic_filter, client)
        self.step(Step.UNSUBSCRIBED, topic_filter, client)

    def will(self, client: str = "m", delay_s: float = 3.0, *, is_sure: bool = True) -> None:
        self.history.add(WillSet(client, will_of(client), delay_s))
        if is_sure:
            self.history.add(WillSet(client, will_of(client), delay_s, is_sure=True))

    def read_retained(self, key: Key | None, since: int | None = None) -> None:
        self.history.add(RetainedRead(self.history.now if since is None else since, "t", key))

    def accept(self, number: int, version: int) -> None:
        self.history.add(ShadowSeen("thing", version, number))

    def read_shadow(self, number: int, version: int, since: int | None = None) -> None:
        begun = self.history.now if since is None else since
        self.history.add(ShadowSeen("thing", version, number, is_read=True, since=begun))

    @property
    def kinds(self) -> list[Kind]:
        return [finding.kind for finding in violations(self.history)]


def will_of(client: str) -> Key:
    return Key(f"will of {client}", 1)
