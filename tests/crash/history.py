"""What clients did and saw, in the order in which they did and saw it.

Knows: one list per kind of event; every event's place in the order of all, and its time.
Does not know: what is right (checker), sockets, MQTT's bytes.
Spec: v5 §4.1, §4.3, §4.6.

All clients share one process and one event loop, so one counter orders their events. An event of a
sender stands before its bytes leave, one of a receiver after they came: what the counter orders, the
server saw in that order.
"""

import itertools
import time
from collections.abc import Callable
from enum import Enum, auto
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct


class Key(NamedTuple):
    """A message: who published it, and that publisher's number for it, from 1 upwards."""

    publisher: str
    number: int


class Event(Struct, kw_only=True, gc=False):
    """`at` counts events; `time` is seconds on a clock that never goes back."""

    at: int = 0
    time: float = 0.0


class Published(Event, gc=False):
    """A PUBLISH leaves; a resent one has DUP. `is_cleared`: it ends the topic's retained message."""

    key: Key
    topic: str
    qos: int
    is_dup: bool = False
    is_retain: bool = False
    is_cleared: bool = False
    expires_s: int | None = None


class Acknowledged(Event, gc=False):
    """PUBACK or PUBREC came, and did not refuse the message."""

    key: Key


class Received(Event, gc=False):
    """A PUBLISH came. `key` is None where topic or payload are not those of any message."""

    client: str
    topic: str
    key: Key | None
    qos: int
    packet_id: int = 0
    is_dup: bool = False
    is_retain: bool = False


class Released(Event, gc=False):
    """A PUBREL came: the packet id is free again (v5 §4.3.3)."""

    client: str
    packet_id: int


class Connected(Event, gc=False):
    """CONNACK came. `may_be_new`: the client asked for a clean start, or its session's time was over."""

    client: str
    is_session_present: bool
    may_be_new: bool = False


class Lost(Event, gc=False):
    """A connection ended, whoever ended it."""

    client: str


class Step(Enum):
    """Where a change of a subscription stands: asked for, or acknowledged."""

    SUBSCRIBE = auto()
    SUBSCRIBED = auto()
    UNSUBSCRIBE = auto()
    UNSUBSCRIBED = auto()


class Subscription(Event, gc=False):
    """One step. `existed` is what UNSUBACK (v5) says of it."""

    client: str
    topic_filter: str
    step: Step
    existed: bool = True


class WillSet(Event, gc=False):
    """A client sends a CONNECT with a Will.

    `is_sure`: the server has it, for it acknowledged what the client asked for later.
    """

    client: str
    key: Key
    delay_s: float
    is_sure: bool = False


class RetainedRead(Event, gc=False):
    """A new subscriber, which subscribed after the event `since`, was sent this retained message or none."""

    since: int
    topic: str
    key: Key | None


class ShadowSeen(Event, gc=False):
    """`accepted` of an update or, `is_read`, of a get that was asked after the event `since`.

    `number` is what the device counts in the state.
    """

    thing: str
    version: int
    number: int
    is_read: bool = False
    since: int = 0


_E = TypeVar("_E", bound=Event)


class History:
    """All events of one run. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counter = itertools.count(1)
        self.now = 0
        self.published: list[Published] = []
        self.acknowledged: list[Acknowledged] = []
        self.received: list[Received | Released] = []
        self.connections: list[Connected | Lost] = []
        self.subscriptions: list[Subscription] = []
        self.wills: list[WillSet] = []
        self.retained: list[RetainedRead] = []
        self.shadows: list[ShadowSeen] = []
        self._lists: dict[type[Event], list[Any]] = {
            Published: self.published,
            Acknowledged: self.acknowledged,
            Received: self.received,
            Released: self.received,
            Connected: self.connections,
            Lost: self.connections,
            Subscription: self.subscriptions,
            WillSet: self.wills,
            RetainedRead: self.retained,
            ShadowSeen: self.shadows,
        }

    def add(self, event: _E) -> _E:
        """Give an event its place and its time."""
        self.now = event.at = next(self._counter)
        event.time = self._clock()
        self._lists[type(event)].append(event)
        return event

    def write(self, path: Path) -> None:
        """Write all events in order, one line of JSON each, to look at after a finding."""
        lists = {id(each): each for each in self._lists.values()}.values()
        events = sorted((event for each in lists for event in each), key=attrgetter("at"))
        lines = (f"{type(event).__name__} ".encode() + msgspec.json.encode(event) for event in events)
        path.write_bytes(b"\n".join(lines))
