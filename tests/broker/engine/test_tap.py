"""What is told of a client's packets: both directions, no contents, across connections."""

import msgspec
import pytest

from broker.engine import PacketNote, follow
from broker.engine.tap import Tap, describe
from broker.protocol.codec import encode_packet
from broker.protocol.packets import (
    V3_1_1,
    V5,
    ClientId,
    Connect,
    ControlPacket,
    Publish,
    PubRec,
    SubAck,
    TopicName,
    Will,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver

SECRET = b"5ecret-bytes"


def names(notes: list[PacketNote]) -> list[str]:
    return [("> " if note.is_from_client else "< ") + note.packet for note in notes]


def test_a_followed_client_is_told_of_from_connect_to_the_end_and_when_it_comes_again() -> None:
    driver = EngineDriver()
    notes: list[PacketNote] = []
    follow(driver.engine.state, "default", "c", notes.append)
    client = driver.connect("c", expiry=100)
    client.publish(b"t", SECRET, qos=1)
    client.disconnect()
    driver.connect("other").publish(b"t")
    driver.connect("c", V3_1_1)
    assert names(notes) == ["> CONNECT", "> PUBLISH", "> DISCONNECT", "< closed", "> CONNECT"]
    assert (notes[1].topic, notes[1].qos, notes[1].packet_id, notes[1].payload_bytes) == (
        "t",
        1,
        1,
        len(SECRET),
    )
    assert [note.protocol_version for note in (notes[0], notes[4])] == [V5, V3_1_1]


def test_what_is_followed_in_one_tenant_is_silent_in_another() -> None:
    driver = EngineDriver()
    notes: list[PacketNote] = []
    follow(driver.engine.state, "red", "c", notes.append)
    driver.connect("c", tenant="blue").publish(b"t")
    assert notes == []


def test_a_connected_client_is_followed_from_now_until_all_have_ended_it() -> None:
    driver = EngineDriver()
    client = driver.connect("c")
    first: list[PacketNote] = []
    second: list[PacketNote] = []
    end_first = follow(driver.engine.state, "default", "c", first.append)
    end_second = follow(driver.engine.state, "default", "c", second.append)
    client.publish(b"one")
    end_first()
    end_first()
    client.publish(b"two")
    end_second()
    client.publish(b"three")
    assert [note.topic for note in first] == ["one"]
    assert [note.topic for note in second] == ["one", "two"]
    assert client.connection.tap is None
    assert driver.engine.state.taps == {}


def test_the_last_words_to_a_client_come_before_its_end() -> None:
    driver = EngineDriver()
    client = driver.connect("c")
    notes: list[PacketNote] = []
    follow(driver.engine.state, "default", "c", notes.append)
    driver.engine.close(client.connection, ReasonCode.ADMINISTRATIVE_ACTION, "why", driver.now)
    driver.settle()
    assert names(notes) == ["< DISCONNECT", "< closed"]
    assert notes[1].reason_codes == ("ADMINISTRATIVE_ACTION",)
    assert notes[1].detail == "why"


@pytest.mark.parametrize("version", [V3_1_1, V5])
def test_several_packets_in_one_write_are_told_one_by_one_with_their_sizes(version: int) -> None:
    packets: list[ControlPacket] = [
        Publish(TopicName(b"t"), b"x" * 300),
        PubRec(7),
        SubAck(8, (ReasonCode.GRANTED_QOS_1,)),
    ]
    frames = [encode_packet(packet, version) for packet in packets]
    notes: list[PacketNote] = []
    tap = Tap()
    tap.listeners.append(notes.append)
    tap.sent(b"".join(frames), version)
    assert names(notes) == ["< PUBLISH", "< PUBREC", "< SUBACK"]
    assert [note.size_bytes for note in notes] == [len(frame) for frame in frames]


def test_topic_aliases_towards_the_client_are_resolved_as_far_as_they_are_known() -> None:
    def aliased(topic: bytes, alias: int) -> bytes:
        return encode_packet(Publish(TopicName(topic), b"", properties=Properties(topic_alias=alias)), V5)

    notes: list[PacketNote] = []
    tap = Tap()
    tap.listeners.append(notes.append)
    tap.sent(aliased(b"t", 1) + aliased(b"", 1) + aliased(b"", 2), V5)
    assert [note.topic for note in notes] == ["t", "t", None]


def test_neither_payloads_nor_passwords_nor_properties_are_told() -> None:
    properties = Properties(user_properties=((SECRET.decode(), SECRET.decode()),), correlation_data=SECRET)
    connect = Connect(
        version=V5,
        client_id=ClientId("c"),
        user_name=SECRET.decode(),
        password=SECRET,
        will=Will(topic=TopicName(b"w"), payload=SECRET),
    )
    for packet in (connect, Publish(TopicName(b"t"), SECRET, properties=properties)):
        told = msgspec.json.encode(describe(packet, 1, is_from_client=True))
        assert SECRET not in told
