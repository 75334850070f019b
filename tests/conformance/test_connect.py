import pytest

from literal_bytes import (
    ANNOUNCED,
    CONNACK,
    CONNACK_PRESENT,
    V3_1_1,
    V5,
    LiteralClients,
    connect_packet,
)


@pytest.mark.clause("v5", "MQTT-3.1.4-5")
@pytest.mark.clause("v5", "MQTT-3.2.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-4")
async def test_connect_is_answered_by_connack(clients: LiteralClients, version: int) -> None:
    client = await clients.open(version)
    client.send(connect_packet(version))
    await client.expect(CONNACK)
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.2.0-1")
@pytest.mark.clause("v5", "MQTT-3.2.0-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.0-1")
async def test_connack_is_the_first_packet_though_others_were_sent_before(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.open(version)
    client.send(connect_packet(version), "C0 00", '82 .. 0001 [00] "a" 00', "30 .. \"a\" [00] 'hi'", "C0 00")
    await client.expect(CONNACK, "D0 00", "90 .. 0001 [00] 00", "30 .. \"a\" [00] 'hi'", "D0 00")


@pytest.mark.clause("v5", "MQTT-3.1.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "packet",
    ["C0 00", '30 .. "a" [00]', "E0 00", '82 .. 0001 [00] "a" 00', "20 .. 00 00 [00]", "40 02 0001", "00 00"],
)
async def test_first_packet_that_is_no_connect_ends_the_connection_silently(
    clients: LiteralClients, version: int, packet: str
) -> None:
    client = await clients.open(version)
    client.send(packet, connect_packet(version))
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.1.0-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.0-2")
async def test_second_connect_on_a_connection_ends_it(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send(connect_packet(version))
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.2.0-2")
async def test_second_connect_of_another_level_is_not_answered_by_a_second_connack(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send('10 .. "MQTT" 06 02 0000 [00] "c"')
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.1.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-1")
@pytest.mark.parametrize("name", ['"mqtt"', '"MQT"', '"MQTTT"', '""', "0005 'MQTT'"])
async def test_other_protocol_name_ends_the_connection(
    clients: LiteralClients, version: int, name: str
) -> None:
    client = await clients.open(version)
    client.send(f'10 .. {name} {version:02X} 02 0000 [00] "c"')
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.1.2-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-5")
@pytest.mark.parametrize("head", ['"MQTT" 03', '"MQTT" 06', '"MQTT" 00', '"MQTT" 84', '"MQIsdp" 03'])
async def test_other_protocol_level_is_refused_in_words_of_3_1_1(clients: LiteralClients, head: str) -> None:
    client = await clients.open(V3_1_1)
    client.send(f'10 .. {head} 02 0000 "c"')
    await client.expect_closed("20 02 00 01")


_MALFORMED = {
    "reserved-flag": ("03", "0000", '"c"'),
    "will-qos-3": ("1E", "0000", '"c" [00] "w" "m"'),
    "will-qos-without-will": ("0A", "0000", '"c"'),
    "will-retain-without-will": ("22", "0000", '"c"'),
    "will-without-topic": ("06", "0000", '"c" [00]'),
    "will-without-payload": ("06", "0000", '"c" [00] "w"'),
    "will-topic-with-wildcard": ("06", "0000", '"c" [00] "w/+" "m"'),
    "user-name-missing": ("82", "0000", '"c"'),
    "user-name-too-many": ("02", "0000", '"c" "u"'),
    "password-missing": ("C2", "0000", '"c" "u"'),
    "client-id-missing": ("02", "0000", ""),
    "client-id-cut": ("02", "0000", "0002 'c'"),
    "client-id-not-utf-8": ("02", "0000", "0001 FF"),
    "client-id-with-surrogate": ("02", "0000", "0003 EDA080"),
    "client-id-with-null": ("02", "0000", "0001 00"),
    "user-name-not-utf-8": ("82", "0000", '"c" 0001 FF'),
    "will-topic-not-utf-8": ("06", "0000", '"c" [00] 0001 FF "m"'),
}


@pytest.mark.clause("v5", "MQTT-3.1.4-1")
@pytest.mark.clause("v5", "MQTT-3.1.2-3")
@pytest.mark.clause("v5", "MQTT-3.1.2-9")
@pytest.mark.clause("v5", "MQTT-3.1.2-11")
@pytest.mark.clause("v5", "MQTT-3.1.2-12")
@pytest.mark.clause("v5", "MQTT-3.1.2-13")
@pytest.mark.clause("v5", "MQTT-3.1.2-16")
@pytest.mark.clause("v5", "MQTT-3.1.2-17")
@pytest.mark.clause("v5", "MQTT-3.1.2-18")
@pytest.mark.clause("v5", "MQTT-3.1.2-19")
@pytest.mark.clause("v5", "MQTT-3.1.3-3")
@pytest.mark.clause("v5", "MQTT-3.1.3-4")
@pytest.mark.clause("v5", "MQTT-3.1.3-11")
@pytest.mark.clause("v5", "MQTT-3.1.3-12")
@pytest.mark.clause("v5", "MQTT-1.5.4-1")
@pytest.mark.clause("v5", "MQTT-1.5.4-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-9")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-13")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-14")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-15")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-18")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-19")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-21")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-10")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-11")
@pytest.mark.clause("v3.1.1", "MQTT-1.5.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-1.5.3-2")
@pytest.mark.parametrize(("flags", "keep_alive", "payload"), _MALFORMED.values(), ids=_MALFORMED)
async def test_malformed_connect_ends_the_connection_without_connack(
    clients: LiteralClients, version: int, flags: str, keep_alive: str, payload: str
) -> None:
    client = await clients.open(version)
    client.send(f'10 .. "MQTT" {version:02X} {flags} {keep_alive} [00] {payload}')
    await client.expect_closed()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-22")
