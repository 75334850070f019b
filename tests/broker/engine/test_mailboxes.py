"""Services inside the process: batches, and publishers held back while a service has too much to do."""

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.engine import Origin
from broker.protocol.packets import V3_1_1, V5
from fakes import EngineDriver


def test_a_service_gets_what_matches_with_its_origin() -> None:
    driver = EngineDriver()
    mailbox = driver.mailbox(b"a/+", b"a/#")
    client = driver.connect("c")
    client.publish(b"a/b", b"1", qos=2)
    client.publish(b"b", b"2")
    driver.publish(b"a", b"3")
    messages = driver.engine.take_mailbox(mailbox)
    assert [(message.topic, message.payload, message.qos) for message in messages] == [
        (b"a/b", b"1", 2),
        (b"a", b"3", 0),
    ]
    origin = messages[0].origin
    assert isinstance(origin, Origin)
    assert (origin.client_id, origin.is_will) == ("c", False)
    assert messages[1].origin is None


def test_a_service_is_woken_once_per_batch() -> None:
    driver = EngineDriver()
    wakes: list[int] = []
    mailbox = driver.engine.open_mailbox("service", lambda: wakes.append(len(mailbox.messages)))
    driver.engine.subscribe_mailbox("default", mailbox, b"t")  # type: ignore[arg-type]
    client = driver.connect("c")
    client.publish(b"t")
    client.publish(b"t")
    assert wakes == [1]
    driver.engine.take_mailbox(mailbox)
    client.publish(b"t")
    assert wakes == [1, 1]


def test_a_publisher_is_held_back_from_a_full_mailbox_until_it_is_taken() -> None:
    driver = EngineDriver(mailbox_messages_high=3)
    mailbox = driver.mailbox(b"t")
    publisher, other = driver.connect("p"), driver.connect("o")
    for number in range(10):
        publisher.publish(b"t", b"%d" % number)
    assert publisher.is_paused
    assert not other.is_paused
    assert len(mailbox.messages) == 3
    taken: list[bytes] = []
    while mailbox.messages:
        taken += [message.payload for message in driver.engine.take_mailbox(mailbox)]
        driver.settle()
    assert taken == [b"%d" % number for number in range(10)]
    assert not publisher.is_paused


def test_what_one_read_brings_is_bounded_by_the_frame_budget() -> None:
    driver = EngineDriver(mailbox_messages_high=1, frame_budget=10)
    mailbox = driver.mailbox(b"t")
    publisher = driver.connect("p", V3_1_1)
    publisher.send_bytes(b"\x30\x04\x00\x01tx" * 100)
    assert len(mailbox.messages) == 10
    assert publisher.is_paused
    total = 0
    while mailbox.messages:
        total += len(driver.engine.take_mailbox(mailbox))
        driver.settle()
    assert total == 100


def test_a_service_that_ends_lets_go_of_those_whom_it_held() -> None:
    driver = EngineDriver(mailbox_messages_high=1)
    mailbox = driver.mailbox(b"t")
    publisher = driver.connect("p")
    publisher.publish(b"t", qos=1)
    assert publisher.is_paused
    driver.engine.close_mailbox("default", mailbox, [b"t"])  # type: ignore[list-item]
    driver.settle()
    assert not publisher.is_paused
    publisher.publish(b"t", qos=1)
    assert not mailbox.messages


def test_a_service_publishes_to_clients_and_what_is_pending_is_durable() -> None:
    driver = EngineDriver()
    durable, fleeting = driver.connect("d", expiry=10), driver.connect("f")
    durable.subscribe(b"d", qos=1)
    fleeting.subscribe(b"f", qos=1)
    driver.publish(b"f", b"1", qos=1)
    driver.publish(b"d", b"2", qos=0)
    driver.publish(b"d", b"3", qos=1)
    assert fleeting.payloads() == [b"1"]
    assert durable.payloads() == [b"2", b"3"]
    driver.take_down()
    assert driver.connect("d", expiry=10, is_clean_start=False).payloads() == [b"3"]


def test_a_superseding_message_is_as_durable_as_a_first_one() -> None:
    driver = EngineDriver()
    durable = driver.connect("d", expiry=10)
    durable.subscribe(b"d", qos=1)
    durable.lose()
    driver.publish(b"d", b"1", qos=1, supersede_key=b"k")
    driver.publish(b"d", b"2", qos=1, supersede_key=b"k")
    driver.take_down()
    assert driver.connect("d", expiry=10, is_clean_start=False).payloads() == [b"2"]


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), max_size=60),
    high=st.integers(1, 8),
    version=st.sampled_from([V3_1_1, V5]),
)
def test_nothing_is_lost_and_each_publishers_order_is_kept(
    steps: list[tuple[int, int, bool]], high: int, version: int
) -> None:
    driver = EngineDriver(mailbox_messages_high=high)
    mailboxes = [driver.mailbox(b"t"), driver.mailbox(b"#")]
    publishers = [driver.connect(f"p{index}", version) for index in range(4)]
    sent: list[list[bytes]] = [[] for _ in publishers]
    taken: list[list[bytes]] = [[] for _ in mailboxes]
    for number, (index, qos, is_taken) in enumerate(steps):
        payload = b"%d:%d" % (index, number)
        sent[index].append(payload)
        publishers[index].publish(b"t", payload, qos=qos)
        if is_taken:
            box = number % 2
            taken[box] += [message.payload for message in driver.engine.take_mailbox(mailboxes[box])]
            driver.settle()
    while any(mailbox.messages for mailbox in mailboxes):
        for box, mailbox in enumerate(mailboxes):
            taken[box] += [message.payload for message in driver.engine.take_mailbox(mailbox)]
            driver.settle()
    for got in taken:
        for index, payloads in enumerate(sent):
            assert [each for each in got if each.startswith(b"%d:" % index)] == payloads
    assert not any(publisher.is_paused for publisher in publishers)
