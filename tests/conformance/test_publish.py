import pytest

from literal_bytes import V3_1_1, V5, LiteralClients


@pytest.mark.clause("v5", "MQTT-4.3.1-1")
@pytest.mark.clause("v5", "MQTT-2.2.1-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-5")
async def test_qos_0_message_reaches_subscribers_of_both_versions(
    clients: LiteralClients, version: int
) -> None:
    old = await clients.subscribed(V3_1_1, "a/b", client_id="old")
    new = await clients.subscribed(V5, "a/b", client_id="new")
    publisher = await clients.connect(version, "publisher")
    publisher.send("30 .. \"a/b\" [00] 'hello'")
    await old.expect("30 .. \"a/b\" 'hello'")
    await new.expect("30 .. \"a/b\" 00 'hello'")
    await publisher.expect_nothing()


async def test_message_without_payload_is_delivered(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "a")
    client.send('30 .. "a" [00]')
    await client.expect('30 .. "a" [00]')


@pytest.mark.parametrize("size", [121, 122, 123, 124, 16_377, 16_378, 16_379, 16_380, 100_000, 2_097_200])
async def test_message_of_any_length_is_delivered_whole(
    clients: LiteralClients, version: int, size: int
) -> None:
    client = await clients.subscribed(version, "a")
    client.send(f"30 .. \"a\" [00] '{'x' * size}'")
    await client.expect(f"30 .. \"a\" [00] '{'x' * size}'")


@pytest.mark.clause("v5", "MQTT-3.3.4-1")
@pytest.mark.clause("v5", "MQTT-2.2.1-5")
@pytest.mark.clause("v5", "MQTT-4.3.2-4")
@pytest.mark.clause("v5", "MQTT-4.3.3-8")
@pytest.mark.clause("v5", "MQTT-4.3.3-11")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-6")
async def test_each_qos_has_its_answer(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('30 .. "a" [00]', '32 .. "a" 1234 [00]', '34 .. "a" FFFF [00]')
    await client.expect("40 .. 1234 [10]", "50 .. FFFF [10]")
    client.send("62 02 FFFF")
    await client.expect("70 02 FFFF")
    await client.expect_nothing()


_QOS_3 = pytest.mark.parametrize("first_byte", ["36", "37", "3E", "3F"])


@pytest.mark.clause("v5", "MQTT-3.3.1-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-4")
@_QOS_3
async def test_qos_3_is_malformed(clients: LiteralClients, version: int, first_byte: str) -> None:
    client = await clients.connect(version)
    client.send(f'{first_byte} .. "a" 0001 [00]')
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.3.1-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-2")
async def test_dup_at_qos_0_is_malformed(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('38 .. "a" [00]')
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.3.1-3")
@pytest.mark.clause("v5", "MQTT-4.3.2-2")
@pytest.mark.clause("v5", "MQTT-4.3.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-3")
async def test_dup_of_the_publisher_does_not_travel(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a", qos=2)
    publisher = await clients.connect(version)
    publisher.send('3A .. "a" 0007 [00]', '3C .. "a" 0008 [00]')
    await publisher.expect("40 02 0007", "50 02 0008")
    await subscriber.expect('32 .. "a" 0001 [00]', '34 .. "a" 0002 [00]')


@pytest.mark.clause("v5", "MQTT-2.2.1-3")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-1")
@pytest.mark.parametrize("first_byte", ["32", "34"])
async def test_packet_identifier_0_is_a_protocol_error(
    clients: LiteralClients, version: int, first_byte: str
) -> None:
    client = await clients.connect(version)
    client.send(f'{first_byte} .. "a" 0000 [00]')
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.3.2-2")
@pytest.mark.clause("v5", "MQTT-4.7.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.2-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.1-1")
@pytest.mark.parametrize("topic", ["a/+", "#", "a+", "a/#/b"])
@pytest.mark.parametrize("packet", ['30 .. "{}" [00]', '32 .. "{}" 0001 [00]', '31 .. "{}" [00]'])
async def test_topic_name_with_wildcards_is_refused(
    clients: LiteralClients, version: int, topic: str, packet: str
) -> None:
    client = await clients.connect(version)
    client.send(packet.format(topic))
    await client.expect_closed("[E0 01 90]")


@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-1")
async def test_empty_topic_name_is_refused_in_3_1_1(clients: LiteralClients) -> None:
    client = await clients.connect(V3_1_1)
    client.send('30 .. ""')
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-4.7.3-1")
async def test_empty_topic_name_without_alias_is_a_protocol_error(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('30 .. "" 00')
    await client.expect_closed("E0 01 82")


@pytest.mark.clause("v5", "MQTT-1.5.4-1")
@pytest.mark.clause("v5", "MQTT-1.5.4-2")
@pytest.mark.clause("v5", "MQTT-4.7.3-2")
@pytest.mark.clause("v5", "MQTT-3.3.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-1.5.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-1.5.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.2-1")
@pytest.mark.parametrize(
    "topic", ["0001 FF", "0003 EDA080", "0002 C080", "0001 00", "0003 'a' 00 'b'", "0009 'a'"]
)
async def test_topic_name_that_is_no_string_is_malformed(
    clients: LiteralClients, version: int, topic: str
) -> None:
    client = await clients.connect(version)
    client.send(f"30 .. {topic} [00]")
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v3.1.1", "MQTT-3.3.5-2")
@pytest.mark.parametrize("first_byte", ["30", "32", "34"])
async def test_publish_that_is_not_allowed_ends_a_3_1_1_connection(
    clients: LiteralClients, first_byte: str
) -> None:
    client = await clients.connect(V3_1_1)
    client.send(f'{first_byte} .. "denied/a" 0001')
    await client.expect_closed()


async def test_publish_that_is_not_allowed_is_answered_where_5_has_an_answer(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "#")
    client = await clients.connect(V5)
    client.send('32 .. "denied/a" 0001 00', '34 .. "denied/a" 0002 00', '33 .. "denied/a" 0003 00')
    await client.expect("40 03 0001 87", "50 03 0002 87", "40 03 0003 87")
    client.send('30 .. "denied/a" 00')
    await client.expect_closed("E0 01 87")
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.3.3-9")
async def test_packet_identifier_of_a_refused_qos_2_message_is_free(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V5, "a")
    client = await clients.connect(V5)
    client.send('34 .. "denied/a" 0002 00', '34 .. "a" 0002 00')
    await client.expect("50 03 0002 87", "50 02 0002")
    await subscriber.expect('30 .. "a" 00')


@pytest.mark.clause("v5", "MQTT-3.3.4-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.5-1")
async def test_overlapping_subscriptions_give_one_copy_at_the_highest_qos(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a/#" 00 "a/+" 02 "a/b" 01')
    await client.expect("90 .. 0001 [00] 00 02 01")
    publisher = await clients.connect(version, "publisher")
    publisher.send('34 .. "a/b" 0001 [00]')
    await client.expect('34 .. "a/b" 0001 [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.6.0-5")
@pytest.mark.clause("v5", "MQTT-4.6.0-6")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-5")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_of_a_topic_keep_their_order(clients: LiteralClients, version: int, qos: int) -> None:
    subscriber = await clients.subscribed(version, "a", qos)
    publisher = await clients.connect(version)
    packet_ids = [f"{number:04X}" if qos else "" for number in range(1, 201)]
    messages = [
        f"3{qos * 2} .. \"a\" {packet_id} [00] 'message {number}'"
        for number, packet_id in enumerate(packet_ids)
    ]
    publisher.send(*messages)
    await subscriber.expect(*messages)
