"""Enhanced authentication: AUTH at CONNECT, and again while CONNECTED (v5 §4.12)."""

from typing import Any

import pytest

from broker.access import AskingPermissions
from broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    Subscribe,
    TopicName,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import FakePermissions
from fakes_client import FakeClient, connect_packet, request_for, will
from fakes_hooks import HookDriver, Oracle, Riddle

CONTINUE = ReasonCode.CONTINUE_AUTHENTICATION
AGAIN = ReasonCode.RE_AUTHENTICATE


def driver(*methods: Riddle) -> HookDriver:
    return HookDriver(*(methods or (Riddle(),)), is_durable=False)


def connect(data: bytes | None = b"alice", method: str | None = "RIDDLE", **fields: Any) -> Connect:
    properties = Properties(authentication_method=method, authentication_data=data)
    return connect_packet(properties=properties, **fields)


def auth(code: ReasonCode = CONTINUE, data: bytes | None = b"8", method: str = "RIDDLE") -> Auth:
    return Auth(code, Properties(authentication_method=method, authentication_data=data))


def let_in(on: HookDriver, **fields: Any) -> FakeClient:
    client = on.open()
    client.send(connect(**fields))
    client.send(auth())
    assert client.take_one(ConnAck).reason_code is ReasonCode.SUCCESS
    client.take()
    return client


@pytest.mark.clause("v5", "MQTT-4.12.0-2")
@pytest.mark.clause("v5", "MQTT-4.12.0-5")
def test_a_challenge_then_the_answer_lets_the_client_in() -> None:
    client = driver().open()
    client.send(connect())
    assert client.take() == [auth(CONTINUE, b"7")]
    client.send(auth())
    connack = client.take_one(ConnAck)
    assert connack.reason_code is ReasonCode.SUCCESS
    assert connack.properties.authentication_method == "RIDDLE"
    assert connack.properties.authentication_data == b"welcome"
    assert client.connection.principal is not None
    assert client.connection.principal.user_name == "alice"


def test_a_method_may_be_content_with_connect_alone() -> None:
    client = driver().open()
    client.send(connect(data=None))
    connack = client.take_one(ConnAck)
    assert connack.properties.authentication_data == b"welcome"


def test_a_method_may_ask_as_often_as_it_likes() -> None:
    client = driver(Riddle(rounds=3)).open()
    client.send(connect())
    for _ in range(3):
        assert client.take() == [auth(CONTINUE, b"7")]
        client.send(auth())
    assert client.take_one(ConnAck).reason_code is ReasonCode.SUCCESS


@pytest.mark.clause("v5", "MQTT-4.12.0-4")
def test_a_wrong_answer_is_refused_and_closes() -> None:
    on = driver()
    client = on.open()
    client.send(connect())
    client.take()
    client.send(auth(data=b"9"))
    assert client.take() == [ConnAck(False, ReasonCode.NOT_AUTHORIZED)]
    assert client.is_closed
    assert on.engine.stats.connects_refused == 1


@pytest.mark.clause("v5", "MQTT-4.12.0-1")
def test_an_unknown_method_is_refused() -> None:
    client = driver().open()
    client.send(connect(method="SCRAM-SHA-1"))
    assert client.take() == [ConnAck(False, ReasonCode.BAD_AUTHENTICATION_METHOD)]
    assert client.is_closed


@pytest.mark.clause("v5", "MQTT-4.12.0-6")
def test_without_a_method_connack_names_none_and_nobody_is_asked() -> None:
    riddle = Riddle()
    client = driver(riddle).connect()
    assert client.connack.properties.authentication_method is None
    assert riddle.requests == []


@pytest.mark.parametrize(
    "wrong",
    [
        auth(method="OTHER"),
        auth(AGAIN),
        auth(ReasonCode.SUCCESS),
        Auth(),
        Publish(TopicName(b"a"), b"", 0, False, False, 0),
        Subscribe(1, (request_for(b"a"),)),
        PingReq(),
        connect(),
    ],
    ids=["other method", "again", "success", "empty", "publish", "subscribe", "ping", "connect"],
)
@pytest.mark.clause("v5", "MQTT-3.1.2-30")
def test_what_does_not_belong_between_challenge_and_connack_closes(wrong: object) -> None:
    client = driver().open()
    client.send(connect())
    client.take()
    client.send(wrong)  # type: ignore[arg-type]
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR
    assert client.take() == []


def test_a_client_may_leave_between_challenge_and_connack() -> None:
    client = driver().open()
    client.send(connect())
    client.send(Disconnect())
    assert client.is_closed


def test_a_client_that_never_answers_is_closed_in_time() -> None:
    on = driver()
    client = on.open()
    client.send(connect())
    on.sleep(on.limits.connect_timeout_s + 1)
    assert client.close_reason is ReasonCode.MAXIMUM_CONNECT_TIME


def test_nothing_is_read_while_the_method_is_asked() -> None:
    on = driver()
    on.is_holding_hooks = True
    client = on.open()
    client.send(connect(), auth())
    assert client.is_paused
    assert client.take() == []
    on.answer_hooks()
    assert [type(packet) for packet in client.take()] == [Auth, ConnAck]


