"""One device of the swarm: what it says, and what it counts, without a socket or a clock."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol.codec import encode_packet
from broker.protocol.packets import (
    V5,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    TopicName,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from broker.protocol.stream import PacketStream
from simulators.swarm import Scenario, Tally
from simulators.swarm.device import BACKLOG_MAXIMUM, SwarmDevice

MS = 1_000_000
SECOND = 1000 * MS
THING = "$aws/things/device-1/shadow/"


class Site:
    """A device, and the server that the test plays; `now` is moved by hand."""

    def __init__(self, **options: Any) -> None:
        self.tally = Tally()
        self.scenario = Scenario(**{"devices": 1, **options})
        self.device = SwarmDevice(0, self.scenario, self.tally)
        self.now = 100 * SECOND
        self.said: list[ControlPacket] = []

    def connect(self, connack: ConnAck | None = None) -> None:
        self._stream = PacketStream(maximum_packet_size=1 << 20)
        self._stream.version = V5
        self.device.connect(self.now, self.now)
        assert isinstance(self.hear()[0], Connect)
        self.say(connack or ConnAck())

    def ready(self, connack: ConnAck | None = None) -> "Site":
        """Connect, subscribe, and say that there is no shadow."""
        self.connect(connack)
        if self.scenario.follows_shadow:
            (subscribe,) = self.hear()
            assert isinstance(subscribe, Subscribe)
            self.say(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_1,) * len(subscribe.requests)))
            (get,) = self.hear()
            assert isinstance(get, Publish)
            assert get.topic == TopicName(f"{THING}get".encode())
            self.say(PubAck(get.packet_id))
            self.message("get/rejected", {"code": 404, "message": "No shadow", "clientToken": "get"})
            self.hear()
        assert self.device.is_ready
        return self

    def hear(self) -> list[ControlPacket]:
        """What the device sent since the last time."""
        self._stream.feed(self.device.data_to_send())
        return self._stream.read(1000)

    def updates(self) -> list[dict[str, Any]]:
        return [json.loads(packet.payload) for packet in self.hear() if isinstance(packet, Publish)]

    def say(self, *packets: ControlPacket) -> None:
        self.device.receive(b"".join(encode_packet(packet, V5) for packet in packets), self.now)

    def message(self, topic: str, content: object) -> None:
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.say(Publish(TopicName(f"{THING}{topic}".encode()), payload, 1, packet_id=7))

    def accept(self, token: str, version: int = 1) -> None:
        self.message("update/accepted", {"state": {}, "version": version, "clientToken": token})

    def p50_ms(self, name: Any) -> float:
        quantile_us = self.tally.latencies[name].quantile_us(0.5)
        assert quantile_us is not None
        return round(quantile_us / 1000)


def test_it_acknowledges_each_message_and_reports_what_the_scenario_says() -> None:
    site = Site(fields=3).ready()
    site.device.update(5, site.now, site.now)
    (update,) = site.hear()
    assert isinstance(update, Publish)
    assert update.qos == 1
    assert json.loads(update.payload) == {
        "state": {"reported": site.scenario.reported(0, 5)},
        "clientToken": "5",
    }
    site.accept("5")
    assert site.hear() == [PubAck(7)]


def test_latency_is_counted_from_the_schedule_even_where_the_window_held_it_back() -> None:
    site = Site(in_flight=1).ready()
    begin = site.now
    site.device.update(0, begin, begin)
    site.device.update(1, begin + 10 * MS, begin + 10 * MS)
    assert [update["clientToken"] for update in site.updates()] == ["0"]
    site.now = begin + 1000 * MS
    site.accept("0")
    assert [update["clientToken"] for update in site.updates()] == ["1"]
    site.now = begin + 1010 * MS
    site.accept("1")
    # Both took a second from when they were due; from when it was sent, the second took 10 ms.
    assert 1000 <= site.p50_ms("accepted") <= 1032
    assert site.tally.counts.accepted == 2


def test_what_is_due_while_too_much_waits_or_nothing_is_connected_is_missed() -> None:
    site = Site(in_flight=1).ready()
    for number in range(BACKLOG_MAXIMUM + 3):
        site.device.update(number, site.now, site.now)
    assert site.tally.counts.updates_missed == 2
    site.device.lost("cut")
    site.device.update(0, site.now, site.now)
    counts = site.tally.counts
    assert counts.updates_missed == 2 + BACKLOG_MAXIMUM + 1
    assert (counts.updates_due, counts.updates_sent, counts.unanswered) == (BACKLOG_MAXIMUM + 4, 1, 1)


@given(st.integers(1, 10), st.integers(1, 20))
def test_a_closed_loop_keeps_the_window_full_and_never_more(window: int, receive_maximum: int) -> None:
    connack = ConnAck(properties=Properties(receive_maximum=receive_maximum))
    site = Site(rate=None, in_flight=window).ready(connack)
    site.device.load(site.now)
    on_the_way = [packet for packet in site.hear() if isinstance(packet, Publish)]
    for _ in range(5):
        assert len(on_the_way) == min(window, receive_maximum)
        oldest = on_the_way.pop(0)
        site.say(PubAck(oldest.packet_id))
        site.accept(json.loads(oldest.payload)["clientToken"])
        on_the_way += [packet for packet in site.hear() if isinstance(packet, Publish)]
    site.device.unload()
    site.accept(json.loads(on_the_way[0].payload)["clientToken"])
    assert site.updates() == []


def test_telemetry_needs_the_puback_alone() -> None:
    site = Site(profile="telemetry", in_flight=1).ready()
    site.device.update(0, site.now - 20 * MS, site.now)
    (update,) = site.hear()
    assert isinstance(update, Publish)
    assert update.topic == b"dt/device-1/telemetry"
    site.say(PubAck(update.packet_id))
    assert site.p50_ms("puback") == 20
    assert site.device.is_settled


def test_a_delta_is_reported_once_and_converges_with_its_accepted() -> None:
    site = Site().ready()
    site.device.follower.expect_edit(3, site.now - 5 * MS)
    site.message("update/delta", {"version": 4, "state": {"target": 3}, "clientToken": "edit-3"})
    site.message("update/delta", {"version": 5, "state": {"target": 3}})
    (publish,) = (packet for packet in site.hear() if isinstance(packet, Publish))
    report = json.loads(publish.payload)
    assert report["state"] == {"reported": {"target": 3}}
    site.say(PubAck(publish.packet_id))
    assert not site.device.is_settled
    site.now += 30 * MS
    site.accept(report["clientToken"], 6)
    assert site.device.is_settled
    counts = site.tally.counts
    assert (counts.deltas, counts.deltas_followed, counts.edits_converged) == (2, 1, 1)
    assert 30 <= site.p50_ms("delta_converged") <= 31
    assert 35 <= site.p50_ms("edit_converged") <= 37


def test_an_edit_that_asks_for_what_is_so_converges_with_its_own_accepted() -> None:
    site = Site().ready()
    site.message("update/delta", {"version": 4, "state": {"target": 3}})
    site.accept(site.updates()[0]["clientToken"], 5)
    site.device.follower.expect_edit(3, site.now)
    site.accept("edit-3", 6)
    assert site.tally.counts.edits_converged == 1
    assert not site.device.follower.is_drifting


def test_a_stale_delta_is_left_alone() -> None:
    site = Site().ready()
    site.accept("somebody", 9)
    site.message("update/delta", {"version": 9, "state": {"target": 3}})
    assert site.updates() == []
    assert site.tally.counts.deltas_stale == 1


@pytest.mark.parametrize("is_refused", [True, False])
def test_a_report_that_failed_is_sent_again_for_the_next_delta(*, is_refused: bool) -> None:
    site = Site().ready()
    site.message("update/delta", {"version": 4, "state": {"target": 3}})
    (report,) = site.updates()
    if is_refused:
        site.message("update/rejected", {"code": 429, "clientToken": report["clientToken"]})
        assert dict(site.tally.refusals) == {429: 1}
    else:
        site.now += 11 * SECOND
        site.device.handle_timer(site.now)
        assert site.tally.counts.unanswered == 1
    site.message("update/delta", {"version": 5, "state": {"target": 3}})
    assert site.updates()[0]["state"] == {"reported": {"target": 3}}


def test_what_was_asked_for_while_it_was_away_is_followed_after_the_next_connect() -> None:
    site = Site().ready()
    site.device.lost("cut")
    site.connect()
    (subscribe,) = site.hear()
    assert isinstance(subscribe, Subscribe)
    site.say(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_1,) * len(subscribe.requests)))
    site.hear()
    state = {"desired": {"a": {"b": 1, "c": 2}}, "reported": {"a": {"c": 2}}, "delta": {"a": {"b": 1}}}
    site.message("get/accepted", {"version": 8, "state": state, "clientToken": "get"})
    assert [update["state"] for update in site.updates()] == [{"reported": {"a": {"b": 1}}}]


def test_an_answer_that_is_not_for_it_changes_nothing() -> None:
    site = Site(in_flight=1).ready()
    site.device.update(0, site.now, site.now)
    site.hear()
    site.accept("somebody")
    site.message("update/rejected", {"code": 400, "clientToken": "somebody"})
    site.message("get/rejected", {"code": 404, "clientToken": "somebody"})
    assert (site.tally.counts.accepted, site.tally.counts.refused) == (0, 0)
    assert not site.device.is_settled


@pytest.mark.parametrize("reply", ["update/accepted", "update/rejected", "update/delta", "get/accepted"])
@pytest.mark.parametrize("payload", [b"", b"[]", b'{"version":"x"}', b"\xff", b"[" * 5000, b'{"state":1}'])
def test_a_message_that_is_not_what_it_should_be_is_counted(reply: str, payload: bytes) -> None:
    site = Site().ready()
    site.message(reply, payload)
    # accepted and rejected are read without their state.
    is_unread = payload == b'{"state":1}' and reply in ("update/accepted", "update/rejected")
    assert site.tally.counts.malformed == (0 if is_unread else 1)
    assert site.device.ending is None


@pytest.mark.parametrize("number", ["x", "-1", "9" * 4000, ""])
def test_a_refusal_with_a_strange_token_is_survived(number: str) -> None:
    site = Site().ready()
    site.device.follower.expect_edit(1, site.now)
    site.message("update/rejected", {"code": 400, "clientToken": f"edit-{number}"})
    assert site.device.follower.is_drifting
    site.message("update/rejected", {"code": 400, "clientToken": "edit-1"})
    assert not site.device.follower.is_drifting


def test_a_puback_that_refuses_ends_the_request() -> None:
    site = Site(in_flight=1).ready()
    site.device.update(0, site.now, site.now)
    (update,) = site.hear()
    assert isinstance(update, Publish)
    site.say(PubAck(update.packet_id, ReasonCode.NOT_AUTHORIZED))
    assert site.device.is_settled
    assert dict(site.tally.refusals) == {0x87: 1}


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (ConnAck(reason_code=ReasonCode.NOT_AUTHORIZED), "the server refused: NOT_AUTHORIZED"),
        (Disconnect(ReasonCode.SERVER_SHUTTING_DOWN), "the server disconnected: SERVER_SHUTTING_DOWN"),
        (SubAck(1, (ReasonCode.NOT_AUTHORIZED,)), "the server refused a subscription: NOT_AUTHORIZED"),
        (PubAck(1), "the server broke the protocol"),
    ],
)
def test_it_says_why_it_ends_a_connection(packet: ControlPacket, said: str) -> None:
    site = Site()
    if isinstance(packet, Disconnect | SubAck):
        site.connect()
    else:
        site._stream = PacketStream(maximum_packet_size=1 << 20)
        site.device.connect(site.now, site.now)
    site.say(packet)
    assert site.device.ending is not None
    assert site.device.ending.startswith(said)
    site.device.lost("closed")
    assert site.tally.counts.connect_failures == 1
    assert next(iter(site.tally.failures)).startswith(said)


def test_a_service_that_does_not_answer_get_ends_the_connection() -> None:
    site = Site()
    site.connect()
    (subscribe,) = site.hear()
    assert isinstance(subscribe, Subscribe)
    site.say(SubAck(subscribe.packet_id, (ReasonCode.GRANTED_QOS_1,) * 5))
    site.device.handle_timer(site.now + 9 * SECOND)
    assert site.device.ending is None
    site.device.handle_timer(site.now + 11 * SECOND)
    assert site.device.ending is not None
    assert "nobody answers get" in site.device.ending


def test_a_server_that_does_not_answer_connect_is_left() -> None:
    site = Site()
    site.device.connect(site.now, site.now)
    site.device.handle_timer(site.now + 31 * SECOND)
    assert site.device.ending == "not ready in time after the connect"


def test_a_quiet_connection_is_kept_alive_and_a_dead_one_is_left() -> None:
    site = Site(profile="idle").ready()
    site.device.handle_timer(site.now + 46 * SECOND)
    assert site.hear() == [PingReq()]
    site.device.handle_timer(site.now + 60 * SECOND)
    assert (site.hear(), site.device.ending) == ([], None)
    site.device.handle_timer(site.now + 71 * SECOND)
    assert site.device.ending == "no answer to PINGREQ in time"


def test_it_backs_off_longer_each_time_within_bounds_and_not_with_the_others() -> None:
    pauses = []
    for number in range(2):
        device = SwarmDevice(number, Scenario(devices=2), Tally())
        mine = []
        for _ in range(12):
            device.connect(0, 0)
            device.lost("refused")
            mine.append(device.back_off_ns())
        pauses.append(mine)
    for attempt, pause in enumerate(pauses[0]):
        longest = min(30 * SECOND, SECOND * 2**attempt // 2)
        assert longest / 2 <= pause <= longest
    assert pauses[0] != pauses[1]
    site = Site().ready()
    site.device.lost("cut")
    assert site.device.back_off_ns() <= SECOND / 2
