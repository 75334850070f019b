"""The HTTP listener: health, metrics, and what hostile peers get."""

import asyncio
import json
import signal
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.api import Census, Stats
from fleet import DevelopmentPKI
from gnomon.errors import EnvironmentFailureError
from gnomon.figures import Figures
from gnomon.health import Health
from gnomon.http import HTTPListener
from gnomon.http_app import monitoring_app
from gnomon.http_settings import HTTPSettings
from running_server import RunningServer, running_server
from shadow import ShadowStats

URL = "http://127.0.0.1:0"
HTTP = ("--http", URL)
TCP = ("--listen", "tcp://127.0.0.1:0", "--anonymous")
GET = b"GET /live HTTP/1.1\r\nhost: x\r\n"


class Peer:
    """Raw bytes to the listener and back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def status(self) -> int:
        """The status of the next answer, whose body is read too."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length"))
        await self._reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1])

    async def rest(self) -> bytes:
        """Everything until the listener closes."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""


class Site:
    """One listener in this process."""

    def __init__(self, listener: HTTPListener, health: Health) -> None:
        self.health = health
        self._address = urlsplit(listener.url)
        self._peers: list[Peer] = []

    async def peer(self) -> Peer:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        self._peers.append(Peer(reader, writer))
        return self._peers[-1]

    async def get(self, path: str) -> tuple[int, bytes]:
        peer = await self.peer()
        peer.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head, _, body = (await peer.rest()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def close(self) -> None:
        for peer in self._peers:
            peer.writer.close()


async def _no_figures() -> Figures:
    return Figures(Stats(), Census(), ShadowStats(), 0.0)


@asynccontextmanager
async def listening(figures: Any = _no_figures, **settings: Any) -> AsyncIterator[Site]:
    health = Health()
    listener = HTTPListener(HTTPSettings(url=URL, **settings), URL, monitoring_app(health, figures))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(listener.serve())
        site = Site(listener, health)
        try:
            yield site
        finally:
            site.close()
            listener.stop()


async def test_ready_follows_the_life_of_the_server_and_live_does_not() -> None:
    async with listening() as site:
        status, body = await site.get("/ready")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["starting"]})
        site.health.ready()
        status, body = await site.get("/ready")
        assert (status, json.loads(body)) == (200, {"ready": True, "reasons": []})
        site.health.draining()
        status, body = await site.get("/ready")
        assert (status, json.loads(body)) == (503, {"ready": False, "reasons": ["draining"]})
        assert await site.get("/live") == (200, b'{"live":true}')


async def test_what_is_not_there_or_cannot_be_done_is_told() -> None:
    async with listening() as site:
        assert (await site.get("/"))[0] == 404
        peer = await site.peer()
        peer.send(b"POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi" + GET + b"\r\n")
        assert await peer.status() == 405
        assert await peer.status() == 200


async def test_a_failure_is_500_and_the_next_request_is_served() -> None:
    async def fail() -> Figures:
        raise RuntimeError("no figures today")

    async with listening(fail) as site:
        status, body = await site.get("/metrics")
        assert (status, body) == (500, b"Internal Server Error")
        assert (await site.get("/live"))[0] == 200


async def test_an_endless_header_ends_with_400() -> None:
    async with listening(header_bytes_maximum=4096) as site:
        peer = await site.peer()
        peer.send(GET + b"x-" + b"a" * 5000)
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "data", [b"\x10\x0d\x00\x04MQTT\x04\x02\x00<\x00\x01t\n\n", b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n"]
)
async def test_what_is_not_http_ends_with_400(data: bytes) -> None:
    async with listening() as site:
        peer = await site.peer()
        peer.send(data)
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("start", [b"", GET, b"POST /live HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1"])
async def test_half_a_request_is_given_up_in_time(start: bytes) -> None:
    async with listening(connection_timeout_s=0.2) as site:
        began = time.monotonic()
        peer = await site.peer()
        peer.send(start)
        await peer.rest()
        assert 0.15 < time.monotonic() - began < 5


async def test_a_peer_that_dribbles_gets_no_more_time() -> None:
    async with listening(connection_timeout_s=0.3) as site:
        peer = await site.peer()
        sent = 0

        async def dribble() -> None:
            nonlocal sent
            while not peer.writer.is_closing():
                peer.send(b"x")
                sent += 1
                await asyncio.sleep(0.01)

        peer.send(GET)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(dribble())
            assert await peer.rest() == b""
            task.cancel()
        assert sent > 5


async def test_one_connection_too_many_is_closed_and_the_others_are_served() -> None:
    async with listening(connections_maximum=2) as site:
        first, second = await site.peer(), await site.peer()
        for peer in (first, second):
            peer.send(GET + b"\r\n")
            assert await peer.status() == 200
        assert await (await site.peer()).rest() == b""
        first.send(GET + b"\r\n")
        assert await first.status() == 200


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with listening() as site:
        peer = await site.peer()
        peer.send((GET + b"\r\n") * 20 + b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n")
        assert [await peer.status() for _ in range(21)] == [200] * 20 + [404]


def test_an_address_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(EnvironmentFailureError, match=f"cannot listen on {url}: .*in use"):
            HTTPListener(HTTPSettings(url=url), url, monitoring_app(Health(), _no_figures))


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
def test_the_url_tells_the_port_that_was_taken(host: str) -> None:
    settings = HTTPSettings(url=f"http://{host}:0")
    assert settings.url is not None
    listener = HTTPListener(settings, settings.url, monitoring_app(Health(), _no_figures))
    parts = urlsplit(listener.url)
    assert parts.hostname == host.strip("[]")
    assert parts.port
    listener.close()


# The server as a process.


def get(server: RunningServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"{server.ready['http']}{path}", timeout=10) as answer:  # noqa: S310  (our own)
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_answers_beside_mqtt_and_tells_where(tmp_path: Path) -> None:
    with running_server(tmp_path, *TCP, *HTTP) as server:
        with socket.create_connection(("127.0.0.1", server.port("tcp")), timeout=10) as peer:
            peer.sendall(bytes.fromhex("100d00044d5154540402003c000174"))
            assert peer.recv(4) == bytes.fromhex("20020000")
            assert get(server, "/ready")[0] == 200
            status, text = get(server, "/metrics")
            assert status == 200
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(text.decode())
                for sample in family.samples
            }
        assert values["gnomon_broker_connections"] == 1
        assert values["gnomon_session_sessions_connected"] == 1
        assert values["gnomon_broker_connects_accepted_total"] == 1
        assert values["gnomon_broker_received_bytes_total"] == 15
        assert values["gnomon_broker_sent_bytes_total"] == 4
        assert values["gnomon_broker_packets_received_total"] == 1
        assert values["gnomon_broker_packets_sent_total"] == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert "Traceback" not in (tmp_path / "test.log").read_text()


def test_without_a_url_nothing_listens(tmp_path: Path) -> None:
    with running_server(tmp_path, *TCP) as server:
        assert "http" not in server.ready


def test_a_server_that_drains_says_so_to_the_end(tmp_path: Path) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text("[broker.limits]\ndrain_s = 3600\n")
    files = DevelopmentPKI(tmp_path / "pki").ensure_device("t")
    context = ssl.create_default_context(cafile=files.authority)
    context.load_cert_chain(files.certificate, files.key)
    listen = ("--listen", "mtls://127.0.0.1:0")
    with running_server(tmp_path, "--config", str(config), *listen, *HTTP) as server:
        address = ("127.0.0.1", server.port())
        with context.wrap_socket(socket.create_connection(address), server_hostname="localhost") as peer:
            peer.sendall(bytes.fromhex("100d00044d5154540402003c000174"))
            assert peer.recv(4) == bytes.fromhex("20020000")
            # From here the peer never answers the end of TLS, which keeps the server draining.
            server.process.send_signal(signal.SIGTERM)
            while (answer := get(server, "/ready"))[0] == 200:
                pass  # The signal is on its way.
            assert answer[0] == 503
            assert json.loads(answer[1])["reasons"] == ["draining"]
            assert get(server, "/live")[0] == 200
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 1
