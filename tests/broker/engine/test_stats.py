"""Counts are exact: what clients received is what was counted, whatever happened on the way."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from broker.engine import Census
from broker.protocol.connection import ConnectionState
from broker.protocol.packets import V3_1_1, V5, ControlPacket, Publish
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver, FakePermissions
from fakes_client import FakeClient, connect_packet


class _CountingDriver(EngineDriver):
    """Counts what its clients received, by the kind of packet."""

    def __init__(self, **limits: int) -> None:
        super().__init__(is_durable=True, **limits)
        self.seen: Counter[type[ControlPacket]] = Counter()

    def open(self, version: int = V5, **options: object) -> FakeClient:
        client = super().open(version)
        counting = _CountingClient(self, client.connection, version)
        self.clients[client.connection] = counting
        return counting


class _CountingClient(FakeClient):
    def feed(self, data: bytes) -> None:
        before = len(self.received)
        super().feed(data)
        assert isinstance(self.driver, _CountingDriver)
        self.driver.seen.update(type(packet) for packet in self.received[before:])


_ACTIONS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 2), st.sampled_from([b"", b"m", b"long " * 20])),
    st.tuples(st.just("retain"), st.integers(0, 2), st.sampled_from([b"", b"m", b"long " * 20])),
    st.tuples(st.sampled_from(["fill", "drain", "lose", "acknowledge", "again", "share"])),
)


@given(
    actions=st.lists(_ACTIONS, max_size=40), version=st.sampled_from([V3_1_1, V5]), is_lasting=st.booleans()
)
def test_every_packet_that_a_client_received_was_counted_once(
    actions: list[tuple[str, int, bytes]], version: int, is_lasting: bool
) -> None:
    driver = _CountingDriver(pending_messages_maximum=3)
    sender = driver.connect("s", V5)

    def come() -> FakeClient:
        client = driver.connect(
            "r",
            version,
            is_clean_start=not is_lasting,
            expiry=1000 * is_lasting,
            receive_maximum=2,
            maximum_packet_size=60,
        )
        client.subscribe(b"t/#", qos=2)
        return client

    receiver = come()
    for kind, *details in actions:
        if receiver.is_paused and kind in ("acknowledge", "again", "share"):
            continue  # Whoever takes nothing is not read from.
        match kind, details:
            case (("publish" | "retain"), [int(qos), bytes(payload)]):
                sender.publish(b"t/a", payload, qos=qos, is_retain=kind == "retain")
            case "fill", _:
                receiver.set_writable(False)
            case "drain", _:
                receiver.set_writable(True)
            case "lose", _:
                receiver.lose()
                receiver = come()
            case "acknowledge", _:
                receiver.acknowledge_all()
            case "again", _:
                receiver.subscribe(b"t/#", qos=2)
            case _:
                receiver.subscribe(b"$share/g/t/a", qos=1)
    stats = driver.engine.stats
    assert stats.messages_sent == driver.seen[Publish]
    assert stats.packets_sent == driver.seen.total()


def test_a_connection_that_ends_is_counted_by_its_reason() -> None:
    driver = EngineDriver(maximum_packet_size=100)
    driver.connect("a").send_bytes(b"\x30\xff\x7f")
    driver.connect("b").disconnect()
    driver.connect("c")
    driver.connect("c")
    assert driver.engine.stats.closed == {
        ReasonCode.PACKET_TOO_LARGE: 1,
        ReasonCode.SUCCESS: 1,
        ReasonCode.SESSION_TAKEN_OVER: 1,
    }


def test_a_filter_that_is_not_granted_is_counted_by_its_reason() -> None:
    driver = EngineDriver(subscriptions_maximum=1, topic_levels_maximum=2)
    driver.permissions["a"] = FakePermissions(no_subscribe=(b"secret",))
    driver.connect("a").subscribe(b"secret", b"t", b"u", b"1/2/3")
    assert driver.engine.stats.subscriptions_refused == {
        ReasonCode.NOT_AUTHORIZED: 1,
        ReasonCode.QUOTA_EXCEEDED: 1,
        ReasonCode.TOPIC_FILTER_INVALID: 1,
    }


def test_a_peer_that_takes_nothing_is_counted_when_it_stops_and_when_it_is_closed() -> None:
    driver = EngineDriver(slow_consumer_s=5.0)
    client = driver.connect("a")
    client.set_writable(False)
    driver.sleep(6)
    assert client.connection.state is ConnectionState.CLOSED
    stats = driver.engine.stats
    assert (stats.write_buffers_filled, stats.slow_consumers_closed) == (1, 1)


def test_a_publisher_that_waits_for_a_service_is_counted_once() -> None:
    driver = EngineDriver(mailbox_messages_high=2)
    driver.mailbox(b"t")
    sender = driver.connect("s")
    for _ in range(5):
        sender.publish(b"t")
    assert driver.engine.stats.mailbox_holds == 1


def test_a_session_that_expires_is_counted() -> None:
    driver = EngineDriver()
    driver.connect("a", expiry=10).lose()
    driver.sleep(11)
    assert driver.engine.stats.sessions_expired == 1


def test_more_packets_than_the_budget_of_a_turn_are_counted() -> None:
    driver = EngineDriver(frame_budget=2)
    client = driver.connect("a")
    before = driver.engine.stats.frame_budgets_spent
    client.send_bytes(b"\xc0\x00" * 5)
    assert driver.engine.stats.frame_budgets_spent > before
    assert driver.engine.stats.packets_received == 6  # CONNECT, and five PINGREQ


def test_statistics_are_retained_beyond_the_limit_for_clients() -> None:
    driver = EngineDriver(retained_messages_maximum=1)
    driver.publish(b"$SYS/broker/a", b"1", is_retain=True)
    driver.publish(b"$SYS/broker/b", b"1", is_retain=True)
    sender = driver.connect("s")
    sender.publish(b"one", b"1", is_retain=True)
    sender.publish(b"two", b"1", is_retain=True)
    driver.publish(b"$SYS/broker/b", b"2", is_retain=True)
    assert driver.engine.stats.retained_refused == 1
    retained = driver.engine.state.tenants["default"].retained
    assert len(retained) == 3
    assert [changes for changes in driver.changes if "$SYS" in repr(changes)] == []
    driver.publish(b"$SYS/broker/b", b"", is_retain=True)
    driver.publish(b"$SYS/broker/a", b"", is_retain=True)
    assert driver.engine.state.tenants["default"].statistics == 0


def test_the_census_counts_what_there_is_in_every_tenant() -> None:
    driver = EngineDriver()
    lasting = driver.connect("a", expiry=100)
    lasting.subscribe(b"t", b"u", qos=1)
    receiver = driver.connect("b", receive_maximum=1)
    receiver.subscribe(b"t", qos=1)
    driver.connect("c", tenant="other").publish(b"r", b"kept", is_retain=True)
    lasting.lose()
    sender = driver.connect("s")
    sender.publish(b"t", b"12345", qos=1)
    sender.publish(b"t", b"12345", qos=1)
    driver.publish(b"$SYS/broker/a", b"1", is_retain=True)
    census = Census()
    assert list(driver.engine.take_census(census)) == []
    assert census == Census(
        sessions=4,
        sessions_connected=3,
        subscriptions=3,
        retained_messages=1,
        in_flight_messages=1,
        pending_messages=3,
        pending_bytes=3 * (1 + 5),
    )


def test_the_census_lets_others_have_their_turn_and_bears_what_they_do() -> None:
    driver = EngineDriver(is_durable=False)
    clients = [driver.open() for _ in range(2500)]
    for number, client in enumerate(clients):
        client.send(connect_packet(f"c{number}"))
    census = Census()
    turns = driver.engine.take_census(census)
    next(turns)
    for client in clients[:50]:
        client.disconnect()
    assert sum(1 for _ in turns) == 1
    assert 2450 <= census.sessions <= 2500
