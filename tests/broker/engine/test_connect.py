"""CONNECT: who is let in, what the CONNACK says, Sessions resumed, ended and taken over."""

import pytest

from broker.access.ports import AccessRefusedError
from broker.protocol.packets import (
    V3_1_1,
    V5,
    Auth,
    ConnAck,
    Disconnect,
    PingReq,
    PingResp,
    Publish,
    TopicName,
)
from broker.protocol.properties import Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver, FakePermissions, certificate_of
from fakes_client import connect_packet, will

_VERSIONS = pytest.mark.parametrize("version", [V3_1_1, V5])


@_VERSIONS
def test_a_client_is_let_in_without_a_session(version: int) -> None:
    client = EngineDriver().connect("c", version)
    assert not client.connack.is_session_present
    assert not client.is_closed


@_VERSIONS
def test_a_client_without_client_id_gets_one(version: int) -> None:
    driver = EngineDriver()
    client = driver.connect("", version)
    assert client.connection.client_id == "assigned-1"
    assigned = client.connack.properties.assigned_client_identifier
    assert assigned == ("assigned-1" if version == V5 else None)
    assert driver.connect("", version).connection.client_id == "assigned-2"


def test_a_client_that_named_itself_is_assigned_nothing() -> None:
    assert EngineDriver().connect("c").connack.properties.assigned_client_identifier is None


def test_a_v5_client_without_client_id_may_ask_for_a_session() -> None:
    client = EngineDriver().connect("", is_clean_start=False, expiry=10)
    assert client.connack.properties.assigned_client_identifier == "assigned-1"


def test_an_old_client_without_client_id_must_ask_for_a_clean_session() -> None:
    client = EngineDriver().open(V3_1_1)
    client.send(connect_packet("", V3_1_1, is_clean_start=False))
    assert client.take() == [ConnAck(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)]
    assert client.is_closed


def test_connack_announces_our_limits() -> None:
    driver = EngineDriver(
        receive_maximum=7,
        maximum_packet_size=5000,
        topic_alias_maximum=3,
        server_keep_alive_s=20,
        session_expiry_maximum_s=60,
    )
    assert driver.connect(expiry=100).connack.properties == Properties(
        session_expiry_interval=60,
        receive_maximum=7,
        maximum_packet_size=5000,
        topic_alias_maximum=3,
        server_keep_alive=20,
    )


def test_connack_says_nothing_that_the_client_knows() -> None:
    properties = EngineDriver(topic_alias_maximum=0).connect(expiry=100).connack.properties
    assert properties.session_expiry_interval is None
    assert properties.topic_alias_maximum is None
    assert properties.server_keep_alive is None


@_VERSIONS
def test_a_session_waits_for_its_client(version: int) -> None:
    driver = EngineDriver()
    first = driver.connect("c", version, is_clean_start=False, expiry=100)
    first.subscribe(b"t", qos=1)
    first.disconnect()
    driver.connect("p").publish(b"t", b"missed", qos=1)
    second = driver.connect("c", version, is_clean_start=False, expiry=100)
    assert second.connack.is_session_present
    assert second.payloads() == [b"missed"]


@_VERSIONS
def test_a_clean_start_ends_the_earlier_session(version: int) -> None:
    driver = EngineDriver()
    driver.connect("c", version, is_clean_start=False, expiry=100).subscribe(b"t", qos=1)
    second = driver.connect("c", version, is_clean_start=True)
    assert not second.connack.is_session_present
    driver.connect("p").publish(b"t", b"m", qos=1)
    assert second.take() == []
    assert driver.engine.state.session_count == 2


def test_a_session_of_an_old_clean_client_ends_with_its_connection() -> None:
    driver = EngineDriver()
    driver.connect("c", V3_1_1, is_clean_start=True).lose()
    assert not driver.connect("c", V3_1_1, is_clean_start=False).connack.is_session_present


@_VERSIONS
def test_the_later_connection_takes_the_session_over(version: int) -> None:
    driver = EngineDriver()
    first = driver.connect("c", version, is_clean_start=False, expiry=100)
    first.subscribe(b"t", qos=1)
    second = driver.connect("c", version, is_clean_start=False, expiry=100)
    assert first.close_reason is ReasonCode.SESSION_TAKEN_OVER
    assert first.take() == ([Disconnect(ReasonCode.SESSION_TAKEN_OVER)] if version == V5 else [])
    assert second.connack.is_session_present
    driver.connect("p").publish(b"t", b"m")
    assert second.payloads() == [b"m"]
    assert driver.engine.stats.session_takeovers == 1


