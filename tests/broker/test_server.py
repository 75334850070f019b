"""The runner: hooks that misbehave, and an end that waits for nobody."""

import asyncio

import structlog.testing

from broker.access.ports import ConnectRequest
from broker.access.principal import Principal
from broker.api import Broker, ListenerAddress
from broker.settings import BrokerSettings, LimitSettings, ListenerSettings

_CONNECT = bytes.fromhex("101100044d5154540500003c0000046c616d70")


class _Hanging:
    """Never answers."""

    def __init__(self) -> None:
        self.was_asked = asyncio.Event()

    async def authenticate(self, request: ConnectRequest) -> Principal:
        self.was_asked.set()
        await asyncio.Event().wait()
        raise AssertionError


class _Nonsense:
    """Answers with something else."""

    async def authenticate(self, request: ConnectRequest) -> Principal:
        return None  # type: ignore[return-value]


async def _served(authenticator: _Hanging | _Nonsense) -> bytes:
    """Connect to a broker with this hook, and stop it; returns what came."""
    limits = LimitSettings(drain_s=0.5, authentication_timeout_s=60)
    settings = BrokerSettings(listeners=(ListenerSettings(url="tcp://127.0.0.1:0"),), limits=limits)
    broker = Broker(settings, authenticator=authenticator)
    ports: asyncio.Queue[int] = asyncio.Queue()

    def started(addresses: "list[ListenerAddress]") -> None:
        ports.put_nowait(int(addresses[0].url.rpartition(":")[2]))

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(broker.serve(started=started), name="broker")  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", await ports.get())
        writer.write(_CONNECT)
        if isinstance(authenticator, _Hanging):
            await authenticator.was_asked.wait()
            answer = b""
        else:
            answer = await reader.readexactly(5)
        broker.stop()
        await reader.read()
        writer.close()
    return answer


async def test_the_end_does_not_wait_for_a_hook_that_hangs() -> None:
    assert await _served(_Hanging()) == b""


async def test_a_hook_that_answers_nonsense_refuses_and_ends_nothing() -> None:
    with structlog.testing.capture_logs() as logs:
        answer = await _served(_Nonsense())
    assert answer == bytes.fromhex("2003008800")
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["hook.failed"]
