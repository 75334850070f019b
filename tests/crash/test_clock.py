"""The wall clock jumps: within a process nothing notices; over a restart expiry goes by the new time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from broker.protocol.packets import Publish
from broker.session import NEVER_EXPIRES
from crash.checker import violations
from crash.history import History
from crash.peer import Peer
from crash.shim import Shim
from crash.site import CrashSite

_HOUR_S = 3600
_NS = 1_000_000_000
_MINUTES_S = 600
_BOTH = pytest.mark.parametrize("jump_s", [_HOUR_S, -_HOUR_S], ids=["forward", "back"])
#: Seconds that a test may take.
_SLACK_S = 60


class Scene:
    """Two absent subscribers, whose sessions live for ten minutes and for ever, with messages for both."""

    def __init__(self, site: CrashSite) -> None:
        self.site = site
        self.history = History()
        self.received: dict[str, Publish] = {}
        self.publisher = Peer("publisher", self.history)
        #: By subscriber: the message that was published last has come.
        self.last = {name: asyncio.get_running_loop().create_future() for name in ("for-ever", "for-minutes")}
        self.for_ever = self._subscriber("for-ever")
        self.for_minutes = self._subscriber("for-minutes", expiry_s=_MINUTES_S)
        self.peers = (self.publisher, self.for_ever, self.for_minutes)
        self._context = site.context()

    def _subscriber(self, name: str, *, expiry_s: int = NEVER_EXPIRES) -> Peer:
        def take(packet: Publish) -> None:
            if name == "for-ever":
                self.received[packet.topic.decode()] = packet
            if packet.topic == b"load/for-ever" and not self.last[name].done():
                self.last[name].set_result(None)

        return Peer(name, self.history, on_message=take, expiry_s=expiry_s)

    async def begin(self) -> None:
        await self.site.start()
        for peer in (self.for_ever, self.for_minutes):
            await self.come(peer)
            await peer.subscribe("load/#", 1)
            await peer.disconnect()
        await self.come(self.publisher)
        self.publisher.publish("load/minutes", 1, expires_s=_MINUTES_S)
        self.publisher.publish("load/hours", 1, expires_s=2 * _HOUR_S)
        self.publisher.publish("load/for-ever", 1)
        await self.publisher.settle()

    async def come(self, peer: Peer) -> None:
        await peer.connect(self.site.port, self._context)

    async def restart(self) -> None:
        await self.site.kill()
        await self.publisher.wait_gone()
        await self.site.start()

    async def take(self) -> dict[str, int | None]:
        """The subscriber for ever comes; what it gets, with what is left of each message's life."""
        await self.come(self.for_ever)
        assert self.for_ever.is_session_present
        await self.for_ever.wait(self.last["for-ever"])
        return {topic: packet.properties.message_expiry_interval for topic, packet in self.received.items()}


@pytest.fixture
async def scene(site: CrashSite) -> AsyncIterator[Scene]:
    scene = Scene(site)
    yield scene
    for peer in scene.peers:
        await peer.abort()


def _is_about(left_s: int | None, expected_s: int) -> bool:
    return left_s is not None and expected_s - _SLACK_S <= left_s <= expected_s


@_BOTH
async def test_a_jump_while_the_server_runs_ends_nothing(scene: Scene, shim: Shim, jump_s: int) -> None:
    await scene.begin()
    shim.faults.clock_offset_ns = jump_s * _NS
    await scene.publisher.ping()
    await scene.come(scene.for_minutes)
    assert scene.for_minutes.is_session_present
    left = await scene.take()
    assert _is_about(left["load/minutes"], _MINUTES_S)
    assert _is_about(left["load/hours"], 2 * _HOUR_S)
    await scene.for_minutes.wait(scene.last["for-minutes"])
    assert violations(scene.history) == []


async def test_after_a_restart_an_hour_later_what_lived_for_minutes_has_ended(
    scene: Scene, shim: Shim
) -> None:
    await scene.begin()
    shim.faults.clock_offset_ns = _HOUR_S * _NS
    await scene.restart()
    left = await scene.take()
    assert left.keys() == {"load/hours", "load/for-ever"}
    assert _is_about(left["load/hours"], _HOUR_S)
    await scene.come(scene.for_minutes)
    assert not scene.for_minutes.is_session_present


async def test_after_a_restart_an_hour_earlier_everything_is_there(scene: Scene, shim: Shim) -> None:
    await scene.begin()
    shim.faults.clock_offset_ns = -_HOUR_S * _NS
    await scene.restart()
    assert (await scene.take()).keys() == {"load/minutes", "load/hours", "load/for-ever"}
    await scene.come(scene.for_minutes)
    assert scene.for_minutes.is_session_present
    await scene.for_minutes.wait(scene.last["for-minutes"])
    assert violations(scene.history) == []
