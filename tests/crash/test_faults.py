"""A disk that fails, fills up or loses what was not synced: nothing that was acknowledged is lost."""

import asyncio
import errno
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crash.checker import violations
from crash.history import History
from crash.load import Load
from crash.peer import Peer
from crash.shim import Shim
from crash.site import CrashSite

# paho leaves the socket of a TLS handshake that fails to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)

_POLL_S = 0.02
_RECOVERY_S = 15.0
_ENVIRONMENT_FAILURE = 3


class Scene:
    """An absent subscriber at QoS 2, and a publisher whose messages must be stored for it."""

    def __init__(self, site: CrashSite) -> None:
        self.site = site
        self.history = History()
        self.publisher = Peer("publisher", self.history, answer_s=_RECOVERY_S)
        self.absent = Peer("absent", self.history)
        self._context = site.context()

    async def begin(self) -> None:
        """Start the server; the subscriber subscribes and leaves."""
        await self.site.start()
        await self.come(self.absent)
        await self.absent.subscribe("load/#", 2)
        await self.absent.disconnect()
        await self.come(self.publisher)
        self.publish()
        await self.publisher.settle()

    async def come(self, peer: Peer) -> None:
        await peer.connect(self.site.port, self._context)

    def publish(self, size: int = 100) -> None:
        """Send a message at QoS 1 and one at QoS 2."""
        for qos in (1, 2):
            self.publisher.publish(f"load/{qos}", qos, size=size)

    async def ready_is(self, status: int) -> list[str]:
        """Wait until /ready says so; its reasons."""
        async with asyncio.timeout(_RECOVERY_S):
            # What another process comes to know cannot be waited for in another way.
            while (answer := await self.site.ready())[0] != status:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        reasons: list[str] = answer[1]["reasons"]
        return reasons

    async def qos_0_is_served(self) -> None:
        """A message comes through between two clients whose sessions are nobody's but their connections'."""
        arrived = asyncio.Event()
        live = Peer("live", History(), is_clean=True, on_message=lambda _: arrived.set())
        try:
            await self.come(live)
            await live.subscribe("live", 0)
            self.publisher.publish("live", 0)
            async with asyncio.timeout(_RECOVERY_S):
                await arrived.wait()
        finally:
            await live.disconnect()

    async def is_failing(self) -> None:
        """The server says that it fails, in three ways, and goes on with what needs no disk."""
        assert any("storage" in reason for reason in await self.ready_is(503))
        failing = {name for name, value in (await self.site.metrics()).items() if "fail" in name and value}
        assert any(name.startswith("gnomon_storage_") for name in failing), failing
        assert "storage.failing" in self.site.log.read_text()
        await self.qos_0_is_served()

    async def has_recovered(self) -> None:
        await self.publisher.settle()
        assert await self.ready_is(200) == []
        assert "storage.recovered" in self.site.log.read_text()

    async def nothing_is_lost(self) -> None:
        """Kill the server once more; the subscriber then gets everything, from a server without faults."""
        await self.site.kill()
        await self.publisher.wait_gone()
        await self.site.start()
        await self.come(self.publisher)
        await self.publisher.settle()
        if not self.absent.is_connected:
            await self.come(self.absent)
        await self.takes_everything()
        await self.publisher.disconnect()
        await self.absent.disconnect()
        assert violations(self.history) == []

    async def takes_everything(self) -> None:
        sent = {event.key for event in self.history.published if event.qos}
        async with asyncio.timeout(_RECOVERY_S):
            while sent - {event.key for event in self.history.received if hasattr(event, "key")}:
                await self.absent.ping()
            await self.absent.ping()


@pytest.fixture
async def scene(site: CrashSite) -> AsyncIterator[Scene]:
    scene = Scene(site)
    yield scene
    await scene.publisher.abort()
    await scene.absent.abort()


_FAILURES = pytest.mark.parametrize(
    ("fault", "code"),
    [("write_errno", errno.EIO), ("write_errno", errno.ENOSPC), ("sync_errno", errno.EIO)],
    ids=["write EIO", "write ENOSPC", "sync EIO"],
)


@_FAILURES
async def test_a_failing_disk_stops_acknowledgements_until_it_works_again(
    scene: Scene, shim: Shim, fault: str, code: int
) -> None:
    await scene.begin()
    setattr(shim.faults, fault, code)
    scene.publish()
    await scene.is_failing()
    assert scene.publisher.in_flight == 2, "acknowledged, and not on the disk"
    assert shim.faults.failures
    setattr(shim.faults, fault, 0)
    await scene.has_recovered()
    await scene.nothing_is_lost()


