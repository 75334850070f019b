import pytest

from literal_bytes import ANNOUNCED, CONNACK_PRESENT, V3_1_1, V5, LiteralClients, connect_packet

# Only version 5 has Properties.


@pytest.mark.clause("v5", "MQTT-3.3.2-4")
@pytest.mark.clause("v5", "MQTT-3.3.2-15")
@pytest.mark.clause("v5", "MQTT-3.3.2-16")
@pytest.mark.clause("v5", "MQTT-3.3.2-17")
@pytest.mark.clause("v5", "MQTT-3.3.2-18")
@pytest.mark.clause("v5", "MQTT-3.3.2-20")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_properties_of_a_message_travel_unaltered(clients: LiteralClients, qos: int) -> None:
    subscriber = await clients.subscribed(V5, "a", qos)
    publisher = await clients.connect(V5)
    properties = '01 01 03 "text" 08 "re/ply" 09 0003 00FF01 26 "b" "1" 26 "a" "2" 26 "b" "1" 26 "" ""'
    message = f"3{qos * 2} .. \"a\" {'0001' if qos else ''} {{{properties}}} 'hi'"
    publisher.send(message)
    await subscriber.expect(message)


@pytest.mark.clause("v5", "MQTT-2.2.2-1")
async def test_properties_do_not_reach_3_1_1(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V3_1_1, "a", 1)
    publisher = await clients.connect(V5)
    publisher.send('32 .. "a" 0001 {01 01 03 "text" 02 0000000A} \'hi\'')
    await subscriber.expect("32 .. \"a\" 0001 'hi'")


@pytest.mark.clause("v5", "MQTT-3.3.2-6")
@pytest.mark.parametrize("interval", ["0000003C", "00000001", "00000000", "FFFFFFFF"])
async def test_message_expiry_interval_travels(clients: LiteralClients, interval: str) -> None:
    subscriber = await clients.subscribed(V5, "a")
    publisher = await clients.connect(V5)
    publisher.send(f'30 .. "a" {{02 {interval}}}')
    await subscriber.expect(f'30 .. "a" {{02 {interval}}}')


_MALFORMED = {
    "unknown": "{7F 00}",
    "of-another-packet": "{11 0000000A}",
    "cut": "{02 0000}",
    "longer-than-the-packet": "05 01 01",
    "length-longer-than-needed": "8000",
    "length-of-five-bytes": "8080808000",
    "string-not-utf-8": "{03 0001 FF}",
    "response-topic-not-utf-8": "{08 0001 FF}",
    "key-not-utf-8": "{26 0001 FF 0001 'v'}",
    "string-with-null": "{03 0001 00}",
    "value-not-utf-8": "{26 0001 'k' 0001 FF}",
}
_PROTOCOL_ERRORS = {
    "twice": "{01 00 01 00}",
    "format-indicator-2": "{01 02}",
    "response-topic-with-wildcard": '{08 "a/+"}',
    "response-topic-empty": '{08 ""}',
    "subscription-identifier-of-a-client": "{0B 01}",
}


@pytest.mark.clause("v5", "MQTT-1.5.5-1")
@pytest.mark.clause("v5", "MQTT-1.5.7-1")
@pytest.mark.clause("v5", "MQTT-3.3.2-13")
@pytest.mark.clause("v5", "MQTT-3.3.2-19")
@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", _MALFORMED.values(), ids=_MALFORMED)
async def test_malformed_properties_end_the_connection(clients: LiteralClients, properties: str) -> None:
    client = await clients.connect(V5)
    client.send(f'30 .. "a" {properties}')
    await client.expect_closed("E0 01 81")


@pytest.mark.clause("v5", "MQTT-3.3.2-14")
@pytest.mark.clause("v5", "MQTT-3.3.4-6")
@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", _PROTOCOL_ERRORS.values(), ids=_PROTOCOL_ERRORS)
async def test_illegal_properties_are_a_protocol_error(clients: LiteralClients, properties: str) -> None:
    client = await clients.connect(V5)
    client.send(f'30 .. "a" {properties}')
    await client.expect_closed("E0 01 82")


