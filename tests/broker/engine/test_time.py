"""What time does: silence, connections that never speak, slow consumers, Sessions that expire."""

import pytest

from broker.protocol.packets import V3_1_1, V5, Disconnect, PingReq, PingResp
from broker.protocol.reason_codes import ReasonCode
from fakes import START, EngineDriver
from fakes_client import connect_packet

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])


@_VERSIONS
def test_silence_for_one_and_a_half_keep_alives_ends_the_connection(version: int) -> None:
    driver = EngineDriver()
    client = driver.connect("c", version, keep_alive=10)
    driver.sleep(15)
    assert not client.is_closed
    driver.sleep(0.25)
    assert client.close_reason is ReasonCode.KEEP_ALIVE_TIMEOUT
    assert client.take() == ([Disconnect(ReasonCode.KEEP_ALIVE_TIMEOUT)] if version == V5 else [])
    assert driver.engine.stats.keep_alive_timeouts == 1


def test_any_packet_breaks_the_silence() -> None:
    driver = EngineDriver()
    client = driver.connect("c", keep_alive=10)
    for _ in range(10):
        driver.sleep(14)
        client.send(PingReq())
    assert client.take() == [PingResp()] * 10
    driver.sleep(16)
    assert client.is_closed


def test_without_keep_alive_a_client_may_be_silent_for_ever() -> None:
    driver = EngineDriver()
    client = driver.connect("c", keep_alive=0)
    driver.sleep(1_000_000)
    assert not client.is_closed
    assert len(driver.engine.state.timers) == 0


def test_the_servers_keep_alive_is_in_force_for_v5_clients_only() -> None:
    driver = EngineDriver(server_keep_alive_s=10)
    new = driver.connect("new", keep_alive=1000)
    old = driver.connect("old", V3_1_1, keep_alive=1000)
    driver.sleep(16)
    assert new.is_closed
    assert not old.is_closed


def test_a_client_that_we_do_not_listen_to_is_not_silent() -> None:
    driver = EngineDriver(mailbox_messages_high=1)
    mailbox = driver.mailbox(b"t")
    client = driver.connect("c", keep_alive=10)
    client.publish(b"t")
    assert client.is_paused
    driver.sleep(100)
    assert not client.is_closed
    driver.engine.take_mailbox(mailbox)
    driver.settle()
    driver.sleep(31)
    assert client.is_closed


@pytest.mark.parametrize("first_bytes", [b"", b"\x10", b"\x10\x80", b"\x10\x20\x00\x04MQ"])
def test_a_peer_must_send_its_connect_in_time(first_bytes: bytes) -> None:
    driver = EngineDriver(connect_timeout_s=10)
    client = driver.open()
    client.send_bytes(first_bytes)
    driver.sleep(9.9)
    assert not client.is_closed
    driver.sleep(0.5)
    assert client.close_reason is ReasonCode.MAXIMUM_CONNECT_TIME
    assert client.take() == []


def test_a_client_that_came_in_time_is_not_bothered_by_the_connect_timeout() -> None:
    driver = EngineDriver(connect_timeout_s=10)
    client = driver.connect()
    driver.sleep(100)
    assert not client.is_closed


def test_a_slow_consumer_is_given_up_after_a_while() -> None:
    driver = EngineDriver(slow_consumer_s=30)
    client = driver.connect("c")
    client.set_writable(False)
    driver.sleep(30)
    client.set_writable(True)
    client.set_writable(False)
    driver.sleep(29)
    assert not client.is_closed
    driver.sleep(2)
    assert client.close_reason is ReasonCode.QUOTA_EXCEEDED


def test_a_consumer_that_recovered_is_not_given_up() -> None:
    driver = EngineDriver(slow_consumer_s=30)
    client = driver.connect("c")
    client.set_writable(False)
    client.set_writable(True)
    driver.sleep(100)
    assert not client.is_closed


def test_a_slow_consumers_qos_0_messages_are_dropped_and_the_others_wait() -> None:
    driver = EngineDriver()
    receiver, sender = driver.connect("r"), driver.connect("s")
    receiver.subscribe(b"t", qos=1)
    receiver.set_writable(False)
    for number in range(3):
        sender.publish(b"t", b"0", qos=0)
        sender.publish(b"t", b"%d" % number, qos=1)
    assert receiver.take() == []
    assert driver.engine.stats.sessions.dropped_congested == 3
    receiver.set_writable(True)
    assert receiver.payloads() == [b"0", b"1", b"2"]


