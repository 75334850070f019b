"""The load under which a server is killed: every kind of client that has something to lose.

Knows: who publishes and subscribes what, who comes and goes, and when all is drained.
Does not know: when the server dies (tests), what is right (checker).
Spec: v5 §3.1.2.5, §3.3.1.3, §3.3.2.3.3, §4.1, §4.3, §4.8.2; v3.1.1 §4.1, §4.3.
"""

import asyncio
import itertools
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from broker.protocol.packets import V3_1_1, V5, Publish

from .checker import Violation, missing, quick_violations, violations
from .history import History, RetainedRead
from .paho_role import PahoRole
from .payloads import key_of
from .peer import Peer
from .shadow_role import ShadowRole
from .site import CrashSite

_SIZES: Final = (0, 20, 100, 300, 5000)
_WINDOW: Final = 8
_RETAINED_TOPICS: Final = tuple(f"retain/{number}" for number in range(4))
_SHORT_S: Final = 1
_LONG_S: Final = 3600
_PUBLISHERS: Final = (("p4-1", V3_1_1, 1), ("p4-2", V3_1_1, 2), ("p5-1", V5, 1), ("p5-2", V5, 2))
#: Nothing came for so long: whatever is still missing will not come.
_QUIET_S: Final = 4.0
_POLL_S: Final = 0.25

Act = Callable[[Peer], Awaitable[None]]


