"""A server under load is killed again and again, and nobody loses what was acknowledged."""

import asyncio
import random
from pathlib import Path

import pytest

from crash.checker import Kind, violations
from crash.load import Load
from crash.site import CrashSite

# paho leaves the socket of a TLS handshake that fails to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)

#: How long the load runs before the next kill, in seconds, and a start that is killed before it is done.
_LIFE_S = (0.15, 0.7)
_START_S = (0.0, 0.7)
_KILLED_STARTS = 0.15


async def kill_again_and_again(site: CrashSite, load: Load, *, kills: int, seed: int) -> None:
    """Start and kill servers; one in some dies before it is ready. Stops at the first finding."""
    chance = random.Random(seed)
    for _ in range(kills):
        if site.starts and chance.random() < _KILLED_STARTS:
            site.launch()
            await asyncio.sleep(chance.uniform(*_START_S))  # The instant of the kill.
        else:
            await site.start()
            await asyncio.sleep(chance.uniform(*_LIFE_S))
        await site.kill()
        load.check_quickly()


async def take_everything(site: CrashSite, load: Load) -> None:
    """Drain, over a last start and an orderly restart."""
    await site.start()
    await load.drain()
    await site.stop()
    await site.start()
    await load.drain()
    await site.stop()


async def run(folder: Path, *, kills: int, seed: int) -> None:
    site = CrashSite(folder)
    load = Load(site, seed)
    try:
        async with load.running():
            await kill_again_and_again(site, load, kills=kills, seed=seed)
            await take_everything(site, load)
    finally:
        await site.kill()
    print(load.summary())  # noqa: T201
    load.check()
    history = load.history
    assert len(history.acknowledged) > 10 * kills, "the load was too light to say anything"
    assert any(event.is_dup for event in history.published), "no flow went on over a kill"


@pytest.mark.timeout(300)
async def test_thirty_kills_lose_nothing_and_repeat_no_qos_2_message(tmp_path: Path) -> None:
    await run(tmp_path, kills=30, seed=random.randrange(1 << 32))


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(20))
async def test_a_thousand_kills_lose_nothing_and_repeat_no_qos_2_message(tmp_path: Path, seed: int) -> None:
    await run(tmp_path, kills=50, seed=seed)


async def test_without_a_kill_the_same_load_shows_nothing(tmp_path: Path) -> None:
    """Every finding above is the kills' doing: clients that come and go make none."""
    site = CrashSite(tmp_path)
    load = Load(site, 1)
    try:
        await site.start()
        async with load.running():
            await asyncio.sleep(2.0)  # The load goes on for so long.
            await load.drain()
    finally:
        await site.kill()
    print(load.summary())  # noqa: T201
    load.check()


async def test_a_server_that_keeps_everything_in_memory_is_found_out(tmp_path: Path) -> None:
    site = CrashSite(tmp_path, storage={"durability": "memory"})
    load = Load(site, 1)
    try:
        async with load.running():
            for _ in range(2):
                await site.start()
                await asyncio.sleep(0.7)
                await site.kill()
            await site.start()
            await load.drain()
    finally:
        await site.kill()
    kinds = {finding.kind for finding in violations(load.history)}
    assert kinds >= {Kind.SESSION, Kind.LOST, Kind.RETAINED, Kind.SHADOW_LOST}