async def test_password_without_user_name_is_malformed_in_3_1_1(clients: LiteralClients) -> None:
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, flags="42", payload='"p"'))
    await client.expect_closed()


async def test_password_without_user_name_is_allowed_in_5(clients: LiteralClients) -> None:
    await clients.connect(V5, flags="42", payload='"p"')


@pytest.mark.clause("v5", "MQTT-3.1.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-1")
async def test_connect_with_every_field_is_read(clients: LiteralClients, version: int) -> None:
    await clients.connect(version, flags="F6", keep_alive="003C", payload='[00] "w" "m" "user" "pass"')


@pytest.mark.clause("v5", "MQTT-3.1.3-5")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-5")
@pytest.mark.parametrize(
    "client_id", ["0", "0123456789abcdefghijkLM", "NOPQRSTUVWXYZnopqrstuvw", "l" * 300, "ä/#"]
)
async def test_client_identifiers_of_any_length_and_letters_are_allowed(
    clients: LiteralClients, version: int, client_id: str
) -> None:
    await clients.connect(version, client_id)


@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-6")
async def test_clients_without_identifier_are_different_clients_in_3_1_1(clients: LiteralClients) -> None:
    first = await clients.connect(V3_1_1, "")
    second = await clients.connect(V3_1_1, "")
    await first.expect_nothing()
    await second.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-7")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-9")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-4")
async def test_no_identifier_without_clean_session_is_refused(clients: LiteralClients) -> None:
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, "", flags="00"))
    await client.expect_closed("20 02 00 02")


@pytest.mark.clause("v5", "MQTT-3.1.3-6")
@pytest.mark.clause("v5", "MQTT-3.1.3-7")
@pytest.mark.clause("v5", "MQTT-3.2.2-16")
@pytest.mark.parametrize("flags", ["00", "02"])
async def test_assigned_client_identifier_is_told_and_can_be_used(
    clients: LiteralClients, flags: str
) -> None:
    assigned = []
    for _ in range(2):
        client = await clients.open(V5)
        client.send(connect_packet(V5, "", flags, properties="11 0000003C"))
        # CONNACK, no Session Present, success, 43 bytes of properties: the identifier has 29 letters.
        await client.expect("20 2E 00 00 2B 12 001D 'auto-'")
        assigned.append((await client.receive(24)).decode())
        await client.expect(ANNOUNCED)
    assert assigned[0] != assigned[1]
    await client.close()
    await clients.connect(V5, f"auto-{assigned[1]}", flags="00", connack=CONNACK_PRESENT)


@pytest.mark.clause("v5", "MQTT-3.1.4-6")
@pytest.mark.clause("v5", "MQTT-3.2.2-6")
@pytest.mark.clause("v5", "MQTT-3.2.2-7")
@pytest.mark.clause("v5", "MQTT-4.13.2-1")
@pytest.mark.clause("v5", "MQTT-4.12.0-1")
async def test_nothing_is_processed_after_a_refused_connect(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "a")
    client = await clients.open(V5)
    # Enhanced authentication by a method that nobody knows.
    client.send(connect_packet(V5, properties='15 "SCRAM"'), "30 .. \"a\" 00 'hi'")
    await client.expect_closed("20 03 00 8C 00")
    await watcher.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-5")
async def test_nothing_is_processed_after_a_refused_connect_of_3_1_1(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V3_1_1, "a")
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, "", flags="00"), "30 .. \"a\" 'hi'")
    await client.expect_closed("20 02 00 02")
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.2.2-7")
async def test_will_that_is_not_allowed_is_refused(clients: LiteralClients, version: int) -> None:
    client = await clients.open(version)
    client.send(connect_packet(version, flags="06", payload='[00] "denied/w" "m"'))
    await client.expect_closed("20 03 00 87 00" if version == V5 else "20 02 00 05")


@pytest.mark.clause("v5", "MQTT-4.12.0-7")
async def test_auth_without_an_authentication_method_is_a_protocol_error(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send("F0 00")
    await client.expect_closed("E0 01 82")


@pytest.mark.parametrize("limits", [{"connect_timeout_s": 0.1}])
async def test_who_never_sends_connect_is_closed(clients: LiteralClients, version: int) -> None:
    client = await clients.open(version)
    client.send("10")
    await client.expect_closed()


@pytest.mark.parametrize("limits", [{"connect_packet_size_maximum": 100}])
async def test_connect_above_the_limit_for_strangers_is_closed_before_it_is_whole(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.open(version)
    client.send("10 63")
    await client.expect_closed()


@pytest.mark.parametrize("limits", [{"connections_maximum": 2}])
async def test_connection_above_the_maximum_is_closed_at_once(clients: LiteralClients, version: int) -> None:
    await clients.connect(version, "1")
    second = await clients.connect(version, "2")
    third = await clients.open(version)
    await third.expect_closed()
    await second.expect_nothing()


@pytest.mark.parametrize("limits", [{"sessions_maximum": 1}])
async def test_session_above_the_maximum_is_refused(clients: LiteralClients, version: int) -> None:
    first = await clients.connect(version, "1")
    second = await clients.open(version)
    second.send(connect_packet(version, "2"))
    await second.expect_closed("20 03 00 97 00" if version == V5 else "20 02 00 03")
    await first.expect_nothing()
