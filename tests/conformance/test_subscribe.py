import pytest

from literal_bytes import V3_1_1, V5, LiteralClients


@pytest.mark.clause("v5", "MQTT-3.8.4-1")
@pytest.mark.clause("v5", "MQTT-3.8.4-2")
@pytest.mark.clause("v5", "MQTT-3.8.4-6")
@pytest.mark.clause("v5", "MQTT-3.8.4-7")
@pytest.mark.clause("v5", "MQTT-2.2.1-6")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-5")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-7")
@pytest.mark.parametrize("qos", ["00", "01", "02"])
async def test_subscribe_is_answered_by_its_qos(clients: LiteralClients, version: int, qos: str) -> None:
    client = await clients.connect(version)
    client.send(f'82 .. ABCD [00] "a" {qos}')
    await client.expect(f"90 .. ABCD [00] {qos}")


@pytest.mark.clause("v5", "MQTT-3.8.4-5")
@pytest.mark.clause("v5", "MQTT-3.9.3-1")
@pytest.mark.clause("v5", "MQTT-3.9.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.9.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.9.3-2")
async def test_codes_of_suback_stand_in_the_order_of_the_filters(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a" 02 "denied/#" 01 "b/+" 00 "c/#" 01')
    await client.expect(f"90 .. 0001 [00] 02 {'87' if version == V5 else '80'} 00 01")
    client.send('30 .. "c/b" [00]')
    await client.expect('30 .. "c/b" [00]')


@pytest.mark.clause("v5", "MQTT-3.8.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-3")
async def test_same_filter_again_replaces_the_subscription(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    publisher = await clients.connect(version, "publisher")
    for packet_id, qos in enumerate((0, 2, 1), 1):
        client.send(f'82 .. {packet_id:04X} [00] "a" {qos:02X}')
        await client.expect(f"90 .. {packet_id:04X} [00] {qos:02X}")
    publisher.send('34 .. "a" 0001 [00]')
    await client.expect('32 .. "a" 0001 [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.8.4-5")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-4")
async def test_same_filter_twice_in_a_packet_is_as_if_in_two(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a" 02 "a" 00', '34 .. "a" 0001 [00]')
    await client.expect("90 .. 0001 [00] 02 00", '30 .. "a" [00]', "50 02 0001")


@pytest.mark.clause("v5", "MQTT-3.8.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.3-3")
async def test_subscribe_without_filter_is_a_protocol_error(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("82 .. 0001 [00]")
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-2.2.1-3")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-1")
async def test_subscribe_with_packet_identifier_0_is_a_protocol_error(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0000 [00] "a" 00')
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.8.1-1")
@pytest.mark.clause("v5", "MQTT-2.1.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.1-1")
@pytest.mark.parametrize("first_byte", ["80", "81", "83", "8A"])
async def test_subscribe_with_reserved_flags_is_malformed(
    clients: LiteralClients, version: int, first_byte: str
) -> None:
    client = await clients.connect(version)
    client.send(f'{first_byte} .. 0001 [00] "a" 00')
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.8.3-5")
@pytest.mark.clause("v3.1.1", "MQTT-3-8.3-4")
@pytest.mark.parametrize("options", ["43", "80", "40", "C0"])
async def test_reserved_options_are_malformed(clients: LiteralClients, version: int, options: str) -> None:
    client = await clients.connect(version)
    client.send(f'82 .. 0001 [00] "a" {options}')
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v3.1.1", "MQTT-3-8.3-4")
@pytest.mark.parametrize("options", ["03", "04", "08", "10", "20"])
async def test_qos_3_and_options_of_5_are_malformed_in_3_1_1(clients: LiteralClients, options: str) -> None:
    client = await clients.connect(V3_1_1)
    client.send(f'82 .. 0001 "a" {options}')
    await client.expect_closed()


@pytest.mark.parametrize("options", ["03", "30"])
async def test_qos_3_and_retain_handling_3_are_protocol_errors_in_5(
    clients: LiteralClients, options: str
) -> None:
    client = await clients.connect(V5)
    client.send(f'82 .. 0001 00 "a" {options}')
    await client.expect_closed("E0 01 82")


@pytest.mark.parametrize("payload", ['"a"', "0005 'a' 00", '"a" 00 "b"', '"a" 00 0001'])
@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.8.0-1")
async def test_cut_subscribe_is_malformed(clients: LiteralClients, version: int, payload: str) -> None:
    client = await clients.connect(version)
    client.send(f"82 .. 0001 [00] {payload}")
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.8.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.3-1")
@pytest.mark.parametrize("topic_filter", ["0001 FF", "0003 EDA080", "0001 00"])
async def test_filter_that_is_no_string_is_malformed(
    clients: LiteralClients, version: int, topic_filter: str
) -> None:
    client = await clients.connect(version)
    client.send(f"82 .. 0001 [00] {topic_filter} 00")
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.8.3-3")
async def test_no_local_leaves_out_what_the_client_published(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('82 .. 0001 00 "a" 06')
    await client.expect("90 .. 0001 00 02")
    client.send("32 .. \"a\" 0001 00 'own'", "30 .. \"a\" 00 'own'")
    await client.expect("40 03 0001 10")
    other = await clients.connect(V5, "other")
    other.send("30 .. \"a\" 00 'of another'")
    await client.expect("30 .. \"a\" 00 'of another'")


@pytest.mark.clause("v5", "MQTT-3.3.4-3")
@pytest.mark.clause("v5", "MQTT-3.3.4-4")
async def test_identifiers_of_all_matching_subscriptions_come_along(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('82 .. 0001 {0B 01} "a/#" 00', '82 .. 0002 {0B FFFFFF7F} "a/+" 01', '82 .. 0003 00 "a/b" 00')
    await client.expect("90 .. 0001 00 00", "90 .. 0002 00 01", "90 .. 0003 00 00")
    publisher = await clients.connect(V5, "publisher")
    publisher.send('32 .. "a/b" 0001 00', '30 .. "a/b/c" 00')
    await client.expect_one_of('32 .. "a/b" 0001 {0B 01 0B FFFFFF7F}', '32 .. "a/b" 0001 {0B FFFFFF7F 0B 01}')
    await client.expect('30 .. "a/b/c" {0B 01}')


@pytest.mark.clause("v5", "MQTT-3.3.4-3")
async def test_identifier_of_a_subscription_can_be_replaced_and_taken_back(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    publisher = await clients.connect(V5, "publisher")
    for identifier, properties in (("{0B 05}", "{0B 05}"), ("{0B 8001}", "{0B 8001}"), ("00", "00")):
        client.send(f'82 .. 0001 {identifier} "a" 00')
        await client.expect("90 .. 0001 00 00")
        publisher.send('30 .. "a" 00')
        await client.expect(f'30 .. "a" {properties}')


@pytest.mark.parametrize("properties", ["{0B 00}", "{0B 01 0B 02}"])
async def test_identifier_of_0_or_twice_is_a_protocol_error(clients: LiteralClients, properties: str) -> None:
    client = await clients.connect(V5)
    client.send(f'82 .. 0001 {properties} "a" 00')
    await client.expect_closed("E0 01 82")


@pytest.mark.parametrize("limits", [{"filters_per_subscribe_maximum": 2}])
async def test_too_many_filters_in_a_packet_end_the_connection(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a" 00 "b" 00')
    await client.expect("90 .. 0001 [00] 00 00")
    client.send('82 .. 0001 [00] "a" 00 "b" 00 "c" 00')
    await client.expect_closed("[E0 01 82]")


@pytest.mark.parametrize("limits", [{"subscriptions_maximum": 2}])
async def test_subscription_above_the_maximum_is_refused_alone(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a" 00 "b" 00 "c" 00 "a" 01')
    await client.expect(f"90 .. 0001 [00] 00 00 {'97' if version == V5 else '80'} 01")
