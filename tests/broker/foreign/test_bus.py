"""The bus beside mosquitto: absences on both sides, shares, identities, refusals."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.api import BusClosedError
from broker.foreign import BusFullError, BusRefusedError, ForeignBus, ForeignFilesError
from broker.foreign_settings import ForeignBusSettings
from broker.protocol.errors import LocalUsageError
from broker.protocol.reason_codes import ReasonCode
from bus_site import disconnect, foreign_settings, received
from fleet import DevelopmentPKI
from mosquitto import Mosquitto, running_mosquitto
from paho_peer import PahoPeer


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with running_mosquitto(tmp_path) as broker:
        yield broker


@asynccontextmanager
async def running(settings: ForeignBusSettings, *topic_filters: str) -> AsyncIterator[ForeignBus]:
    bus = ForeignBus(settings)
    bus.subscribe(*topic_filters)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        await bus.wait_connected()
        try:
            yield bus
        finally:
            await bus.finish()


async def killed(
    settings: ForeignBusSettings, topic_filter: str, count: int, acknowledged: int
) -> list[bytes]:
    """Take so many messages, acknowledge some, and go without a word; their payloads."""
    bus = ForeignBus(settings)
    bus.subscribe(topic_filter)
    async with asyncio.TaskGroup() as group:
        life = group.create_task(bus.run())
        await bus.wait_connected()
        messages = [message for _ in range(count) for message in await bus.receive()]
        bus.acknowledge(acknowledged)
        await asyncio.sleep(0)  # The end of the turn, where it is written.
        await asyncio.sleep(0)
        life.cancel()
    return [message.payload for message in messages]


async def test_requests_survive_the_service_unless_it_acknowledged_them(mosquitto: Mosquitto) -> None:
    settings = foreign_settings(mosquitto.port, client_id="service", batch_messages_maximum=1)
    async with running(foreign_settings(mosquitto.port, client_id="device")) as device:
        async with running(settings, "req/#"):
            pass  # The session is there now, and the service is not.
        for number in range(4):
            device.publish(f"req/{number}", b"%d" % number, qos=1)
        assert await killed(settings, "req/#", 3, acknowledged=2) == [b"0", b"1", b"2"]
        async with running(settings, "req/#") as bus:
            again = await received(bus, 2)
            assert [(message.payload, message.is_dup) for message in again] == [(b"2", True), (b"3", True)]
            assert again[0].packet_id != again[1].packet_id


async def test_nothing_acknowledged_is_lost_when_the_broker_comes_and_goes(mosquitto: Mosquitto) -> None:
    count = 1200
    async with (
        running(foreign_settings(mosquitto.port, client_id="service"), "req/#") as service,
        running(foreign_settings(mosquitto.port, client_id="device"), "rep/#") as device,
    ):

        async def serve() -> None:
            while True:
                messages = await service.receive()
                for message in messages:
                    service.publish(message.topic.replace("req", "rep"), message.payload, qos=1)
                service.acknowledge(len(messages))

        async def ask() -> None:
            for number in range(count):
                device.publish(f"req/{number % 3}", b"%d" % number, qos=1)
                if number % 400 == 200:
                    await asyncio.to_thread(mosquitto.stop)
                    await asyncio.to_thread(mosquitto.start)
                    await service.wait_connected()
                    await device.wait_connected()
                if number % 20 == 0:
                    await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            serving = group.create_task(serve())
            group.create_task(ask())
            replies: dict[int, list[int]] = {0: [], 1: [], 2: []}
            while sum(len(set(numbers)) for numbers in replies.values()) < count:
                for message in await received(device, 1):
                    replies[int(message.topic[-1])].append(int(message.payload))
            serving.cancel()
        assert service.stats.connects == device.stats.connects == 4
        for topic, numbers in replies.items():
            # Repetitions are allowed; the first of each comes in order.
            assert list(dict.fromkeys(numbers)) == list(range(topic, count, 3))


async def test_what_is_published_without_a_broker_waits_for_it(mosquitto: Mosquitto) -> None:
    mosquitto.stop()
    bus = ForeignBus(foreign_settings(mosquitto.port))
    bus.subscribe("echo")
    bus.publish("echo", b"early", qos=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        await asyncio.to_thread(mosquitto.start)
        assert (await received(bus, 1))[0].payload == b"early"
        await bus.finish()


async def test_members_of_a_share_divide_the_requests(mosquitto: Mosquitto) -> None:
    async with (
        running(foreign_settings(mosquitto.port, client_id="a", share="g"), "req/#") as a,
        running(foreign_settings(mosquitto.port, client_id="b", share="g"), "req/#") as b,
        running(foreign_settings(mosquitto.port, client_id="device")) as device,
    ):
        got: list[set[bytes]] = [set(), set()]
        done = asyncio.Event()

        async def take(bus: ForeignBus, into: set[bytes]) -> None:
            with contextlib.suppress(BusClosedError):
                while True:
                    into.update(message.payload for message in await received(bus, 1))
                    if len(got[0] | got[1]) == 100:
                        done.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(take(a, got[0]))
            group.create_task(take(b, got[1]))
            for number in range(100):
                device.publish("req/x", b"%d" % number, qos=1)
            await done.wait()
            a.close()
            b.close()
        assert got[0]
        assert got[1]
        assert not got[0] & got[1]


async def test_replies_wait_no_more_than_a_service_can_cause(mosquitto: Mosquitto) -> None:
    settings = foreign_settings(mosquitto.port, client_id="service", outgoing_messages_maximum=8)
    async with running(settings, "req") as bus:
        mosquitto.stop()
        for number in range(8):
            bus.publish("x", b"%d" % number, qos=1)
        with pytest.raises(BusFullError):
            bus.publish("x", b"8", qos=1)
        assert bus.outbound_stats.dropped_full == 1
        mosquitto.start()
        async with running(foreign_settings(mosquitto.port, client_id="device")) as device:
            device.publish("req", b"", qos=1)
            assert len(await received(bus, 1)) == 1


@pytest.mark.parametrize(
    ("held_bytes_high", "may_drop"),
    [(1_000_000, False), (50_000, True)],
    ids=["full", "full four times over"],
)
async def test_a_service_that_returns_to_more_than_it_can_hold_goes_on(
    mosquitto: Mosquitto, held_bytes_high: int, may_drop: bool
) -> None:
    # mosquitto sends all that it has, whatever the Receive Maximum, and its PUBACKs behind it.
    count = 6000
    settings = foreign_settings(
        mosquitto.port, client_id="service", held_bytes_high=held_bytes_high, outgoing_messages_maximum=4000
    )
    async with running(settings, "req"):
        pass
    async with running(foreign_settings(mosquitto.port, client_id="device")) as device:
        for number in range(count):
            device.publish("req", b"%d" % number, qos=1)
    taken = 0
    bus = ForeignBus(settings)
    bus.subscribe("req")
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run())
        while taken < count:
            messages = await bus.receive()
            for message in messages:
                with contextlib.suppress(BusFullError):
                    bus.publish("rep", message.payload, qos=1)
            bus.acknowledge(len(messages))
            taken += len(messages)
        await bus.finish()
    assert taken == count
    assert may_drop or not bus.outbound_stats.dropped_full


async def test_close_lets_the_last_replies_go_and_the_session_stays(mosquitto: Mosquitto) -> None:
    settings = foreign_settings(mosquitto.port, client_id="service")
    observer = PahoPeer(mosquitto.port, "observer", "5")
    await asyncio.to_thread(observer.connect)
    await asyncio.to_thread(observer.subscribe, "last")
    async with running(settings, "req") as bus:
        bus.publish("last", b"words", qos=1)
    assert (await asyncio.to_thread(observer.receive)).payload == b"words"
    await asyncio.to_thread(observer.publish, "req", b"kept", qos=1)
    await asyncio.to_thread(disconnect, observer)
    async with running(settings, "req") as bus:
        assert (await received(bus, 1))[0].payload == b"kept"
    with pytest.raises(BusClosedError):
        bus.publish("late", b"")


async def test_mutual_tls_reaches_a_broker_that_asks_for_it(tmp_path: Path) -> None:
    pki = DevelopmentPKI(tmp_path / "pki")
    server, client = pki.ensure_server(["127.0.0.1"]), pki.ensure_device("service")
    lines = (
        f"cafile {server.authority}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
        "use_identity_as_username true",
    )
    with running_mosquitto(tmp_path / "broker", *lines) as broker:
        files = f"ca={client.authority}&cert={client.certificate}&key={client.key}"
        settings = foreign_settings(broker.port, url=f"mqtts://127.0.0.1:{broker.port}?{files}")
        async with running(settings, "echo") as bus:
            bus.publish("echo", b"over TLS", qos=1)
            assert (await received(bus, 1))[0].payload == b"over TLS"


async def test_a_broker_with_a_certificate_of_somebody_else_is_not_spoken_to(tmp_path: Path) -> None:
    server = DevelopmentPKI(tmp_path / "theirs").ensure_server(["127.0.0.1"])
    other = DevelopmentPKI(tmp_path / "ours").ensure_server(["127.0.0.1"])
    lines = (f"certfile {server.certificate}", f"keyfile {server.key}", "allow_anonymous true")
    with running_mosquitto(tmp_path / "broker", *lines) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}?ca={other.authority}"
        bus = ForeignBus(foreign_settings(broker.port, url=url))
        async with asyncio.TaskGroup() as group:
            group.create_task(bus.run())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(bus.wait_connected(), 0.5)
            await bus.finish()
        assert bus.stats.connects == 0


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Mosquitto, Path]]:
    """A broker that knows one user, who may not read `secret`, and the file of the user's password."""
    passwords, rules = tmp_path / "passwords", tmp_path / "acl"
    passwords.touch()
    rules.write_text("user ada\ntopic readwrite open/#\n")
    (tmp_path / "password").write_text("s3cret\n")
    subprocess.run(
        ["mosquitto_passwd", "-b", str(passwords), "ada", "s3cret"], check=True, capture_output=True
    )
    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    with running_mosquitto(tmp_path / "broker", *lines) as broker:
        yield broker, tmp_path / "password"


