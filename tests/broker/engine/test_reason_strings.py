"""Reason Strings: only where they are switched on, only in v5, never beyond the Maximum Packet Size."""

import pytest

from broker.access.ports import AccessRefusedError
from broker.protocol.packets import V3_1_1, V5, ConnAck, Disconnect
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver
from fakes_client import connect_packet

_SECOND_CONNECT = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00"


def _refused(version: int, *, are_strings_on: bool, maximum_packet_size: int | None = None) -> ConnAck:
    driver = EngineDriver()
    driver.engine.state.reason_strings = are_strings_on
    driver.refusals["c"] = AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "secret detail")
    client = driver.open(version)
    client.send(connect_packet("c", version, properties=Properties(maximum_packet_size=maximum_packet_size)))
    return client.take_one(ConnAck)


def test_a_refused_client_is_told_in_words() -> None:
    assert _refused(V5, are_strings_on=True).properties == Properties(reason_string="Not authorized")


@pytest.mark.parametrize(("version", "are_strings_on"), [(V5, False), (V3_1_1, True)])
def test_otherwise_the_code_alone_is_sent(version: int, are_strings_on: bool) -> None:
    assert _refused(version, are_strings_on=are_strings_on).properties == NO_PROPERTIES


def test_a_string_that_does_not_fit_is_left_out() -> None:
    assert _refused(V5, are_strings_on=True, maximum_packet_size=10).properties == NO_PROPERTIES


def test_a_server_disconnect_says_why() -> None:
    driver = EngineDriver()
    driver.engine.state.reason_strings = True
    client = driver.connect("c", V5)
    client.send_bytes(_SECOND_CONNECT)
    assert client.take() == [
        Disconnect(ReasonCode.PROTOCOL_ERROR, Properties(reason_string="Protocol error"))
    ]
