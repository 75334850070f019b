import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, V5, LiteralClients


async def test_disconnect_closes_the_connection(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("E0 00")
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.14.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.14.4-2")
async def test_what_follows_disconnect_is_not_processed(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "a")
    client = await clients.connect(version)
    client.send("30 .. \"a\" [00] 'before'", "E0 00", "30 .. \"a\" [00] 'after'")
    await client.expect_closed()
    await watcher.expect("30 .. \"a\" [00] 'before'")
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.14.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.14.1-1")
async def test_disconnect_with_reserved_flags_is_malformed(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("E1 00")
    await client.expect_closed("[E0 01 81]")


@pytest.mark.parametrize("packet", ["E0 01 00", "E0 02 00 00", "E0 01 04", "E0 04 00 02 1F00"])
async def test_disconnect_with_a_body_is_malformed_in_3_1_1(clients: LiteralClients, packet: str) -> None:
    client = await clients.connect(V3_1_1)
    client.send(packet)
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.14.2-1")
@pytest.mark.parametrize(
    "packet", ["E0 01 00", "E0 02 00 00", "E0 01 04", 'E0 .. 80 {1F "bye" 26 "k" "val"}']
)
async def test_disconnect_with_a_reason_is_read_in_5(clients: LiteralClients, packet: str) -> None:
    client = await clients.connect(V5)
    client.send(packet)
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.14.2-1")
@pytest.mark.parametrize("packet", ["E0 01 01", "E0 01 FF"])
async def test_disconnect_with_a_code_of_another_packet_is_a_protocol_error(
    clients: LiteralClients, packet: str
) -> None:
    client = await clients.connect(V5)
    client.send(packet)
    await client.expect_closed("E0 01 82")


async def test_session_that_ends_with_its_connection_cannot_be_made_to_last(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send("E0 .. 00 {11 0000000A}")
    await client.expect_closed("E0 01 82")


async def test_disconnect_may_end_a_session_that_would_last(clients: LiteralClients) -> None:
    client = await clients.connect(V5, flags="00", properties="11 FFFFFFFF")
    client.send("E0 .. 00 {11 00000000}")
    await client.expect_closed()
    await clients.connect(V5, flags="00")


async def test_disconnect_may_shorten_a_session(clients: LiteralClients) -> None:
    client = await clients.connect(V5, flags="00", properties="11 FFFFFFFF")
    client.send("E0 .. 00 {11 0000003C}")
    await client.expect_closed()
    await clients.connect(V5, flags="00", connack=CONNACK_PRESENT)