async def test_a_user_logs_in_with_the_password_of_a_file(guarded: tuple[Mosquitto, Path]) -> None:
    broker, password = guarded
    settings = foreign_settings(broker.port, user_name="ada", password_file=password)
    async with running(settings, "open/#") as bus:
        bus.publish("open/x", b"", qos=1)
        assert len(await received(bus, 1)) == 1


async def test_refused_credentials_end_the_bus(guarded: tuple[Mosquitto, Path]) -> None:
    broker, _ = guarded
    bus = ForeignBus(foreign_settings(broker.port, user_name="eve"))
    with pytest.raises(BusRefusedError) as caught:
        await bus.run()
    assert caught.value.reason_code in {ReasonCode.NOT_AUTHORIZED, ReasonCode.BAD_USER_NAME_OR_PASSWORD}
    with pytest.raises(BusClosedError):
        await bus.receive()


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", bytes(0x1_0000)], ids=["none", "empty", "line", "long"]
)
async def test_a_password_file_without_a_password_ends_the_bus(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    bus = ForeignBus(foreign_settings(1, user_name="ada", password_file=path))
    with pytest.raises(ForeignFilesError, match="password"):
        await bus.run()


@pytest.mark.parametrize("missing", ["cert", "ca"])
async def test_unusable_tls_files_end_the_bus(tmp_path: Path, missing: str) -> None:
    files = DevelopmentPKI(tmp_path / "pki").ensure_device("d")
    named = {"cert": files.certificate, "key": files.key, "ca": files.authority, missing: tmp_path / "none"}
    query = "&".join(f"{key}={path}" for key, path in named.items())
    bus = ForeignBus(foreign_settings(1, url=f"mqtts://127.0.0.1:1?{query}"))
    with pytest.raises(ForeignFilesError, match="none"):
        await bus.run()


async def test_misuse_is_refused() -> None:
    bus = ForeignBus(foreign_settings(1))
    with pytest.raises(LocalUsageError):
        bus.acknowledge(1)
    with pytest.raises(LocalUsageError):
        bus.publish("t", b"", qos=2)
    with pytest.raises(LocalUsageError):
        bus.subscribe("t", qos=2)