_BAD_CONNECT_PROPERTIES = {
    "receive-maximum-0": "21 0000",
    "maximum-packet-size-0": "27 00000000",
    "request-problem-information-2": "17 02",
    "request-response-information-2": "19 02",
    "twice": "21 0001 21 0001",
    "topic-alias": "23 0001",
    "authentication-data-alone": '16 "x"',
}


@pytest.mark.clause("v5", "MQTT-3.1.4-1")
@pytest.mark.parametrize("properties", _BAD_CONNECT_PROPERTIES.values(), ids=_BAD_CONNECT_PROPERTIES)
async def test_illegal_connect_properties_end_the_connection(
    clients: LiteralClients, properties: str
) -> None:
    client = await clients.open(V5)
    client.send(connect_packet(V5, properties=properties))
    await client.expect_closed()


async def test_every_connect_property_is_read(clients: LiteralClients) -> None:
    properties = '11 00000000 17 00 19 01 21 000A 22 000A 26 "k" "v" 26 "k" "v" 27 00010000'
    client = await clients.connect(V5, properties=properties)
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-29")
async def test_nobody_is_sent_reason_strings_who_asked_for_none(clients: LiteralClients) -> None:
    client = await clients.connect(V5, properties="17 00")
    client.send('32 .. "denied/a" 0001 00', '82 .. 0002 00 "denied/a" 00')
    await client.expect("40 03 0001 87", "90 04 0002 00 87")


# Topic Aliases.


@pytest.mark.clause("v5", "MQTT-3.3.2-12")
@pytest.mark.clause("v5", "MQTT-3.1.2-27")
async def test_every_announced_alias_stands_for_its_topic(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V5, "#")
    publisher = await clients.connect(V5)
    aliases = range(1, 33)
    publisher.send(*(f'30 .. "topic {alias}" {{23 {alias:04X}}}' for alias in aliases))
    publisher.send(*(f'30 .. "" {{23 {alias:04X}}}' for alias in reversed(aliases)))
    publisher.send('30 .. "new" {23 0001}', '32 .. "" 0001 {23 0001 03 "text"}')
    await publisher.expect("40 02 0001")
    await subscriber.expect(*(f'30 .. "topic {alias}" 00' for alias in aliases))
    await subscriber.expect(*(f'30 .. "topic {alias}" 00' for alias in reversed(aliases)))
    await subscriber.expect('30 .. "new" 00', '30 .. "new" {03 "text"}')


@pytest.mark.clause("v5", "MQTT-3.3.2-8")
@pytest.mark.clause("v5", "MQTT-3.2.2-17")
@pytest.mark.clause("v5", "MQTT-3.3.2-9")
@pytest.mark.parametrize("alias", ["0000", "0021", "FFFF"])
async def test_alias_that_was_not_announced_is_invalid(clients: LiteralClients, alias: str) -> None:
    client = await clients.connect(V5)
    client.send(f'30 .. "a" {{23 {alias}}}')
    await client.expect_closed("E0 01 94")


@pytest.mark.clause("v5", "MQTT-3.2.2-18")
@pytest.mark.parametrize("limits", [{"topic_alias_maximum": 0}])
async def test_no_alias_is_allowed_where_none_is_announced(clients: LiteralClients) -> None:
    client = await clients.connect(V5, connack="20 .. 00 00 {21 0400 27 01000000}")
    client.send('30 .. "a" {23 0001}')
    await client.expect_closed("E0 01 94")


@pytest.mark.clause("v5", "MQTT-3.3.2-7")
async def test_aliases_end_with_the_connection(clients: LiteralClients) -> None:
    lasting = {"flags": "00", "properties": "11 FFFFFFFF"}
    client = await clients.connect(V5, **lasting)
    client.send('30 .. "a" {23 0001}', "E0 00")
    await client.expect_closed()
    client = await clients.connect(V5, **lasting, connack=CONNACK_PRESENT)
    client.send('30 .. "" {23 0001}')
    await client.expect_closed("E0 01 82")


@pytest.mark.clause("v5", "MQTT-3.2.2-22")
async def test_announcements_follow_the_limits(clients: LiteralClients) -> None:
    assert ANNOUNCED == "21 0400 22 0020 27 01000000"
    client = await clients.open(V5)
    client.send(connect_packet(V5))
    await client.expect("20 0E 00 00 0B 21 04 00 22 00 20 27 01 00 00 00")