def test_an_answer_for_a_client_that_is_gone_changes_nothing() -> None:
    on = driver()
    on.is_holding_hooks = True
    client = on.open()
    client.send(connect())
    client.lose()
    on.answer_hooks()
    assert client.take() == []
    assert on.engine.state.session_count == 0


@pytest.mark.clause("v5", "MQTT-4.12.0-7")
@pytest.mark.parametrize("code", [CONTINUE, AGAIN])
def test_auth_of_a_client_that_named_no_method_is_a_protocol_error(code: ReasonCode) -> None:
    client = driver().connect()
    client.send(auth(code))
    assert client.take() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


# While CONNECTED.


@pytest.mark.clause("v5", "MQTT-4.12.0-5")
def test_a_connected_client_proves_again_who_it_is() -> None:
    client = let_in(driver())
    for _ in range(2):
        client.send(auth(AGAIN, b"alice"))
        assert client.take() == [auth(CONTINUE, b"7")]
        client.send(PingReq())  # v5 §4.12.1: other packets may flow meanwhile.
        assert client.take() == [PingResp()]
        client.send(auth())
        assert client.take() == [auth(ReasonCode.SUCCESS, b"welcome")]


def test_the_password_of_connect_is_not_kept_for_later() -> None:
    riddle = Riddle()
    client = let_in(driver(riddle), user_name="u", password=b"secret")
    client.send(auth(AGAIN, b"alice"))
    assert [request.password for request in riddle.requests] == [b"secret", None]


@pytest.mark.parametrize(
    "wrong",
    [auth(), auth(AGAIN, method="OTHER"), auth(ReasonCode.SUCCESS), Auth()],
    ids=["continue", "other method", "success", "empty"],
)
@pytest.mark.clause("v5", "MQTT-4.12.1-1")
def test_auth_out_of_turn_closes(wrong: Auth) -> None:
    client = let_in(driver())
    client.send(wrong)
    assert client.take() == [Disconnect(ReasonCode.PROTOCOL_ERROR)]


def test_a_second_beginning_before_the_first_is_over_closes() -> None:
    client = let_in(driver())
    client.send(auth(AGAIN, b"alice"), auth(AGAIN, b"alice"))
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR


@pytest.mark.clause("v5", "MQTT-4.12.1-2")
def test_who_fails_to_prove_it_again_is_disconnected() -> None:
    client = let_in(driver())
    client.send(auth(AGAIN, b"alice"))
    client.take()
    client.send(auth(data=b"9"))
    assert client.take() == [Disconnect(ReasonCode.NOT_AUTHORIZED)]
    assert client.is_closed


def test_nobody_becomes_somebody_else() -> None:
    client = let_in(driver())
    client.send(auth(AGAIN, b"bob"))
    client.take()
    client.send(auth())
    assert client.take() == [Disconnect(ReasonCode.NOT_AUTHORIZED)]


def test_new_rights_hold_at_once_for_everything() -> None:
    riddle = Riddle()
    on = driver(riddle)
    client = let_in(on, will=will(b"will"))
    client.subscribe(b"a")
    client.subscribe(b"b")
    client.publish(b"c")
    riddle.permissions = lambda: FakePermissions(
        no_publish=(b"c", b"will"), no_subscribe=(b"a",), no_receive=(b"b",)
    )
    client.send(auth(AGAIN, b"alice"))
    client.send(auth())
    client.take()
    on.publish(b"a", b"1")
    on.publish(b"b", b"2")
    assert client.payloads() == []
    watcher = on.connect("watcher")
    watcher.subscribe(b"#")
    client.publish(b"c", b"3", qos=1)
    assert client.connection.attached.will is None
    assert watcher.payloads() == []


def test_new_rights_that_must_be_asked_for_are_asked_before_old_subscriptions_go() -> None:
    riddle, oracle = Riddle(), Oracle()
    on = driver(riddle)
    client = let_in(on)
    client.subscribe(b"a")
    client.subscribe(b"b")
    oracle.denied.add(("subscribe", "a"))
    riddle.permissions = lambda: AskingPermissions(FakePermissions(), oracle)
    client.send(auth(AGAIN, b"alice"))
    client.take()
    client.send(auth())
    assert client.take() == [auth(ReasonCode.SUCCESS, b"welcome")]
    assert oracle.asked == [("subscribe", "a"), ("subscribe", "b")]
    assert list(client.connection.attached.subscriptions) == [b"b"]


def test_where_nobody_decides_on_new_rights_the_client_is_disconnected() -> None:
    riddle, oracle = Riddle(), Oracle()
    on = driver(riddle)
    client = let_in(on)
    client.subscribe(b"a")
    oracle.unknown.add(("subscribe", "a"))
    riddle.permissions = lambda: AskingPermissions(FakePermissions(), oracle)
    client.send(auth(AGAIN, b"alice"))
    client.take()
    client.send(auth())
    assert client.take() == [Disconnect(ReasonCode.NOT_AUTHORIZED)]
