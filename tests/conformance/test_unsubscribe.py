import pytest

from literal_bytes import V5, LiteralClients


@pytest.mark.clause("v5", "MQTT-3.10.4-1")
@pytest.mark.clause("v5", "MQTT-3.10.4-2")
@pytest.mark.clause("v5", "MQTT-3.10.4-4")
@pytest.mark.clause("v5", "MQTT-3.10.4-5")
@pytest.mark.clause("v5", "MQTT-2.2.1-6")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-4")
@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-7")
async def test_unsubscribe_ends_the_subscription(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "a/+")
    client.send('A2 .. 0F0F [00] "a/+"')
    await client.expect("B0 .. 0F0F [00 00]")
    client.send('30 .. "a/b" [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.10.4-5")
@pytest.mark.clause("v5", "MQTT-3.11.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-5")
async def test_unsubscribe_of_nothing_is_answered(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('A2 .. 0001 [00] "a"')
    await client.expect("B0 .. 0001 [00 11]")


@pytest.mark.clause("v5", "MQTT-3.10.4-6")
@pytest.mark.clause("v5", "MQTT-3.11.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-6")
async def test_each_filter_is_taken_in_its_turn(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send('82 .. 0001 [00] "a" 00 "b" 00 "c" 00')
    await client.expect("90 .. 0001 [00] 00 00 00")
    client.send('A2 .. 0002 [00] "c" "x" "a" "a"', '30 .. "a" [00]', '30 .. "b" [00]', '30 .. "c" [00]')
    await client.expect("B0 .. 0002 [00 00 11 00 11]", '30 .. "b" [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.10.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-1")
async def test_filters_are_compared_letter_by_letter(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "a/+")
    client.send('A2 .. 0001 [00] "a/#" "A/+" "a/b" "a/+/"')
    await client.expect("B0 .. 0001 [00 11 11 11 11]")
    client.send('30 .. "a/b" [00]')
    await client.expect('30 .. "a/b" [00]')


@pytest.mark.clause("v5", "MQTT-3.10.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-3")
async def test_delivery_that_began_goes_on(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "a", 2)
    publisher = await clients.connect(version)
    publisher.send('34 .. "a" 0001 [00]')
    await client.expect('34 .. "a" 0001 [00]')
    client.send('A2 .. 0001 [00] "a"', "50 02 0001")
    await client.expect("B0 .. 0001 [00 00]", "62 02 0001")
    client.send("70 02 0001")
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.10.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.3-2")
async def test_unsubscribe_without_filter_is_a_protocol_error(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("A2 .. 0001 [00]")
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-3.10.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.1-1")
@pytest.mark.parametrize("first_byte", ["A0", "A1", "A3", "AA"])
async def test_unsubscribe_with_reserved_flags_is_malformed(
    clients: LiteralClients, version: int, first_byte: str
) -> None:
    client = await clients.connect(version)
    client.send(f'{first_byte} .. 0001 [00] "a"')
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-3.10.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.10.3-1")
@pytest.mark.parametrize("topic_filter", ["0001 FF", "0001 00", "0002 'a'"])
async def test_filter_that_is_no_string_is_malformed(
    clients: LiteralClients, version: int, topic_filter: str
) -> None:
    client = await clients.connect(version)
    client.send(f"A2 .. 0001 [00] {topic_filter}")
    await client.expect_closed("[E0 01 81]")


async def test_user_properties_of_unsubscribe_are_read(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('A2 .. 0001 {26 "k" "v" 26 "k" "v"} "a"')
    await client.expect("B0 .. 0001 00 11")
