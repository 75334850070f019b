"""Hostile peers on every kind of listener: others are served, memory stays bounded, the end is clean."""

import random
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from broker.protocol.codec import encode_packet
from broker.protocol.packets import V3_1_1, V5, PingReq, PingResp, Publish, Subscribe, TopicName
from fakes_client import connect_packet, request_for
from raw_peer import KINDS, TIMEOUT_S, RawPeer, plain_socket
from running_server import RunningServer, running_server

MIB = 1024 * 1024
#: What a server may grow by whatever the peers do here; they announce, or send, far more.
GROWTH_MAXIMUM = 100 * MIB
LIMITS = """
[broker.limits]
connect_timeout_s = 0.5
handshake_timeout_s = 0.5
slow_consumer_s = 0.5
drain_s = 0.5
"""
CONNACK = bytes.fromhex("20020000")
PING, PONG = encode_packet(PingReq(), V3_1_1), encode_packet(PingResp(), V3_1_1)
#: Fixed headers with the largest Remaining Length: CONNECT, PUBLISH, SUBSCRIBE.
HUGE = [bytes.fromhex(text) for text in ("10ffffff7f", "30ffffff7f", "82ffffff7f")]
#: The deepest topic that a length of two bytes allows: 65,536 levels, all empty.
DEEPEST = b"/" * 65_535

every_kind = pytest.mark.parametrize("kind", KINDS)


def connect(client_id: str = "raw", version: int = V3_1_1) -> bytes:
    return encode_packet(connect_packet(client_id, version), version)


def publish(topic: bytes, payload: bytes = b"x", qos: int = 0, packet_id: int = 0) -> bytes:
    packet = Publish(TopicName(topic), payload, qos, False, False, packet_id)
    return encode_packet(packet, V3_1_1)


def subscribe(*topic_filters: bytes, qos: int = 0, version: int = V3_1_1) -> bytes:
    return encode_packet(Subscribe(1, tuple(request_for(one, qos) for one in topic_filters)), version)


