"""What a peer can make us keep is bounded in bytes, and let go of when its time is over."""

from broker.protocol.packets import V5
from broker.protocol.properties import Properties
from fakes import EngineDriver, FakePermissions
from fakes_client import FakeClient

_KEPT = Properties(session_expiry_interval=100)


def _kept(driver: EngineDriver, client_id: str) -> FakeClient:
    return driver.connect(client_id, V5, is_clean_start=False, properties=_KEPT)


def test_a_client_that_never_acknowledges_pins_a_bounded_number_of_bytes() -> None:
    driver = EngineDriver(pending_bytes_maximum=10_000)
    reader = driver.connect("r")
    reader.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    for _ in range(100):
        sender.publish(b"t", bytes(1000), qos=1)
    session = reader.connection.attached
    assert session.in_flight_bytes <= 11_001
    assert session.pending_bytes <= 10_000
    dropped = driver.engine.stats.sessions.dropped_pending_full
    assert len(reader.acknowledge_all()) == 100 - dropped > 10
    assert session.in_flight_bytes == session.pending_bytes == 0


def test_one_message_as_large_as_the_limit_still_passes() -> None:
    driver = EngineDriver(pending_bytes_maximum=1000)
    reader = driver.connect("r")
    reader.subscribe(b"t", qos=2)
    driver.connect("s").publish(b"t", bytes(5000), qos=2)
    assert [len(message.payload) for message in reader.acknowledge_all()] == [5000]
    assert reader.connection.attached.in_flight_bytes == 0


def test_retained_messages_are_bounded_in_bytes() -> None:
    driver = EngineDriver(retained_bytes_maximum=3000)
    sender = driver.connect("s")
    for number in range(5):
        sender.publish(b"t/%d" % number, bytes(1000), is_retain=True)
    tenant = driver.engine.state.tenant("default")
    assert len(tenant.retained) == 2
    assert tenant.retained_bytes == 2 * 1003
    assert driver.engine.stats.retained_refused == 3
    sender.publish(b"t/0", bytes(10), is_retain=True)
    sender.publish(b"t/4", bytes(1000), is_retain=True)
    assert len(tenant.retained) == 3
    for number in range(5):
        sender.publish(b"t/%d" % number, b"", is_retain=True)
    assert tenant.retained_bytes == 0


def test_a_session_that_ended_leaves_no_message_in_a_publishers_routes() -> None:
    driver = EngineDriver()
    reader = _kept(driver, "r")
    reader.subscribe(b"t", qos=1)
    sender = driver.connect("s")
    session = reader.connection.attached
    reader.lose()
    sender.publish(b"t", bytes(5000), qos=1)
    driver.sleep(101)
    assert (session.pending_messages, len(session.in_flight)) == (0, 0)


def test_a_client_that_comes_back_with_fewer_rights_gets_nothing_from_before() -> None:
    driver = EngineDriver()
    reader = _kept(driver, "r")
    reader.subscribe(b"#", qos=1)
    sender = driver.connect("s")
    reader.lose()
    sender.publish(b"secret", b"old", qos=1)
    driver.permissions["r"] = FakePermissions(no_receive=(b"secret",))
    reader = _kept(driver, "r")
    sender.publish(b"secret", b"new", qos=1)
    sender.publish(b"open", b"new", qos=1)
    assert [message.topic for message in reader.acknowledge_all()] == [b"open"]


def test_many_wildcard_subscriptions_in_one_packet_walk_the_retained_messages_one_per_turn() -> None:
    driver = EngineDriver()
    for number in range(50):
        driver.publish(b"t/%d" % number, b"m", is_retain=True)
    walks = 0
    retained = driver.engine.state.tenant("default").retained
    match = type(retained).match

    def counting(self: object, topic_filter: bytes) -> object:
        nonlocal walks
        walks += 1
        return match(self, topic_filter)  # type: ignore[arg-type]

    reader = driver.connect("r")
    type(retained).match = counting  # type: ignore[method-assign, assignment]
    try:
        driver.engine.receive(
            reader.connection,
            bytes.fromhex("82 26 0001 00") + b"".join(b"\x00\x04+/x%d\x00" % number for number in range(5)),
            driver.now,
        )
        driver.turn()
        assert walks <= 2
        driver.settle()
        assert walks == 5
    finally:
        type(retained).match = match  # type: ignore[method-assign]


def test_postponed_or_last_packets_are_not_charged_to_a_closed_connection() -> None:
    driver = EngineDriver(publish_rate_maximum=2)
    client = driver.connect("c")
    driver.sleep(2)
    client.send_bytes(b"\x30\x04\x00\x01t\x00" * 5 + b"\xe0\x00")
    assert client.is_closed
    assert not client.is_paused
