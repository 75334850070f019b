import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, V5, LiteralClient, LiteralClients


@pytest.mark.clause("v5", "MQTT-3.8.4-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-6")
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_message_is_delivered_at_the_lower_of_both_qos(
    clients: LiteralClients, version: int, published: int, granted: int
) -> None:
    subscriber = await clients.subscribed(version, "a", granted)
    publisher = await clients.connect(version)
    publisher.send(f'3{published * 2} .. "a" {"0005" if published else ""} [00]')
    qos = min(published, granted)
    await subscriber.expect(f'3{qos * 2} .. "a" {"0001" if qos else ""} [00]')


@pytest.mark.clause("v5", "MQTT-4.3.2-1")
@pytest.mark.clause("v5", "MQTT-2.2.1-4")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-4")
async def test_packet_identifiers_are_not_used_twice_at_a_time(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a", 2)
    publisher = await clients.connect(version)
    publisher.send('32 .. "a" 0001 [00]', '34 .. "a" 0002 [00]', '32 .. "a" 0003 [00]')
    await subscriber.expect('32 .. "a" 0001 [00]', '34 .. "a" 0002 [00]', '32 .. "a" 0003 [00]')
    subscriber.send("40 02 0001")
    await subscriber.expect_nothing()
    publisher.send('32 .. "a" 0004 [00]')
    await subscriber.expect('32 .. "a" 0004 [00]')


@pytest.mark.clause("v5", "MQTT-4.3.2-5")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.2-2")
async def test_acknowledged_packet_identifier_is_a_new_message(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a")
    publisher = await clients.connect(version)
    for text in ("one", "two"):
        publisher.send(f"32 .. \"a\" 0001 [00] '{text}'")
        await publisher.expect("40 02 0001")
        await subscriber.expect(f"30 .. \"a\" [00] '{text}'")


@pytest.mark.clause("v5", "MQTT-4.3.3-10")
@pytest.mark.clause("v5", "MQTT-4.3.3-12")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-2")
async def test_qos_2_message_is_delivered_once_until_it_is_released(
    clients: LiteralClients, version: int
) -> None:
    subscriber = await clients.subscribed(version, "a")
    publisher = await clients.connect(version)
    publisher.send('34 .. "a" 0001 [00]', '3C .. "a" 0001 [00]')
    await publisher.expect("50 02 0001", "50 .. 0001")
    publisher.send("62 02 0001", "34 .. \"a\" 0001 [00] 'new'")
    await publisher.expect("70 02 0001", "50 02 0001")
    await subscriber.expect('30 .. "a" [00]', "30 .. \"a\" [00] 'new'")
    await subscriber.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.3.3-10")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-2")
async def test_qos_2_message_is_delivered_once_though_its_publisher_comes_back(
    clients: LiteralClients, version: int
) -> None:
    subscriber = await clients.subscribed(version, "a")
    publisher = await clients.connect(version, flags="00", properties="11 FFFFFFFF")
    publisher.send('34 .. "a" 0001 [00]')
    await publisher.expect("50 02 0001")
    publisher.abort()
    publisher = await clients.connect(version, flags="00", properties="11 FFFFFFFF", connack=CONNACK_PRESENT)
    publisher.send('3C .. "a" 0001 [00]', "62 02 0001")
    await publisher.expect("50 02 0001", "70 02 0001")
    await subscriber.expect('30 .. "a" [00]')
    await subscriber.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.3.3-1")
@pytest.mark.clause("v5", "MQTT-4.3.3-4")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-1")
async def test_qos_2_message_is_delivered_by_four_packets(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a", 2)
    publisher = await clients.connect(version)
    publisher.send('34 .. "a" 0009 [00]')
    await subscriber.expect('34 .. "a" 0001 [00]')
    subscriber.send("50 02 0001")
    await subscriber.expect("62 02 0001")
    subscriber.send("70 02 0001")
    await subscriber.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.3.3-4")
@pytest.mark.clause("v5", "MQTT-4.4.0-2")
async def test_refused_qos_2_message_is_over(clients: LiteralClients) -> None:
    session = {"flags": "00", "properties": "11 FFFFFFFF"}
    subscriber = await clients.connect(V5, **session)
    subscriber.send('82 .. 0001 00 "a" 02')
    await subscriber.expect("90 .. 0001 00 02")
    publisher = await clients.connect(V5, "publisher")
    publisher.send('34 .. "a" 0001 00')
    await subscriber.expect('34 .. "a" 0001 00')
    publisher.send('32 .. "a" 0002 00')
    await subscriber.expect('32 .. "a" 0002 00')
    subscriber.send("50 03 0001 97", "40 03 0002 80")
    await subscriber.expect_nothing()
    subscriber.abort()
    subscriber = await clients.connect(V5, **session, connack=CONNACK_PRESENT)
    await subscriber.expect_nothing()


async def test_acknowledgements_of_nothing_are_answered_as_the_specification_says(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send("40 02 0005", "70 02 0005")
    await client.expect_nothing()
    client.send("62 02 0005", "50 02 0005")
    await client.expect("70 .. 0005 [92]", "62 .. 0005 [92]")
    await client.expect_nothing()


@pytest.mark.parametrize(
    ("published", "answer"),
    [("32", "50 02 0001"), ("32", "70 02 0001"), ("34", "40 02 0001"), ("34", "70 02 0001")],
)
async def test_acknowledgement_of_another_qos_is_a_protocol_error(
    clients: LiteralClients, version: int, published: str, answer: str
) -> None:
    subscriber = await clients.subscribed(version, "a", 2)
    publisher = await clients.connect(version)
    publisher.send(f'{published} .. "a" 0001 [00]')
    await subscriber.expect(f'{published} .. "a" 0001 [00]')
    subscriber.send(answer)
    await subscriber.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.6.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.6.1-1")
@pytest.mark.parametrize("packet", ["60 02 0001", "63 02 0001", "41 02 0001", "52 02 0001", "72 02 0001"])
async def test_acknowledgement_with_reserved_flags_is_malformed(
    clients: LiteralClients, version: int, packet: str
) -> None:
    client = await clients.connect(version)
    client.send(packet)
    await client.expect_closed("[E0 01 81]")


@pytest.mark.parametrize("packet", ["40 03 0001 00", "62 04 0001 00 00", "40 01 00"])
async def test_acknowledgement_of_another_length_is_malformed_in_3_1_1(
    clients: LiteralClients, packet: str
) -> None:
    client = await clients.connect(V3_1_1)
    client.send(packet)
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.4.2-1")
@pytest.mark.clause("v5", "MQTT-3.5.2-1")
@pytest.mark.clause("v5", "MQTT-3.6.2-1")
@pytest.mark.clause("v5", "MQTT-3.7.2-1")
@pytest.mark.parametrize("packet", ["40 03 0001 92", "50 03 0001 01", "62 03 0001 10", "70 03 0001 87"])
async def test_acknowledgement_with_a_code_of_another_packet_is_a_protocol_error(
    clients: LiteralClients, packet: str
) -> None:
    client = await clients.connect(V5)
    client.send(packet)
    await client.expect_closed("E0 01 82")


# Order.


@pytest.mark.clause("v5", "MQTT-4.6.0-2")
@pytest.mark.clause("v5", "MQTT-4.6.0-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-3")
async def test_acknowledgements_leave_in_the_order_of_arrival(clients: LiteralClients, version: int) -> None:
    # The Session outlives its connection: its messages must be durable before the publisher hears of them.
    lasting = await clients.connect(version, "lasting", flags="00", properties="11 FFFFFFFF")
    lasting.send('82 .. 0001 [00] "slow" 02')
    await lasting.expect("90 .. 0001 [00] 02")
    await clients.subscribed(version, "fast", 1)
    publisher = await clients.connect(version)
    numbers = range(1, 61)
    topics = ["slow" if number % 3 else "fast" for number in numbers]
    publisher.send(
        *(
            f'{"34" if number % 2 else "32"} .. "{topic}" {number:04X} [00]'
            for number, topic in zip(numbers, topics, strict=True)
        )
    )
    await publisher.expect(*(f"{'50' if number % 2 else '40'} 02 {number:04X}" for number in numbers))


@pytest.mark.clause("v5", "MQTT-4.6.0-4")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-4")
async def test_pubrels_leave_in_the_order_of_the_pubrecs(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a", 2)
    publisher = await clients.connect(version)
    publisher.send(*(f'34 .. "a" {number:04X} [00]' for number in (1, 2, 3)))
    await subscriber.expect(*(f'34 .. "a" {number:04X} [00]' for number in (1, 2, 3)))
    subscriber.send("50 02 0002", "50 02 0003", "50 02 0001")
    await subscriber.expect("62 02 0002", "62 02 0003", "62 02 0001")


# After a reconnect.


async def _lasting_subscriber(
    clients: LiteralClients, version: int, *, is_back: bool = False
) -> LiteralClient:
    client = await clients.connect(
        version,
        "lasting",
        flags="00",
        properties="11 FFFFFFFF",
        connack=CONNACK_PRESENT if is_back else None,
    )
    if not is_back:
        client.send('82 .. 0001 [00] "a" 02')
        await client.expect("90 .. 0001 [00] 02")
    return client


@pytest.mark.clause("v5", "MQTT-4.4.0-1")
@pytest.mark.clause("v5", "MQTT-4.6.0-1")
@pytest.mark.clause("v5", "MQTT-3.3.1-1")
@pytest.mark.clause("v5", "MQTT-4.3.2-3")
@pytest.mark.clause("v5", "MQTT-4.3.3-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.4.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-1")
async def test_unacknowledged_messages_come_again_with_dup_in_their_order(
    clients: LiteralClients, version: int
) -> None:
    subscriber = await _lasting_subscriber(clients, version)
    publisher = await clients.connect(version)
    for number, first_byte in enumerate(("32", "34", "32"), 1):
        publisher.send(f'{first_byte} .. "a" {number:04X} [00]')
        await subscriber.expect(f'{first_byte} .. "a" {number:04X} [00]')
    subscriber.abort()
    subscriber = await _lasting_subscriber(clients, version, is_back=True)
    await subscriber.expect('3A .. "a" 0001 [00]', '3C .. "a" 0002 [00]', '3A .. "a" 0003 [00]')
    await subscriber.expect_nothing()
    subscriber.send("40 02 0003")
    await subscriber.expect_nothing()
    subscriber.abort()
    subscriber = await _lasting_subscriber(clients, version, is_back=True)
    await subscriber.expect('3A .. "a" 0001 [00]', '3C .. "a" 0002 [00]')


@pytest.mark.clause("v5", "MQTT-4.6.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-1")
async def test_messages_of_both_qos_come_again_in_the_order_of_their_first_sending(
    clients: LiteralClients, version: int
) -> None:
    subscriber = await _lasting_subscriber(clients, version)
    publisher = await clients.connect(version)
    publisher.send(*(f'3{2 + number % 2 * 2} .. "a" {number:04X} [00]' for number in range(1, 9)))
    size = 7 + (version == V5)
    sent = [await subscriber.receive(size) for _ in range(8)]
    subscriber.abort()
    subscriber = await _lasting_subscriber(clients, version, is_back=True)
    sent_again = [await subscriber.receive(size) for _ in range(8)]
    assert [frame[1:] for frame in sent_again] == [frame[1:] for frame in sent]
    assert [frame[0] for frame in sent_again] == [frame[0] | 0x08 for frame in sent]


@pytest.mark.clause("v5", "MQTT-4.3.3-5")
@pytest.mark.clause("v5", "MQTT-4.3.3-6")
@pytest.mark.clause("v5", "MQTT-4.4.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.4.0-1")
async def test_received_message_is_not_sent_again_but_its_pubrel(
    clients: LiteralClients, version: int
) -> None:
    subscriber = await _lasting_subscriber(clients, version)
    publisher = await clients.connect(version)
    publisher.send('34 .. "a" 0001 [00]')
    await subscriber.expect('34 .. "a" 0001 [00]')
    subscriber.send("50 02 0001")
    await subscriber.expect("62 02 0001")
    for _ in range(2):
        subscriber.abort()
        subscriber = await _lasting_subscriber(clients, version, is_back=True)
        await subscriber.expect("62 02 0001")
    subscriber.send("50 02 0001")
    await subscriber.expect("62 02 0001")
    subscriber.send("70 02 0001")
    await subscriber.expect_nothing()
    subscriber.abort()
    subscriber = await _lasting_subscriber(clients, version, is_back=True)
    await subscriber.expect_nothing()
