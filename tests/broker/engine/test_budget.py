"""The budget of a turn: one busy client neither starves others nor fills our memory."""

import pytest

from broker.protocol.packets import V3_1_1, PingResp
from fakes import EngineDriver

_PING = b"\xc0\x00"


def test_a_turn_handles_a_clients_packets_up_to_the_budget() -> None:
    driver = EngineDriver(frame_budget=10)
    client = driver.connect("c", V3_1_1)
    driver.engine.receive(client.connection, _PING * 25, driver.now)
    answered = []
    while True:
        more = driver.turn()
        answered.append(len(client.take()))
        if not more:
            break
    assert sum(answered) == 25
    assert max(answered) == 10
    assert not client.is_paused


def test_another_client_has_its_turn_meanwhile() -> None:
    driver = EngineDriver(frame_budget=10)
    busy, other = driver.connect("busy", V3_1_1), driver.connect("other", V3_1_1)
    driver.engine.receive(busy.connection, _PING * 100, driver.now)
    driver.turn()
    driver.engine.receive(other.connection, _PING, driver.now)
    driver.turn()
    assert other.take() == [PingResp()]
    assert len(busy.take()) <= 30
    driver.settle()
    assert len(busy.take()) >= 70


def test_nothing_more_is_read_before_what_is_buffered_is_handled() -> None:
    driver = EngineDriver(frame_budget=10)
    client = driver.connect("c", V3_1_1)
    driver.engine.receive(client.connection, _PING * 25, driver.now)
    driver.turn()
    assert client.is_paused
    driver.engine.receive(client.connection, _PING * 25, driver.now)
    driver.settle()
    assert not client.is_paused
    assert client.take() == [PingResp()] * 50


@pytest.mark.parametrize("count", [9, 10, 11, 20])
def test_reading_goes_on_after_any_number_of_packets(count: int) -> None:
    driver = EngineDriver(frame_budget=10)
    client = driver.connect("c", V3_1_1)
    for _ in range(3):
        client.send_bytes(_PING * count)
    assert client.take() == [PingResp()] * (3 * count)
    assert not client.is_paused


def test_a_client_held_by_a_service_within_its_budget_goes_on_afterwards() -> None:
    driver = EngineDriver(frame_budget=5, mailbox_messages_high=3)
    mailbox = driver.mailbox(b"t")
    client = driver.connect("c", V3_1_1)
    driver.engine.receive(client.connection, b"\x30\x04\x00\x01tx" * 23, driver.now)
    driver.turn()
    # The service takes its batch before the client's next turn, or after it: nothing may get stuck.
    total = len(driver.engine.take_mailbox(mailbox))
    driver.settle()
    while mailbox.messages:
        total += len(driver.engine.take_mailbox(mailbox))
        driver.settle()
    assert total == 23
    assert not client.is_paused
    assert not client.connection.hold


def test_a_fault_behind_the_budget_is_found() -> None:
    driver = EngineDriver(frame_budget=10)
    client = driver.connect("c", V3_1_1)
    client.send_bytes(_PING * 30 + b"\xff\x00")
    assert len(client.take()) == 30
    assert client.is_closed
