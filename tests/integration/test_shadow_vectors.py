"""Every row of vectors/shadow_vectors.json over mutual TLS: an operator asks, and hears all that is said.

Once against the program, where `before` is built up by requests and every time is that of the test; and
once against a broker in this process, whose store and clock are given, so that old times count too.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.access import RulesAuthenticator, builtin_rules
from broker.api import Broker
from broker.settings import BrokerSettings, ListenerSettings
from fleet import DevelopmentPKI
from paho_peer import VERSIONS, PahoPeer, Version, client_context
from server_site import Site, unique
from shadow import (
    Changes,
    MemoryShadowStore,
    Row,
    ShadowKey,
    ShadowService,
    ShadowSettings,
)

FILE = json.loads((Path(__file__).parent.parent / "vectors" / "shadow_vectors.json").read_text("utf-8"))
#: The file's own thing; each test puts another in its place, which no other test uses.
THING = FILE["thing"]
CLOCK = 1_700_000_000
END = b'{"clientToken": "end"}'

every_vector = pytest.mark.parametrize("vector", FILE["vectors"], ids=[row["id"] for row in FILE["vectors"]])


def renamed(value: Any, thing_name: str) -> Any:
    """Put another thing name into topics and texts."""
    return json.loads(json.dumps(value).replace(THING, thing_name))


def canonical(value: Any) -> str:
    """A text that tells true from 1 and 1 from 1.0, which Python's equality does not."""
    return json.dumps(value, sort_keys=True)


def with_clock(value: Any, now: int) -> Any:
    return json.loads(json.dumps(value).replace('"<NOW>"', str(now)))


def without_times(value: Any, since: float) -> Any:
    """Put `<NOW>` in place of every timestamp, which must be the file's old one or one of this test's."""
    if isinstance(value, list):
        return [without_times(item, since) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: without_times(item, since) for key, item in value.items()}
    if isinstance(stamp := value.get("timestamp"), int):
        assert FILE["t0"] <= stamp < FILE["t0"] + 1000 or int(since) <= stamp <= time.time()
        plain["timestamp"] = "<NOW>"
    return plain


def payload_of(vector: Any) -> bytes:
    asked = vector["request"]
    text: str = asked["payload_raw"] if "payload_raw" in asked else json.dumps(asked["payload"])
    return text.encode()


class Operator:
    """Asks about one thing, and hears everything that is said about it, its own requests too."""

    def __init__(self, peer: PahoPeer, vector: Any, thing_name: str) -> None:
        self.peer = peer
        self.request: str = renamed(vector["request"]["topic"], thing_name)
        self._prefix = self.request.rpartition("/")[0]
        # A shadow that nobody has made: the answer comes after all earlier ones.
        self._end = f"$aws/things/{thing_name}/shadow/name/end/get"
        assert peer.subscribe(f"$aws/things/{thing_name}/shadow/#", 1) == 1

    def ask(self, topic: str, payload: bytes) -> list[dict[str, Any]]:
        """Send a request; every message that follows, in order and without the echo of the request."""
        assert self.peer.publish(topic, payload, qos=1) == 0
        assert self.peer.publish(self._end, END, qos=1) == 0
        said = []
        while (message := self.peer.receive()).topic != f"{self._end}/rejected":
            assert message.qos == 1
            assert not message.is_retained
            if message.topic not in (topic, self._end):
                said.append({"topic": message.topic, "payload": json.loads(message.payload)})
        return said

    def build(self, before: Any) -> None:
        """Bring a shadow that nobody has made to `before`: as many requests as its version says."""
        if before is None:
            return
        is_deleted = bool(before.get("deleted"))
        body = json.dumps({"state": {"reported": {"a": 1}} if is_deleted else before["state"]}).encode()
        for _ in range(before["version"] - is_deleted):
            said = self.ask(f"{self._prefix}/update", body)
            assert said[-1]["topic"] == f"{self._prefix}/update/accepted"
        if is_deleted:
            said = self.ask(f"{self._prefix}/delete", b"")
            assert said[-1]["payload"]["version"] == before["version"] - 1

    def stored(self) -> Any:
        """What is kept, as far as anybody can ask: nothing, or the document."""
        (said,) = self.ask(f"{self._prefix}/get", b"")
        if said["topic"] == f"{self._prefix}/get/rejected":
            assert said["payload"]["code"] == 404
            return None
        document = said["payload"]
        document["state"].pop("delta", None)
        document["metadata"].pop("delta", None)
        return {key: document[key] for key in ("state", "metadata", "version")}


