"""`$SYS`: what is published and when, how averages come about, who may read it."""

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.api import Census, Stats
from fakes_bus import FakeBus, Published
from gnomon.figures import Figures
from gnomon.statistics import LoadAverages, StatisticsService
from running_server import running_server
from shadow import ShadowStats

#: Of mosquitto(8); what tells of its memory and of its bridges has no counterpart here.
MOSQUITTO_TOPICS = {
    "version",
    "uptime",
    "bytes/received",
    "bytes/sent",
    "clients/connected",
    "clients/disconnected",
    "clients/expired",
    "clients/maximum",
    "clients/total",
    "messages/received",
    "messages/sent",
    "publish/messages/dropped",
    "publish/messages/received",
    "publish/messages/sent",
    "retained messages/count",
    "store/messages/count",
    "subscriptions/count",
}


async def published_until(
    count: int, change: Callable[[Stats, Census], None] = lambda *_: None
) -> list[Published]:
    """Run the service until so many messages are out; `change` happens between two publications."""
    bus, stats, census = FakeBus(), Stats(), Census()

    async def figures() -> Figures:
        if bus.published:
            change(stats, census)
        return Figures(stats, census, ShadowStats(), 0.0)

    service = StatisticsService(bus, figures, interval_s=0.001)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service.run())
        published = list(await bus.sent(count))
        task.cancel()
    return published


def short(topic: str) -> str:
    return topic.removeprefix("$SYS/broker/")


async def test_the_first_publication_has_the_names_that_mosquitto_made_known() -> None:
    published = await published_until(len(MOSQUITTO_TOPICS))
    assert {short(message.topic) for message in published} == MOSQUITTO_TOPICS
    assert all(message.is_retain and message.qos == 0 for message in published)
    values = {short(message.topic): message.payload for message in published}
    assert values["version"].startswith(b"gnomon version ")
    assert values["uptime"] == b"0 seconds"
    assert values["clients/total"] == b"0"


async def test_only_what_changed_is_published_again() -> None:
    def change(stats: Stats, census: Census) -> None:
        stats.publishes_received += 1

    later = (await published_until(120, change))[len(MOSQUITTO_TOPICS) :]
    topics = [short(message.topic) for message in later if "load/" not in message.topic]
    assert set(topics) == {"publish/messages/received"}
    assert topics.count("publish/messages/received") > 2


async def test_the_largest_number_of_clients_is_remembered() -> None:
    numbers = iter((7, 3))

    def change(stats: Stats, census: Census) -> None:
        census.sessions_connected = next(numbers, 3)

    published = await published_until(len(MOSQUITTO_TOPICS) + 27 + 4, change)
    values = {short(message.topic): message.payload for message in published}
    assert values["clients/connected"] == b"3"
    assert values["clients/maximum"] == b"7"


def test_an_average_approaches_the_rate_per_minute_in_its_own_time() -> None:
    averages = LoadAverages()
    count, found = 0, {}
    for _ in range(60):
        count += 100
        found = dict(averages.update({"x": count}, 10.0))
    # 100 in 10 s are 600 a minute; after T minutes 1 - exp(-T / window) of it.
    assert found["x/1min"] == pytest.approx(600 * (1 - 2.718281828**-10), rel=1e-6)
    assert found["x/5min"] == pytest.approx(600 * (1 - 2.718281828**-2), rel=1e-6)
    assert found["x/15min"] == pytest.approx(600 * (1 - 2.718281828 ** (-10 / 15)), rel=1e-6)


def mosquitto(port: int, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command, "-h", "127.0.0.1", "-p", str(port), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_anonymous_clients_read_statistics_and_cannot_write_them(tmp_path: Path) -> None:
    with running_server(tmp_path, "--listen", "tcp://127.0.0.1:0", "--anonymous") as server:
        port = server.port("tcp")
        mosquitto(port, "mosquitto_pub", "-t", "$SYS/broker/version", "-m", "false", "-r")
        read = mosquitto(port, "mosquitto_sub", "-t", "$SYS/broker/version", "-C", "1", "-W", "10")
        assert read.stdout.startswith("gnomon version ")
        everything = mosquitto(port, "mosquitto_sub", "-t", "#", "-W", "1")
        assert everything.stdout == ""  # v5 [MQTT-4.7.2-1]


def test_an_interval_of_0_publishes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(
        '[broker]\nsys_interval_s = 0\nallow_anonymous = true\nlisteners = ["tcp://127.0.0.1:0"]\n'
    )
    with running_server(tmp_path, "--config", str(config)) as server:
        read = mosquitto(server.port("tcp"), "mosquitto_sub", "-t", "$SYS/#", "-W", "1")
        assert read.stdout == ""


def test_only_the_tenant_of_the_settings_reads_statistics(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(
        '[broker]\nsys_tenant = "b"\nallow_anonymous = true\n'
        'listeners = ["tcp://127.0.0.1:0?tenant=a&name=a", "tcp://127.0.0.1:0?tenant=b&name=b"]\n'
    )
    with running_server(tmp_path, "--config", str(config)) as server:
        ports = {item["name"]: int(item["url"].rpartition(":")[2]) for item in server.ready["listeners"]}
        subscribe = ("mosquitto_sub", "-t", "$SYS/broker/version", "-C", "1", "-W")
        assert mosquitto(ports["b"], *subscribe, "10").stdout != ""
        assert mosquitto(ports["a"], *subscribe, "1").stdout == ""
