"""Whatever comes, in whatever state: a clean end or none, and nothing is left in disorder."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol.codec import encode_packet
from broker.protocol.connection import ConnectionState
from broker.protocol.packets import V3_1_1, V5, ConnAck, Connect, ControlPacket, Disconnect, PingReq
from broker.protocol.reason_codes import ReasonCode
from engine_strategies import STEPS, Run, Step, check_consistent
from fakes import EngineDriver
from fakes_client import FakeClient, connect_packet
from strategies import control_packets

_VERSIONS = st.sampled_from([V3_1_1, V5])


def _frames(version: int) -> st.SearchStrategy[bytes]:
    """Packets of either side, most of them whole, some changed in one byte, and plain noise."""
    whole = control_packets(version).map(lambda packet: encode_packet(packet, version))
    changed = st.tuples(whole, st.integers(0, 60), st.integers(0, 255)).map(_with_byte)
    return st.one_of(whole, whole, changed, st.binary(max_size=30))


def _with_byte(parts: tuple[bytes, int, int]) -> bytes:
    data, at, byte = parts
    at %= len(data)
    return data[:at] + bytes((byte,)) + data[at + 1 :]


def _in_state(driver: EngineDriver, state: ConnectionState, version: int) -> FakeClient:
    if state is ConnectionState.CONNECTED:
        client = driver.connect("c", version, is_clean_start=False, expiry=100)
        client.subscribe(b"#", qos=2)
        return client
    client = driver.open(version)
    if state is ConnectionState.AUTHENTICATING:
        driver.is_holding_answers = True
        client.send(connect_packet("c", version))
    return client


@settings(max_examples=150)
@given(
    data=st.data(),
    version=_VERSIONS,
    state=st.sampled_from(
        [ConnectionState.AWAIT_CONNECT, ConnectionState.AUTHENTICATING, ConnectionState.CONNECTED]
    ),
    size=st.integers(1, 40),
)
def test_any_bytes_in_any_state_end_cleanly_or_not_at_all(
    data: st.DataObject, version: int, state: ConnectionState, size: int
) -> None:
    driver = EngineDriver()
    watcher = driver.connect("watcher", expiry=100)
    watcher.subscribe(b"#", qos=1)
    client = _in_state(driver, state, version)
    stream = b"".join(data.draw(st.lists(_frames(version), max_size=8)))
    for at in range(0, len(stream), size):
        client.send_bytes(stream[at : at + size])
    driver.answer_all()
    driver.sleep(1)
    check_consistent(driver)
    assert client.is_closed == (client.connection.state is ConnectionState.CLOSED)
    if client.is_closed:
        after = [index for index, packet in enumerate(client.received) if isinstance(packet, Disconnect)]
        assert after in ([], [len(client.received) - 1]), "nothing comes after DISCONNECT"
    assert not watcher.is_closed
    client.lose()
    check_consistent(driver)


@settings(max_examples=100)
@given(version=_VERSIONS, packets=st.data())
def test_the_server_never_sends_what_only_a_client_may_send(version: int, packets: st.DataObject) -> None:
    driver = EngineDriver()
    client = _in_state(driver, ConnectionState.CONNECTED, version)
    for packet in packets.draw(st.lists(control_packets(version), max_size=10)):
        client.send(packet)
    kinds = {type(packet).__name__ for packet in client.take()}
    assert kinds.isdisjoint({"Connect", "Subscribe", "Unsubscribe", "PingReq"})
    assert not kinds & {"Disconnect", "Auth"} or version == V5


@settings(max_examples=80)
@given(steps=st.lists(STEPS, max_size=60), limits=st.booleans())
def test_whatever_clients_do_the_state_stays_consistent(steps: list[Step], limits: bool) -> None:
    tight: dict[str, Any] = {"in_flight_maximum": 2, "pending_messages_maximum": 3, "sessions_maximum": 2}
    driver = EngineDriver(**(tight if limits else {}))
    run = Run(driver)
    for step in steps:
        if limits and step.client == 2:
            continue  # There is no room for a third Session.
        run.perform(step)
        check_consistent(driver)
    driver.sleep(100_000)
    for client in run.clients.values():
        client.lose()
    check_consistent(driver)


@pytest.mark.parametrize("version", [V3_1_1, V5])
@pytest.mark.parametrize("packet", [Disconnect(), ConnAck(), PingReq()])
def test_a_peer_whose_first_packet_is_no_connect_is_closed_without_a_word(
    version: int, packet: ControlPacket
) -> None:
    client = EngineDriver().open(version)
    client.send(packet)
    assert client.is_closed
    assert client.take() == []


def test_a_first_packet_above_the_limit_is_not_waited_for() -> None:
    client = EngineDriver(connect_packet_size_maximum=100).open()
    client.send_bytes(b"\x10\xff\xff\x7f")
    assert client.close_reason is ReasonCode.PACKET_TOO_LARGE


def test_a_packet_above_our_maximum_packet_size_is_not_waited_for() -> None:
    client = EngineDriver(maximum_packet_size=100).connect()
    client.send_bytes(b"\x30\xff\x7f")
    assert client.take() == [Disconnect(ReasonCode.PACKET_TOO_LARGE)]
    assert client.is_closed


def test_what_follows_the_end_is_not_looked_at() -> None:
    driver = EngineDriver()
    watcher = driver.connect("w")
    watcher.subscribe(b"#")
    client = driver.connect("c", V3_1_1)
    client.send_bytes(b"\xe0\x00" + b"\x30\x04\x00\x01tx")
    assert client.is_closed
    assert watcher.take() == []


def test_a_client_whose_maximum_packet_size_no_connack_fits_is_not_let_in() -> None:
    driver = EngineDriver()
    client = driver.open()
    client.send(connect_packet(maximum_packet_size=10))
    assert client.take() == [ConnAck(False, ReasonCode.PACKET_TOO_LARGE)]
    assert client.is_closed
    assert driver.engine.state.session_count == 0


def test_a_connect_beyond_all_sense_is_refused_whole() -> None:
    connect = encode_packet(Connect(version=V5, client_id="c"), V5)  # type: ignore[arg-type]
    for at in range(2, len(connect)):
        client = EngineDriver().open()
        client.send_bytes(connect[:1] + bytes((at - 2,)) + connect[2:at])
        assert client.is_closed