def test_unacknowledged_messages_follow_the_session_to_its_new_connection() -> None:
    driver = EngineDriver()
    first = driver.connect("c", V3_1_1, is_clean_start=False)
    first.subscribe(b"t", qos=2)
    driver.connect("p").publish(b"t", b"m", qos=2)
    assert [message.is_dup for message in first.messages()] == [False]
    second = driver.connect("c", V5, is_clean_start=False, expiry=100)
    again = second.messages()
    assert [(message.payload, message.qos, message.is_dup) for message in again] == [(b"m", 2, True)]


def test_the_authenticator_refuses_in_both_versions() -> None:
    driver = EngineDriver()
    driver.refusals["c"] = AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "no")
    for version in (V3_1_1, V5):
        client = driver.open(version)
        client.send(connect_packet("c", version))
        assert client.take() == [ConnAck(False, ReasonCode.NOT_AUTHORIZED)]
        assert client.close_reason is ReasonCode.NOT_AUTHORIZED
    assert driver.engine.state.session_count == 0


def test_an_old_client_is_closed_silently_where_it_has_no_word_for_the_reason() -> None:
    driver = EngineDriver()
    driver.refusals["c"] = AccessRefusedError(ReasonCode.PACKET_TOO_LARGE, "no")
    client = driver.open(V3_1_1)
    client.send(connect_packet("c", V3_1_1))
    assert client.take() == []
    assert client.close_reason is ReasonCode.PACKET_TOO_LARGE


def test_a_protocol_that_we_do_not_speak_is_refused() -> None:
    client = EngineDriver().open(V3_1_1)
    client.send_bytes(b"\x10\x0d\x00\x04MQTT\x03\x02\x00\x00\x00\x01c")
    assert client.take() == [ConnAck(False, ReasonCode.UNSUPPORTED_PROTOCOL_VERSION)]
    assert client.is_closed


def test_enhanced_authentication_is_refused_as_unknown() -> None:
    client = EngineDriver().open()
    client.send(connect_packet(properties=Properties(authentication_method="SCRAM")))
    assert client.take() == [ConnAck(False, ReasonCode.BAD_AUTHENTICATION_METHOD)]


def test_a_will_that_may_not_be_published_keeps_the_client_out() -> None:
    driver = EngineDriver()
    driver.permissions["c"] = FakePermissions(no_publish=(b"t",), no_retain=(b"r",))
    for refused in (will(b"t"), will(b"r", retain=True)):
        client = driver.open()
        client.send(connect_packet(will=refused))
        assert client.take() == [ConnAck(False, ReasonCode.NOT_AUTHORIZED)]
    assert driver.connect(will=will(b"r")).connack.reason_code is ReasonCode.SUCCESS


def test_a_will_on_a_topic_beyond_our_limits_keeps_the_client_out() -> None:
    client = EngineDriver(topic_levels_maximum=2).open()
    client.send(connect_packet(will=will(b"a/b/c")))
    assert client.take() == [ConnAck(False, ReasonCode.TOPIC_NAME_INVALID)]


def test_a_refused_client_does_not_disturb_the_one_whose_name_it_used() -> None:
    driver = EngineDriver()
    first = driver.connect("c")
    driver.permissions["c"] = FakePermissions(no_publish=(b"t",))
    driver.open().send(connect_packet("c", will=will(b"t")))
    assert not first.is_closed


def test_sessions_are_limited_and_a_returning_client_still_has_its_own() -> None:
    driver = EngineDriver(sessions_maximum=1)
    driver.connect("a", expiry=100).lose()
    client = driver.open()
    client.send(connect_packet("b"))
    assert client.take() == [ConnAck(False, ReasonCode.QUOTA_EXCEEDED)]
    assert driver.connect("a", is_clean_start=False, expiry=0).connack.is_session_present
    driver.connect("a").disconnect()
    driver.connect("b")


def test_a_session_of_a_certificate_is_not_for_a_client_without_one() -> None:
    driver = EngineDriver()
    owner = driver.connect("c", certificate=certificate_of("c"), expiry=100)
    stranger = driver.open()
    stranger.send(connect_packet("c", is_clean_start=False))
    assert stranger.take() == [ConnAck(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)]
    assert not owner.is_closed
    owner.lose()
    cleaner = driver.open()
    cleaner.send(connect_packet("c", is_clean_start=True))
    assert cleaner.take() == [ConnAck(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)]


def test_a_session_of_a_certificate_is_not_for_another_certificate_even_after_a_restart() -> None:
    driver = EngineDriver()
    driver.connect("c", certificate=certificate_of("c"), expiry=100)
    driver.take_down()
    other = driver.open(certificate=certificate_of("d"))
    other.send(connect_packet("c", is_clean_start=False))
    assert other.take() == [ConnAck(False, ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)]
    owner = driver.connect("c", certificate=certificate_of("c"), is_clean_start=False)
    assert owner.connack.is_session_present