class Load:
    """All clients; `history` holds what they did and saw.

    Args:
        site: where the server is, while there is one.
        seed: of everything that is left to chance.
    """

    def __init__(self, site: CrashSite, seed: int) -> None:
        self.history: Final = History()
        self.site: Final = site
        self._seed = seed
        self._random = random.Random(seed)
        self._context = site.context()
        self._is_loading = True
        self._draining = asyncio.Event()
        self._peers: list[Peer] = []
        self._paho = PahoRole("paho", self.history, site.context())
        self._shadow = ShadowRole(site, self.history, "thing-1")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let all clients live to the end of the block, over any number of servers."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(life, name=name) for name, life in self._lives()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                for peer in self._peers:
                    await peer.abort()
                await self._paho.close()

    async def drain(self) -> None:
        """Publish no more, let the absent come back, and wait until nothing is missing or comes."""
        self._is_loading = False
        self._draining.set()
        quiet_s = 0.0
        while quiet_s < _QUIET_S:
            before = len(self.history.received)
            await asyncio.sleep(_POLL_S)  # Silence is what is waited for.
            quiet_s = quiet_s + _POLL_S if before == len(self.history.received) else 0.0
            if quiet_s and not self._in_flight and self._are_connected and not missing(self.history):
                return

    def check_quickly(self) -> None:
        """Look at what can be judged while messages are on their way.

        Raises:
            AssertionError: with what was found.
        """
        self._judge(quick_violations(self.history))

    def check(self) -> None:
        """Look at everything, after `drain`.

        Raises:
            AssertionError: with what was found.
        """
        self._judge(violations(self.history))

    def _judge(self, found: Sequence[Violation]) -> None:
        if found:
            path = self.site.folder / "history"
            self.history.write(path)
            lines = [f"{len(found)} findings, {self.summary()}:", *map(str, found[:40]), str(path)]
            raise AssertionError("\n".join(lines))

    def summary(self) -> str:
        """Return how much has happened, in one line."""
        history = self.history
        counts = Counter(type(event).__name__ for event in (*history.received, *history.connections))
        return (
            f"seed {self._seed}: {self.site.starts} servers, "
            f"{len(history.published)} sent, {len(history.acknowledged)} acknowledged, "
            f"{counts['Received']} received, {counts['Connected']} connections, "
            f"{sum(event.is_dup for event in history.published)} sent again, {len(history.wills)} Wills, "
            f"{len(history.subscriptions)} steps of subscriptions, {len(history.retained)} retained read, "
            f"{len(history.shadows)} shadows seen"
        )

    @property
    def _in_flight(self) -> int:
        return self._paho.in_flight + sum(peer.in_flight for peer in self._peers)

    @property
    def _are_connected(self) -> bool:
        return self._paho.is_connected and all(peer.is_connected for peer in self._peers)

    def _lives(self) -> Sequence[tuple[str, Any]]:
        """Every client with what it does all its life."""
        both = ("load/#",)
        lives: list[tuple[Peer, Act]] = [
            (self._peer("s4-1", version=V3_1_1, slow_s=0.005), self._receiving(both, 1)),
            (self._peer("s4-2", version=V3_1_1), self._receiving(both, 2)),
            (self._peer("s5-2", slow_s=0.005), self._receiving(("load/#", "will/#"), 2)),
            (self._peer("flap-1"), self._receiving(("load/#", "expiry/#"), 1, flaps=True)),
            (self._peer("flap-2", version=V3_1_1), self._receiving(both, 2, flaps=True)),
            (self._peer("share-1"), self._receiving(("$share/group/load/#",), 2, flaps=True)),
            (self._peer("share-2", slow_s=0.005), self._receiving(("$share/group/load/#",), 2)),
            (self._peer("offline"), self._offline(("load/#", "will/#", "expiry/#"))),
            (self._peer("changer"), self._changing),
            (self._peer("retainer"), self._retaining),
            (self._peer("expirer"), self._expiring),
        ]
        for name, version, qos in _PUBLISHERS:
            lives.append((self._peer(name, version=version), self._publishing(f"load/{name}", qos)))
        return [
            *((peer.name, self._live(peer, act, self._context)) for peer, act in lives),
            ("auditor", self._audit()),
            ("mortals", self._mortals()),
            ("paho", self._live_paho()),
            ("shadow", self._shadow.live()),
        ]

    def _peer(self, name: str, **options: Any) -> Peer:
        self._peers.append(peer := Peer(name, self.history, **options))
        return peer

    async def _live(self, peer: Peer, act: Act, context: ssl.SSLContext) -> None:
        """Connect whenever there is a server, and do one's part until the connection ends."""
        while True:
            await self.site.up.wait()
            try:
                await peer.connect(self.site.port, context)
                await act(peer)
                await peer.wait_gone()
            except OSError:
                await peer.abort()
            await self._pause(0.03)

    async def _pause(self, longest_s: float) -> None:
        await asyncio.sleep(self._random.uniform(0, longest_s))

    # What clients do while they are connected.

    def _publishing(self, topic: str, qos: int) -> Act:
        async def act(peer: Peer) -> None:
            while self._is_loading:
                for _ in range(self._random.randint(1, 4)):
                    peer.publish(topic, qos, size=self._random.choice(_SIZES))
                await self._pause(0.02)
                await peer.settle(_WINDOW)

        return act

    async def _retaining(self, peer: Peer) -> None:
        while self._is_loading:
            topic = self._random.choice(_RETAINED_TOPICS)
            peer.publish(topic, 1, size=20, is_retain=True, is_cleared=self._random.random() < 0.2)
            await self._pause(0.03)
            await peer.settle(_WINDOW)

    async def _expiring(self, peer: Peer) -> None:
        while self._is_loading:
            peer.publish("expiry/short", 1, expires_s=_SHORT_S)
            peer.publish("expiry/long", 1, expires_s=_LONG_S)
            await self._pause(0.06)
            await peer.settle(_WINDOW)

    def _receiving(self, filters: Sequence[str], qos: int, *, flaps: bool = False) -> Act:
        granted: set[str] = set()

        async def act(peer: Peer) -> None:
            await self._subscribe(peer, filters, qos, granted)
            if flaps and self._is_loading:
                await self._pause(0.2)
                await (peer.disconnect() if self._random.random() < 0.5 else peer.abort())
                await self._pause(0.1)

        return act

    def _offline(self, filters: Sequence[str]) -> Act:
        """Subscribes once, and comes back in the end."""
        granted: set[str] = set()

        async def act(peer: Peer) -> None:
            await self._subscribe(peer, filters, 2, granted)
            if not self._draining.is_set():
                await peer.disconnect()
                await self._draining.wait()

        return act

    async def _subscribe(self, peer: Peer, filters: Sequence[str], qos: int, granted: set[str]) -> None:
        if not peer.is_session_present:
            granted.clear()
        for topic_filter in filters:
            if topic_filter not in granted:
                await peer.subscribe(topic_filter, qos)
                granted.add(topic_filter)

    async def _changing(self, peer: Peer) -> None:
        """Subscribes and unsubscribes one topic after the other; begins anew on every connection."""
        while self._is_loading:
            name, _, _ = self._random.choice(_PUBLISHERS)
            await peer.subscribe(f"load/{name}", 2)
            await self._pause(0.05)
            if self._random.random() < 0.7:
                await peer.unsubscribe(f"load/{name}")
                await self._pause(0.02)

    # Clients with lives of their own.

    async def _mortals(self) -> None:
        """One client after the other, each with a Will, which dies or goes down with the server."""
        for number in itertools.count(1):
            await self.site.up.wait()
            qos = self._random.randint(1, 2)
            peer = Peer(f"mortal-{number}", self.history, will=(qos, self._random.randint(0, 1)))
            try:
                await peer.connect(self.site.port, self._context)
                await peer.subscribe("nothing", 1)
                await self._pause(0.3)
            except OSError:
                pass
            finally:
                await peer.abort()
            if not self._is_loading:
                return
            await self._pause(0.1)

    async def _audit(self) -> None:
        """Reads the retained messages again and again, as a new client each time."""
        for number in itertools.count(1):
            await self.site.up.wait()
            found: dict[str, Publish] = {}
            peer = Peer(f"auditor-{number}", History(), is_clean=True, on_message=_retained_into(found))
            try:
                await peer.connect(self.site.port, self._context)
                since = self.history.now
                await peer.subscribe("retain/#", 0)
                await peer.ping()
            except OSError:
                await self._pause(0.03)
                continue
            finally:
                await peer.abort()
            for topic in _RETAINED_TOPICS:
                message = found.get(topic)
                key = None if message is None else key_of(message.payload, topic)
                self.history.add(RetainedRead(since, topic, key))
            if not self._is_loading:
                return
            await self._pause(0.3)

    async def _live_paho(self) -> None:
        is_granted = False
        while True:
            await self.site.up.wait()
            try:
                is_present = await self._paho.connect(self.site.port)
                if not (is_granted and is_present):
                    await self._paho.subscribe("load/+")
                    is_granted = True
                while self._is_loading and self._paho.is_connected:
                    if self._paho.in_flight < _WINDOW:
                        self._paho.publish("load/paho")
                    await self._pause(0.02)
                await self._paho.wait_gone()
            except OSError:
                await self._pause(0.03)


def _retained_into(found: dict[str, Publish]) -> Callable[[Publish], None]:
    def take(packet: Publish) -> None:
        if packet.is_retain:
            found[packet.topic.decode()] = packet

    return take
