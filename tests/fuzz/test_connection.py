"""Hostile bytes against one connection: the engine closes it cleanly and serves the others on."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.codec import encode_packet
from broker.protocol.connection import ConnectionState
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ConnAck,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    TopicFilter,
    UnsubAck,
)
from broker.session.message import ApplicationMessage
from fakes import EngineDriver
from fakes_client import FakeClient, connect_packet
from strategies import control_packets

_SEEDS: Final = {
    path.name: path.read_text() for path in sorted((Path(__file__).parent / "corpus").glob("*.hex"))
}
_FROM_SERVERS: Final = (
    *(ConnAck, Publish, PubAck, PubRec, PubRel, PubComp),
    *(SubAck, UnsubAck, PingResp, Disconnect),
)


def _packets_of(seed: str) -> list[bytes]:
    return [bytes.fromhex(line) for line in seed.splitlines() if line and not line.startswith("#")]


@st.composite
def _conversations(draw: st.DrawFn) -> list[bytes]:
    """Packets as a client might send them: a seed, or a CONNECT and whatever packets there are."""
    if draw(st.booleans()):
        return _packets_of(draw(st.sampled_from(list(_SEEDS.values()))))
    version = draw(st.sampled_from([V3_1_1, V5]))
    packets = draw(
        st.lists(control_packets(version).map(lambda packet: encode_packet(packet, version)), max_size=6)
    )
    return [encode_packet(connect_packet("c", version), version), *packets]


@st.composite
def _mutations(draw: st.DrawFn, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(changed)))
        action = draw(st.sampled_from(["replace", "insert", "remove", "repeat"]))
        if action == "replace" and at < len(changed):
            changed[at] = draw(st.integers(0, 255))
        elif action == "insert":
            changed[at:at] = draw(st.binary(max_size=4))
        elif action == "remove":
            del changed[at : at + draw(st.integers(1, 8))]
        elif action == "repeat":
            changed[at:at] = changed[at : at + draw(st.integers(1, 16))]
    return bytes(changed)


class _Attacker(FakeClient):
    """Reads what it is sent in the version that the engine took from its CONNECT."""

    def feed(self, data: bytes) -> None:
        self.version = self.connection.version
        super().feed(data)


def _attacker(driver: EngineDriver) -> _Attacker:
    connection = driver.open().connection
    attacker = _Attacker(driver, connection, V3_1_1)
    driver.clients[connection] = attacker
    return attacker


def _attack(reads: list[bytes], *, is_durable: bool) -> None:
    """Send the reads on one connection beside a good client, and look whether all is well after each."""
    driver = EngineDriver(is_durable=is_durable)
    good = driver.connect("good client")
    good.subscribe(b"good/topic", qos=1)
    attacker = _attacker(driver)
    for data in reads:
        attacker.send_bytes(data)
        assert attacker.connection.state is not ConnectionState.CLOSED or attacker.is_closed
        driver.sleep(0.5)
    assert all(isinstance(packet, _FROM_SERVERS) for packet in attacker.take())
    if not attacker.is_closed:
        attacker.lose()
    assert good.connection.state is ConnectionState.CONNECTED
    good.take()
    good.publish(b"good/topic", b"still here", qos=1)
    good.send(PingReq())
    assert sorted(type(packet).__name__ for packet in good.take()) == ["PingResp", "PubAck", "Publish"]
    _check_state(driver)


def _check_state(driver: EngineDriver) -> None:
    """No trace of a connection that is gone, but for what a Session may keep."""
    state = driver.engine.state
    assert state.session_count == sum(len(tenant.sessions) for tenant in state.tenants.values())
    for tenant in state.tenants.values():
        for session in tenant.sessions.values():
            connection = session.connection
            assert connection is None or connection.state is ConnectionState.CONNECTED
        for topic, message in tenant.retained.match(TopicFilter(b"#")):
            assert isinstance(message, ApplicationMessage)
            assert message.topic == topic
            assert message.payload


@pytest.mark.parametrize("is_durable", [True, False])
@given(data=st.data())
def test_mutated_conversation_ends_in_a_clean_close_at_worst(is_durable: bool, data: st.DataObject) -> None:
    conversation = data.draw(_conversations())
    reads = [data.draw(_mutations(packet)) if data.draw(st.booleans()) else packet for packet in conversation]
    _attack(reads, is_durable=is_durable)


@given(reads=st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_end_in_a_clean_close_at_worst(reads: list[bytes]) -> None:
    _attack(reads, is_durable=True)


@given(reads=st.lists(st.binary(max_size=40), max_size=5), version=st.sampled_from([V3_1_1, V5]))
def test_any_bytes_after_a_connect_end_in_a_clean_close_at_worst(reads: list[bytes], version: int) -> None:
    _attack([encode_packet(connect_packet("c", version), version), *reads], is_durable=True)


@pytest.mark.parametrize("is_durable", [True, False])
@pytest.mark.parametrize("seed", _SEEDS.values(), ids=_SEEDS)
def test_seed_is_a_conversation_that_the_broker_takes_part_in(seed: str, is_durable: bool) -> None:
    packets = _packets_of(seed)
    _attack(packets, is_durable=is_durable)
    driver = EngineDriver(is_durable=is_durable)
    client = _attacker(driver)
    for packet in packets:
        assert not client.is_closed
        client.send_bytes(packet)
    assert driver.engine.stats.peer_errors <= (packets[-1][0] == 0x10)