def test_a_session_without_identity_gives_way_to_a_client_with_one() -> None:
    driver = EngineDriver()
    anonymous = driver.connect("c", expiry=100)
    anonymous.subscribe(b"t", qos=1)
    owner = driver.connect("c", certificate=certificate_of("c"), is_clean_start=False)
    assert anonymous.close_reason is ReasonCode.SESSION_TAKEN_OVER
    assert not owner.connack.is_session_present
    driver.connect("p").publish(b"t", b"m", qos=1)
    assert owner.take() == []


def test_rights_that_went_away_take_subscriptions_and_waiting_messages_with_them() -> None:
    driver = EngineDriver()
    first = driver.connect("c", certificate=certificate_of("c"), expiry=100)
    first.subscribe(b"gone", b"kept/#", qos=1)
    first.lose()
    driver.take_down()
    publisher = driver.connect("p")
    for topic in (b"gone", b"kept/secret", b"kept/open"):
        publisher.publish(topic, topic, qos=1)
    driver.permissions["c"] = FakePermissions(no_subscribe=(b"gone",), no_receive=(b"gone", b"kept/secret"))
    second = driver.connect("c", certificate=certificate_of("c"), is_clean_start=False, expiry=100)
    assert second.payloads() == [b"kept/open"]
    for topic in (b"gone", b"kept/secret", b"kept/open"):
        publisher.publish(topic, b"2" + topic, qos=1)
    assert second.payloads() == [b"2kept/open"]


def test_a_restored_session_is_asked_for_its_rights_before_it_receives() -> None:
    driver = EngineDriver()
    driver.connect("c", V3_1_1, is_clean_start=False).subscribe(b"#")
    driver.take_down()
    publisher = driver.connect("p")
    publisher.publish(b"secret", b"nobody is there")
    driver.permissions["c"] = FakePermissions(no_receive=(b"secret",))
    client = driver.connect("c", V3_1_1, is_clean_start=False)
    publisher.publish(b"secret", b"still not")
    assert client.take() == []


def test_nothing_is_read_while_the_authenticator_thinks() -> None:
    driver = EngineDriver()
    driver.is_holding_answers = True
    client = driver.open()
    client.send(connect_packet("c"), PingReq())
    assert client.is_paused
    assert client.take() == []
    driver.answer_all()
    assert [type(packet) for packet in client.take()] == [ConnAck, PingResp]
    assert not client.is_paused


def test_the_authenticators_answer_for_a_vanished_client_is_forgotten() -> None:
    driver = EngineDriver()
    driver.is_holding_answers = True
    client = driver.open()
    client.send(connect_packet("c", will=will()))
    client.lose()
    driver.answer_all()
    assert driver.engine.state.session_count == 0
    assert driver.engine.stats.wills_published == 0


def test_two_clients_that_wait_for_the_same_session_get_it_one_after_the_other() -> None:
    driver = EngineDriver()
    driver.is_holding_answers = True
    first, second = driver.open(), driver.open()
    first.send(connect_packet("c"))
    second.send(connect_packet("c"))
    driver.answer_all()
    assert first.close_reason is ReasonCode.SESSION_TAKEN_OVER
    assert not second.is_closed
    assert driver.engine.state.session_count == 1


@_VERSIONS
def test_a_second_connect_is_a_protocol_error(version: int) -> None:
    client = EngineDriver().connect("c", version)
    client.send(connect_packet("c", version))
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR
    assert client.take() == ([Disconnect(ReasonCode.PROTOCOL_ERROR)] if version == V5 else [])


def test_the_first_packet_must_be_connect() -> None:
    driver = EngineDriver()
    client = driver.open()
    client.send(Publish(TopicName(b"t"), b"m"), connect_packet())
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR
    assert client.take() == []


def test_auth_is_a_protocol_error_where_no_method_was_agreed() -> None:
    driver = EngineDriver()
    client = driver.connect()
    client.send(Auth(ReasonCode.RE_AUTHENTICATE, Properties(authentication_method="x")))
    assert client.close_reason is ReasonCode.PROTOCOL_ERROR


def test_a_client_may_leave_before_it_was_answered() -> None:
    driver = EngineDriver()
    driver.is_holding_answers = True
    client = driver.open()
    client.send(connect_packet(), Disconnect())
    driver.answer_all()
    assert client.close_reason is ReasonCode.SUCCESS
    assert driver.engine.state.session_count == 0