@_FAILURES
async def test_a_kill_while_the_disk_fails_loses_nothing(
    scene: Scene, shim: Shim, fault: str, code: int
) -> None:
    await scene.begin()
    setattr(shim.faults, fault, code)
    scene.publish()
    await scene.is_failing()
    await scene.site.kill()
    setattr(shim.faults, fault, 0)
    await scene.publisher.wait_gone()
    await scene.site.start()
    await scene.come(scene.publisher)
    await scene.publisher.settle()
    await scene.nothing_is_lost()


async def test_a_server_that_cannot_make_its_database_says_so_and_ends(site: CrashSite, shim: Shim) -> None:
    shim.faults.write_errno = errno.ENOSPC
    site.launch()
    assert await site.wait() == _ENVIRONMENT_FAILURE
    log = site.log.read_text()
    assert "gnomon.db" in log
    assert "Traceback" not in log


async def _fill(scene: Scene) -> None:
    """Publish until the disk takes no more."""
    async with asyncio.timeout(_RECOVERY_S):
        while (await scene.site.ready())[0] == 200:
            if scene.publisher.in_flight < 16:
                scene.publish(size=8000)
            else:
                await asyncio.sleep(_POLL_S)  # Either acknowledgements come or /ready changes.
    await scene.is_failing()
    assert scene.publisher.in_flight


async def test_a_database_at_its_size_limit_recovers_when_messages_are_taken(
    scene: Scene,
) -> None:
    scene.site.configure({"disk_bytes_maximum": 2 << 20})
    await scene.begin()
    await _fill(scene)
    await scene.come(scene.absent)
    await scene.has_recovered()
    scene.site.configure({})
    await scene.nothing_is_lost()


async def test_a_database_at_its_size_limit_recovers_with_a_higher_one(scene: Scene) -> None:
    scene.site.configure({"disk_bytes_maximum": 2 << 20})
    await scene.begin()
    await _fill(scene)
    scene.site.configure({})
    await scene.nothing_is_lost()


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        _run("mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", folder)
    except subprocess.CalledProcessError:
        pytest.skip("only root may mount; the tests of the size limit stand for this one")
    yield folder
    _run("umount", folder)


async def test_a_full_disk_recovers_when_it_grows(small_disk: Path, tmp_path: Path) -> None:
    site = CrashSite(tmp_path, data=small_disk)
    scene = Scene(site)
    try:
        await scene.begin()
        await _fill(scene)
        await asyncio.to_thread(_run, "mount", "-o", "remount,size=64m", small_disk)
        await scene.has_recovered()
        await scene.nothing_is_lost()
    finally:
        await scene.publisher.abort()
        await scene.absent.abort()
        await site.kill()


async def _die_again_and_again(site: CrashSite, shim: Shim, fault: str, *, rounds: int, seed: int) -> None:
    """Under load the server kills itself inside a write or a sync, each time at another one."""
    chance = random.Random(seed)
    load = Load(site, seed)
    async with load.running():
        for _ in range(rounds):
            await site.start()
            await asyncio.sleep(chance.uniform(0.1, 0.4))  # Load until then.
            setattr(shim.faults, fault, chance.randint(1, 40))
            assert await site.wait() == -9
            load.check_quickly()
        await site.start()
        await load.drain()
    print(load.summary())  # noqa: T201
    load.check()


_DEATHS = pytest.mark.parametrize("fault", ["tear_in", "cut_in"], ids=["torn frame", "power cut"])


@pytest.mark.timeout(120)
@_DEATHS
async def test_a_death_inside_a_write_loses_nothing(site: CrashSite, shim: Shim, fault: str) -> None:
    await _die_again_and_again(site, shim, fault, rounds=6, seed=random.randrange(1 << 32))
    assert shim.faults.syncs
    if fault == "cut_in":
        assert shim.faults.taken_back, "no power cut found anything to take back"


@pytest.mark.soak
@pytest.mark.timeout(600)
@_DEATHS
@pytest.mark.parametrize("seed", range(5))
async def test_many_deaths_inside_writes_lose_nothing(
    site: CrashSite, shim: Shim, fault: str, seed: int
) -> None:
    await _die_again_and_again(site, shim, fault, rounds=40, seed=seed)