@every_vector
def test_the_program_follows_the_vector(mtls_site: Site, vector: Any) -> None:
    thing_name = unique("vector")
    since = time.time()
    with mtls_site.operator("5") as peer:
        operator = Operator(peer, vector, thing_name)
        operator.build(vector["before"])
        said = operator.ask(operator.request, payload_of(vector))
        kept = operator.stored()
    expected = renamed(vector["expect"]["messages"], thing_name)
    assert canonical(without_times(said, since)) == canonical(
        without_times(with_clock(expected, int(since)), since)
    )
    after = vector["expect"]["after"]
    after = None if after is None or after.get("deleted") else with_clock(after, int(since))
    assert canonical(without_times(kept, since)) == canonical(without_times(after, since))


class PreparedServer:
    """A broker with shadows in a thread of this process; the store holds every `before` of the file."""

    def __init__(self, folder: Path) -> None:
        self.pki = DevelopmentPKI(folder)
        self.store = MemoryShadowStore()
        self.port = 0
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        files = self.pki.ensure_server()
        listener = ListenerSettings(
            url="mtls://127.0.0.1:0", certificate=files.certificate, key=files.key, client_ca=files.authority
        )
        self._settings = BrokerSettings(listeners=(listener,))
        self._broker: Broker | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=asyncio.run, args=(self._run(),), name="prepared-server")
        thread.start()
        try:
            assert self._ready.wait(10)
            yield
        finally:
            if self._loop is not None and self._broker is not None:
                self._loop.call_soon_threadsafe(self._broker.stop)
            thread.join(10)
            assert not thread.is_alive()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        authenticator = RulesAuthenticator(
            builtin_rules(),
            allow_anonymous=False,
            require_client_id_is_common_name=True,
            now=lambda: datetime.now(UTC),
        )
        self._broker = broker = Broker(self._settings, authenticator=authenticator)
        bus = broker.in_process_client("shadow")
        service = ShadowService(bus, self.store, ShadowSettings(), clock=lambda: CLOCK + 0.9)

        def started(addresses: Any) -> None:
            self.port = int(addresses[0].url.rpartition(":")[2])
            self._ready.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(service.run(), name="shadow")
            await broker.serve(started=started)
            bus.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedServer]:
    server = PreparedServer(tmp_path_factory.mktemp("prepared"))
    rows = {
        key_of(vector, version): before
        for vector in FILE["vectors"]
        for version in VERSIONS
        if (before := row_of(vector["before"])) is not None
    }
    asyncio.run(server.store.commit(Changes(rows, [], {})))
    with capture_logs(), server.running():  # No log of a server among the output of the tests.
        yield server


def key_of(vector: Any, version: Version) -> ShadowKey:
    return ShadowKey(f"{vector['id']}-v{version[0]}", vector["request"].get("shadow"))


def row_of(value: Any) -> Row | None:
    if value is None:
        return None
    document = None if value.get("deleted") else json.dumps(value).encode()
    return Row(version=value["version"], numbering=CLOCK, changed_at=CLOCK, document=document)


def kept_of(row: Row | None) -> Any:
    if row is None:
        return None
    if row.document is None:
        return {"deleted": True, "version": row.version}
    return json.loads(row.document)


@pytest.mark.parametrize("version", VERSIONS)
@every_vector
def test_a_prepared_shadow_follows_the_vector_to_the_second(
    prepared: PreparedServer, vector: Any, version: Version
) -> None:
    key = key_of(vector, version)
    context = client_context(prepared.pki.ensure_operator("ada"))
    with PahoPeer(prepared.port, unique("ada"), version, context=context) as peer:
        operator = Operator(peer, vector, key.thing_name)
        said = operator.ask(operator.request, payload_of(vector))
    expected = renamed(with_clock(vector["expect"]["messages"], CLOCK), key.thing_name)
    assert canonical(said) == canonical(expected)
    kept = kept_of(asyncio.run(prepared.store.load([key])).get(key))
    assert canonical(kept) == canonical(with_clock(vector["expect"]["after"], CLOCK))
