"""Deliveries of a Session, case by case."""

import pytest

from broker.protocol.packets import (
    V3_1_1,
    V5,
    ControlPacket,
    PubAck,
    PubComp,
    Publish,
    PubRel,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode
from broker.session import (
    ApplicationMessage,
    Delivery,
    Journal,
)
from session_peer import NOW, Peer


def _publishes(packets: list[ControlPacket]) -> list[Publish]:
    return [packet for packet in packets if isinstance(packet, Publish)]


def _payloads(packets: list[ControlPacket]) -> list[bytes]:
    return [packet.payload for packet in _publishes(packets)]


def test_a_delivery_goes_out_at_once_with_the_first_packet_id() -> None:
    peer = Peer()
    peer.attach()
    assert peer.deliver(b"m") == [Publish(TopicName(b"t"), b"m", 1, False, False, 1)]


def test_packet_ids_go_round_and_skip_those_in_use() -> None:
    peer = Peer(in_flight_maximum=3)
    peer.attach()
    peer.deliver()
    for packet_id in range(2, 65_536):
        peer.deliver()
        peer.session.handle_puback(packet_id, NOW)
        peer.take()
    assert _publishes(peer.deliver())[0].packet_id == 2


def test_what_was_not_acknowledged_is_sent_again_in_order_with_its_packet_id_and_dup() -> None:
    peer = Peer()
    peer.attach()
    first = [*peer.deliver(b"1", 1), *peer.deliver(b"2", 2), *peer.deliver(b"3", 1)]
    peer.session.detach(NOW)
    again = _publishes(peer.attach())
    assert [(packet.payload, packet.packet_id) for packet in again] == [
        (packet.payload, packet.packet_id) for packet in _publishes(first)
    ]
    assert all(packet.is_dup for packet in again)


def test_a_received_qos_2_message_is_followed_by_pubrel_and_not_sent_again() -> None:
    peer = Peer()
    peer.attach()
    peer.deliver(b"m", 2)
    assert peer.session.handle_pubrec(1, ReasonCode.SUCCESS, NOW) is ReasonCode.SUCCESS
    peer.session.detach(NOW)
    assert peer.attach() == [PubRel(1)]
    assert peer.session.handle_pubrec(1, ReasonCode.SUCCESS, NOW) is ReasonCode.SUCCESS


def test_a_qos_2_delivery_that_was_never_sent_comes_without_dup() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach()
    assert peer.deliver(b"m", 2) == []
    peer.session.detach(NOW)
    peer.connection = None
    _, commit = journal.take(NOW)
    commit.finish(NOW)
    assert peer.attach() == [Publish(TopicName(b"t"), b"m", 2, False, False, 1)]


def test_a_smaller_receive_maximum_holds_for_what_is_sent_again_and_what_waits_for_its_commit() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach()
    for payload in (b"1", b"2", b"3"):
        peer.deliver(payload, 2)
    peer.session.detach(NOW)
    peer.attach(receive_maximum=1)
    _, commit = journal.take(NOW)
    commit.finish(NOW)
    assert _payloads(peer.take()) == [b"1"]
    peer.session.handle_pubrec(1, ReasonCode.QUOTA_EXCEEDED, NOW)
    assert _payloads(peer.take()) == [b"2"]


def test_an_expired_message_is_dropped_when_its_turn_comes() -> None:
    peer = Peer()
    peer.deliver(b"old", expires_at=NOW + 10)
    peer.deliver(b"new", expires_at=NOW + 30)
    packets = _publishes(peer.attach(now=NOW + 20))
    assert [packet.payload for packet in packets] == [b"new"]
    assert packets[0].properties.message_expiry_interval == 10
    assert peer.stats.dropped_expired == 1


def test_a_message_too_large_for_the_client_counts_as_delivered() -> None:
    peer = Peer()
    peer.attach(maximum_packet_size=20)
    assert peer.deliver(b"x" * 100) == []
    assert _payloads(peer.deliver(b"small")) == [b"small"]
    assert len(peer.session.in_flight) == 1
    assert peer.stats.dropped_too_large == 1


def test_a_message_exactly_as_large_as_the_client_takes_is_sent() -> None:
    for size in (19, 20, 21):
        peer = Peer()
        peer.attach(maximum_packet_size=20)
        # Two bytes of header, three of topic, two of packet id, one of Properties.
        packets = peer.deliver(b"x" * (size - 8))
        assert bool(packets) == (size <= 20)


def test_a_durable_message_too_large_for_the_client_does_not_hold_up_the_next() -> None:
    journal = Journal()
    peer = Peer(journal=journal)
    peer.attach(receive_maximum=1, maximum_packet_size=20)
    peer.deliver(b"x" * 100, 2)
    peer.deliver(b"small", 1)
    _, commit = journal.take(NOW)
    commit.finish(NOW)
    assert _payloads(peer.take()) == [b"small"]


def test_pending_messages_are_limited_in_bytes() -> None:
    peer = Peer(pending_bytes_maximum=10)
    peer.deliver(b"x" * 9)
    peer.deliver(b"")
    assert peer.session.pending_bytes == 10
    assert peer.session.pending_messages == 1
    assert peer.stats.dropped_pending_full == 1


def test_a_pending_message_is_superseded_by_one_with_its_key_and_keeps_its_place() -> None:
    peer = Peer()
    peer.deliver(b"a1", supersede_key=b"k")
    peer.deliver(b"b")
    peer.deliver(b"a2", supersede_key=b"k")
    peer.deliver(b"c", topic=b"other", supersede_key=b"k")
    assert peer.session.pending_bytes == 3 + 2 + 6
    assert _payloads(peer.attach()) == [b"a2", b"b", b"c"]
    assert peer.stats.superseded == 1


def test_a_message_in_flight_is_never_superseded() -> None:
    peer = Peer()
    peer.attach()
    peer.deliver(b"a1", supersede_key=b"k")
    assert _payloads(peer.deliver(b"a2", supersede_key=b"k")) == [b"a2"]
    peer.session.detach(NOW)
    assert _payloads(peer.attach()) == [b"a1", b"a2"]


def test_messages_that_the_client_may_not_receive_any_more_are_forgotten() -> None:
    peer = Peer()
    peer.deliver(b"secret", topic=b"secret")
    peer.deliver(b"open", topic=b"open")
    peer.session.may_receive = lambda topic: topic == b"open"
    peer.session.drop_forbidden()
    assert peer.session.pending_bytes == 8
    assert _payloads(peer.attach()) == [b"open"]


def test_the_same_message_is_encoded_for_each_version() -> None:
    old, new = Peer(), Peer()
    old.attach(version=V3_1_1)
    new.attach(version=V5)
    delivery = Delivery(ApplicationMessage(TopicName(b"t"), b"m", 1), 1)
    for _ in range(2):
        old.session.deliver(delivery, NOW)
        new.session.deliver(delivery, NOW)
    assert _payloads(old.take()) == _payloads(new.take()) == [b"m", b"m"]


def test_an_inbound_packet_id_is_known_until_it_is_released() -> None:
    session = Peer().session
    assert session.accept_inbound(7) is None
    assert session.inbound == {7}
    assert session.release_inbound(7) == (ReasonCode.SUCCESS, None)
    assert session.release_inbound(7) == (ReasonCode.PACKET_IDENTIFIER_NOT_FOUND, None)


def test_every_answer_about_inbound_ids_waits_for_their_last_change() -> None:
    journal = Journal()
    session = Peer(journal=journal).session
    accepted = session.accept_inbound(7)
    assert accepted is journal.commit
    journal.take(NOW)
    _, released = session.release_inbound(7)
    assert released is journal.commit
    assert session.release_inbound(7)[1] is released


@pytest.mark.parametrize(
    ("expiry_interval", "after_s", "has_expired"),
    [(10, 9.9, False), (10, 10, True), (0, 0, True), (0xFFFFFFFF, 1e12, False)],
)
def test_a_session_expires_after_its_interval(
    expiry_interval: int, after_s: float, has_expired: bool
) -> None:
    session = Peer().session
    session.expiry_interval = expiry_interval
    assert not session.has_expired(1e12)
    session.detach(NOW)
    assert session.has_expired(NOW + after_s) is has_expired


def test_late_acknowledgements_are_no_fault() -> None:
    peer = Peer()
    peer.attach()
    peer.session.handle_puback(PubAck(9).packet_id, NOW)
    peer.session.handle_pubcomp(PubComp(9).packet_id, NOW)
    assert peer.session.handle_pubrec(9, ReasonCode.UNSPECIFIED_ERROR, NOW) is None
    assert peer.take() == []