class Witness:
    """A well-behaved client that stays, and what it says about the server."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._peer = RawPeer(server, "tcp")
        self._peer.send(connect("witness") + subscribe(b"witness"))
        self._peer.expect(CONNACK + bytes.fromhex("9003000100"))
        self._count = 0
        self._resident = self._memory()

    def looks(self) -> None:
        """See that it is served, and that the server has not grown beyond bounds."""
        self._count += 1
        payload = b"still here %d." % self._count
        self._peer.send(publish(b"witness", payload, qos=1, packet_id=1))
        self._peer.expect(payload)
        self._peer.send(PING)
        self._peer.expect(PONG)
        assert self._memory() - self._resident < GROWTH_MAXIMUM

    def close(self) -> None:
        self._peer.close()

    def _memory(self) -> int:
        statm = Path(f"/proc/{self._server.process.pid}/statm").read_text()
        return int(statm.split()[1]) * resource.getpagesize()


#: Left to `make soak`: the same again, in other ways.
in_soak = pytest.mark.soak


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=in_soak)])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("robust")
    config = data / "gnomon.toml"
    config.write_text(f'loop = "{request.param}"\n{LIMITS}')
    urls = [f"{kind}://127.0.0.1:0?name={kind}" for kind in KINDS if kind != "unix"]
    urls.append(f"unix://{data}/s.sock?name=unix")
    listen = [argument for url in urls for argument in ("--listen", url)]
    with running_server(data, "--config", str(config), "--anonymous", *listen) as running:
        yield running
        running.process.terminate()
        assert running.process.wait(TIMEOUT_S) == 0
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def standing(server: RunningServer) -> Iterator[Witness]:
    witness = Witness(server)
    yield witness
    witness.close()


@pytest.fixture
def witness(server: RunningServer, standing: Witness) -> Iterator[Witness]:
    standing.looks()
    yield standing
    standing.looks()
    for kind in KINDS:
        with RawPeer(server, kind) as newcomer:
            newcomer.send(connect())
            newcomer.expect(CONNACK)


@every_kind
def test_random_bytes_at_the_door_end_in_a_close(server: RunningServer, witness: Witness, kind: str) -> None:
    source = random.Random(kind)
    for size in (1, 5, 100, 5_000, 70_000):
        with plain_socket(server, kind) as peer, suppress(ConnectionError):
            peer.sendall(source.randbytes(size))
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
    witness.looks()


@every_kind
@pytest.mark.parametrize("first", [b"", connect()], ids=["strange", "connected"])
def test_random_bytes_as_packets_end_in_a_close(
    server: RunningServer, witness: Witness, kind: str, first: bytes
) -> None:
    source = random.Random(kind)
    for size in (1, 5, 100, 5_000):
        with RawPeer(server, kind) as peer:
            # There is no packet of type 0: whatever comes behind it, this is the end.
            peer.offer(first + b"\x00\x00" + source.randbytes(size))
            peer.wait_closed()
        with RawPeer(server, kind) as peer:
            peer.offer(first + source.randbytes(size))
    witness.looks()


@every_kind
@pytest.mark.parametrize("header", HUGE, ids=["connect", "publish", "subscribe"])
def test_a_huge_remaining_length_is_refused_before_it_is_filled(
    server: RunningServer, witness: Witness, kind: str, header: bytes
) -> None:
    for first in (b"", connect()):
        with RawPeer(server, kind) as peer:
            peer.offer(first + header)
            peer.wait_closed()


@every_kind
def test_what_is_announced_and_never_sent_takes_no_memory(
    server: RunningServer, witness: Witness, kind: str
) -> None:
    with ExitStack() as stack:
        for number in range(20):
            peer = stack.enter_context(RawPeer(server, kind, device=f"raw-{number}"))
            peer.send(connect(f"raw-{number}"))
            peer.expect(CONNACK)
            peer.send(bytes.fromhex("30f0ffff07") + b"\x00\x01a")
        witness.looks()


@every_kind
def test_the_deepest_topics_are_refused(server: RunningServer, witness: Witness, kind: str) -> None:
    for packet in (publish(DEEPEST), subscribe(DEEPEST), subscribe(b"+/" * 32_000 + b"#")):
        with RawPeer(server, kind) as peer:
            peer.send(connect())
            peer.expect(CONNACK)
            peer.send(packet)
            if packet[0] >> 4 == 3:
                peer.wait_closed()
            else:
                peer.expect(bytes.fromhex("9003000180"))


@every_kind
def test_a_flood_of_connects_is_served(server: RunningServer, witness: Witness, kind: str) -> None:
    with ExitStack() as stack:
        for number in range(100):
            with suppress(ConnectionError):
                peer = stack.enter_context(RawPeer(server, kind))
                # All have one client id: each takes the Session over from the one before.
                peer.send(connect() * (1 + number % 2))
            if number % 20 == 0:
                witness.looks()


def test_a_flood_of_connections_that_say_nothing_goes_away(server: RunningServer, witness: Witness) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(plain_socket(server, kind)) for kind in KINDS for _ in range(50)]
        witness.looks()
        for peer in silent:
            with suppress(ConnectionError):
                while peer.recv(4096):
                    pass


@every_kind
def test_a_slow_writer_is_let_in_and_holds_nobody_up(
    server: RunningServer, witness: Witness, kind: str
) -> None:
    with RawPeer(server, kind) as peer:
        for byte in connect():
            peer.send(bytes((byte,)))
        peer.expect(CONNACK)
        for byte in publish(b"a", b"x" * 300) + PING:
            peer.send(bytes((byte,)))
        witness.looks()
        peer.expect(PONG)


@every_kind
def test_who_does_not_finish_the_connect_is_closed(
    server: RunningServer, witness: Witness, kind: str
) -> None:
    with RawPeer(server, kind) as peer:
        peer.send(connect()[:-1])
        peer.wait_closed()


@every_kind
@pytest.mark.parametrize("is_reset", [False, True], ids=["half-closed", "reset"])
def test_connections_that_are_half_gone_are_cleared_away(
    server: RunningServer, witness: Witness, kind: str, is_reset: bool
) -> None:
    for _ in range(20):
        with plain_socket(server, kind) as peer:
            if kind in ("tcp", "unix"):
                peer.sendall(connect())
                assert peer.recv(4) == CONNACK
            if is_reset:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            else:
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
    witness.looks()


@every_kind
@pytest.mark.parametrize("qos", [pytest.param(0, marks=in_soak), 1])
def test_who_never_reads_is_closed_and_memory_stays_bounded(
    server: RunningServer, witness: Witness, kind: str, qos: int
) -> None:
    topic, payload = b"flood/" + kind.encode(), bytes(MIB // 4)
    with RawPeer(server, kind, receive_buffer=4096) as deaf, RawPeer(server, "unix") as publisher:
        deaf.send(connect() + subscribe(topic, qos=qos))
        deaf.expect(bytes.fromhex("90030001") + bytes((qos,)))
        publisher.send(connect("flooder"))
        publisher.expect(CONNACK)
        for number in range(1, 601):
            publisher.send(publish(topic, payload, qos, number if qos else 0))
            if number % 50 == 0:
                publisher.send(PING)
                publisher.expect(PONG)
                witness.looks()
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                deaf.send(PING)
            except (ConnectionError, ssl.SSLError):
                break
            time.sleep(0.05)  # The server closes by its own clock, and only writing shows it here.
        else:
            pytest.fail("who never reads is still connected")


@every_kind
def test_ten_thousand_filters_are_the_most(server: RunningServer, witness: Witness, kind: str) -> None:
    with RawPeer(server, kind) as peer:
        peer.send(connect(version=V5))
        peer.expect(b"\x20")
        for block in range(10):
            filters = [b"many/%d/+/%d/#" % (block, number) for number in range(1000)]
            peer.send(subscribe(*filters, version=V5))
            peer.expect(b"\x00\x01\x00" + bytes(1000))
        witness.looks()
        peer.send(subscribe(b"one/more", version=V5))
        # v5 §3.9.3: Quota exceeded.
        peer.expect(bytes.fromhex("9004000100" + "97"))
        peer.send(PING)
        peer.expect(PONG)
    witness.looks()