def test_an_answer_to_a_slow_consumer_does_not_bring_it_more_messages() -> None:
    """Otherwise who publishes without reading would make us buffer all that it subscribes to."""
    driver = EngineDriver()
    client = driver.connect("c")
    client.subscribe(b"t", qos=0)
    client.set_writable(False)
    client.send(PingReq())
    driver.engine.receive(client.connection, b"\xc0\x00", driver.now)
    driver.publish(b"t", b"m")
    assert client.payloads() == []


@_VERSIONS
def test_a_session_ends_when_its_time_is_over(version: int) -> None:
    driver = EngineDriver(session_expiry_maximum_s=60)
    client = driver.connect("c", version, is_clean_start=False, expiry=60)
    client.subscribe(b"t", qos=1)
    client.lose()
    driver.sleep(59)
    assert driver.engine.state.session_count == 1
    driver.sleep(1.25)
    assert driver.engine.state.session_count == 0
    assert len(driver.engine.state.tenants["default"].tree) == 0
    assert driver.snapshot().sessions == {}
    assert not driver.connect("c", version, is_clean_start=False).connack.is_session_present


def test_a_client_that_comes_after_the_end_finds_nothing_even_before_the_timer_looked() -> None:
    driver = EngineDriver()
    driver.connect("c", expiry=60).lose()
    driver.now += 60
    assert not driver.connect("c", is_clean_start=False).connack.is_session_present


def test_a_session_that_never_expires_waits_for_ever() -> None:
    driver = EngineDriver()
    driver.connect("c", expiry=0xFFFFFFFF).lose()
    driver.sleep(10_000_000)
    assert driver.connect("c", is_clean_start=False).connack.is_session_present


def test_the_time_of_a_session_starts_anew_with_each_connection() -> None:
    driver = EngineDriver()
    for _ in range(3):
        driver.connect("c", is_clean_start=False, expiry=60).lose()
        driver.sleep(50)
    assert driver.connect("c", is_clean_start=False).connack.is_session_present


def test_disconnect_may_shorten_the_life_of_a_session() -> None:
    driver = EngineDriver()
    driver.connect("c", expiry=1000).disconnect(session_expiry_interval=10)
    driver.sleep(11)
    assert driver.engine.state.session_count == 0
    driver.connect("c", expiry=1000).disconnect(session_expiry_interval=0)
    assert driver.engine.state.session_count == 0


def test_disconnect_may_not_give_life_to_a_session_that_had_none() -> None:
    driver = EngineDriver()
    client = driver.connect("c", expiry=0)
    client.disconnect(session_expiry_interval=10)
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR
    assert driver.engine.state.session_count == 0


@pytest.mark.parametrize("was_connected", [False, True])
def test_a_sessions_time_runs_on_across_restarts(was_connected: bool) -> None:
    driver = EngineDriver()
    client = driver.connect("c", expiry=100)
    if not was_connected:
        client.lose()
    for elapsed in (40, 80):
        # Who was connected when the process died is gone since the restart.
        driver.take_down(now=START + elapsed)
        assert driver.engine.state.session_count == 1
    driver.sleep(19)
    assert driver.engine.state.session_count == 1
    driver.sleep(2 if not was_connected else 42)
    assert driver.engine.state.session_count == 0


def test_a_session_whose_time_ran_out_while_we_were_down_is_gone() -> None:
    driver = EngineDriver()
    driver.connect("c", expiry=100).lose()
    driver.take_down(now=START + 100)
    assert driver.engine.state.session_count == 0
    assert driver.snapshot().sessions == {}


def test_clients_that_come_and_go_leave_no_timers_behind() -> None:
    driver = EngineDriver()
    for _ in range(100):
        client = driver.connect("c", is_clean_start=False, expiry=100_000, keep_alive=60_000)
        client.lose()
        driver.open().lose()
    assert len(driver.engine.state.timers) == 1
    driver.connect("c", is_clean_start=True).disconnect()
    assert len(driver.engine.state.timers) == 0
    assert not driver.engine.state.session_timers


def test_a_refused_client_leaves_no_timer_behind() -> None:
    driver = EngineDriver(sessions_maximum=1)
    driver.connect("a")
    driver.open().send(connect_packet("b"))
    assert len(driver.engine.state.timers) == 0
