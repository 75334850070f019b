import pytest

from literal_bytes import V3_1_1, LiteralClients


@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-1")
async def test_unsubscribe_with_packet_identifier_0_ends_the_connection(clients: LiteralClients) -> None:
    client = await clients.subscribed(V3_1_1, "a")
    client.send('A2 .. 0000 "a"')
    await client.expect_closed()


@pytest.mark.clause("v3.1.1", "MQTT-4.3.2-2")
async def test_qos_1_message_after_its_puback_is_new_whatever_its_dup_says(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V3_1_1, "a")
    publisher = await clients.connect(V3_1_1)
    for first_byte in ("32", "3A", "3A"):
        publisher.send(f'{first_byte} .. "a" 0001')
        await publisher.expect("40 02 0001")
        await subscriber.expect('30 .. "a"')


@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-2")
async def test_qos_2_message_after_its_pubcomp_is_new_whatever_its_dup_says(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V3_1_1, "a")
    publisher = await clients.connect(V3_1_1)
    for first_byte in ("34", "3C", "3C"):
        publisher.send(f'{first_byte} .. "a" 0001', "62 02 0001")
        await publisher.expect("50 02 0001", "70 02 0001")
        await subscriber.expect('30 .. "a"')
    await subscriber.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-10")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-11")
@pytest.mark.parametrize(
    ("packet", "answer"), [('33 .. "a" 0001', "40 02 0001"), ('35 .. "a" 0001', "50 02 0001")]
)
async def test_empty_retained_message_of_any_qos_removes(
    clients: LiteralClients, packet: str, answer: str
) -> None:
    publisher = await clients.connect(V3_1_1)
    publisher.send("31 .. \"a\" 'kept'", "31 .. \"a/b\" 'other'", packet)
    await publisher.expect(answer)
    late = await clients.subscribed(V3_1_1, "a/#")
    await late.expect("31 .. \"a/b\" 'other'")
    await late.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-3")
async def test_subscribing_again_interrupts_no_flow(clients: LiteralClients) -> None:
    client = await clients.subscribed(V3_1_1, "a", 2)
    publisher = await clients.connect(V3_1_1)
    publisher.send('34 .. "a" 0001', '32 .. "a" 0002')
    await client.expect('34 .. "a" 0001', '32 .. "a" 0002')
    client.send("50 02 0001", '82 .. 0007 "a" 01')
    await client.expect("62 02 0001", "90 .. 0007 01")
    publisher.send('34 .. "a" 0003')
    await client.expect('32 .. "a" 0003')
    client.send("40 02 0002", "70 02 0001", "40 02 0003")
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-3")
async def test_no_message_is_lost_or_doubled_around_a_subscription_made_again(
    clients: LiteralClients,
) -> None:
    client = await clients.subscribed(V3_1_1, "a")
    client.send(*(packet for n in range(9) for packet in (f"30 .. \"a\" '{n}'", f'82 .. 000{n + 1} "a" 00')))
    await client.expect(
        *(packet for n in range(9) for packet in (f"30 .. \"a\" '{n}'", f"90 .. 000{n + 1} 00"))
    )
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-1")
async def test_dup_is_set_for_each_receiver_by_its_own_delivery(clients: LiteralClients) -> None:
    lasting = await clients.connect(V3_1_1, "lasting", flags="00")
    lasting.send('82 .. 0001 "a" 01')
    await lasting.expect("90 .. 0001 01")
    publisher = await clients.connect(V3_1_1)
    publisher.send("31 .. \"a\" 'kept'", "33 .. \"a\" 0001 'sent twice'")
    await lasting.expect("30 .. \"a\" 'kept'", "32 .. \"a\" 0001 'sent twice'")
    lasting.abort()
    await publisher.expect("40 02 0001")
    lasting = await clients.connect(V3_1_1, "lasting", flags="00", connack="20 02 01 00")
    await lasting.expect("3A .. \"a\" 0001 'sent twice'")
    late = await clients.subscribed(V3_1_1, "a", 1)
    await late.expect("33 .. \"a\" 0001 'sent twice'")


@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.6.0-4")
async def test_any_number_of_qos_2_messages_may_be_unreleased(clients: LiteralClients) -> None:
    # 3.1.1 knows no Receive Maximum: whatever ours is, such a client cannot be held to it by closing.
    lasting = await clients.connect(V3_1_1, "lasting", flags="00")
    lasting.send('82 .. 0001 "a" 00')
    await lasting.expect("90 .. 0001 00")
    publisher = await clients.connect(V3_1_1, "publisher", flags="00")
    publisher.send("".join(f"3405000161{number:04X}" for number in range(1, 4_001)))
    await publisher.expect("".join(f"5002{number:04X}" for number in range(1, 4_001)))
    publisher.send("".join(f"6202{number:04X}" for number in range(1, 4_001)))
    await publisher.expect("".join(f"7002{number:04X}" for number in range(1, 4_001)))
    await lasting.expect("3003000161" * 4_000)
    await lasting.expect_nothing()


_MALFORMED = {
    "publish-without-topic": "30 00",
    "publish-topic-cut": "30 .. 0002 'a'",
    "publish-without-packet-id": '32 .. "a"',
    "publish-packet-id-cut": '34 .. "a" 00',
    "puback-empty": "40 00",
    "pubrec-cut": "50 01 00",
    "pubrel-too-long": "62 03 0001 00",
    "pubcomp-empty": "70 00",
    "subscribe-without-packet-id": "82 00",
    "subscribe-packet-id-cut": "82 01 00",
    "subscribe-without-qos": '82 .. 0001 "a"',
    "subscribe-too-long": '82 .. 0001 "a" 00 00',
    "unsubscribe-without-packet-id": "A2 00",
    "unsubscribe-with-qos": 'A2 .. 0001 "a" 00',
    "disconnect-too-long": "E0 01 00",
}


@pytest.mark.clause("v3.1.1", "MQTT-4.8.0-1")
@pytest.mark.parametrize("packet", _MALFORMED.values(), ids=_MALFORMED)
async def test_packet_that_is_cut_or_too_long_ends_the_connection_unprocessed(
    clients: LiteralClients, packet: str
) -> None:
    watcher = await clients.subscribed(V3_1_1, "#")
    client = await clients.connect(V3_1_1)
    client.send(packet, '30 .. "a"', "C0 00")
    await client.expect_closed()
    await watcher.expect_nothing()
