import pytest

from literal_bytes import V3_1_1, V5, LiteralClients, connect_packet, literal

_SERVER_PACKETS = {"connack": "20 .. 00 00 [00]", "suback": "90 .. 0001 [00] 00", "pingresp": "D0 00"}


@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.8.0-1")
@pytest.mark.parametrize("packet", _SERVER_PACKETS.values(), ids=_SERVER_PACKETS)
async def test_packet_that_only_servers_send_is_a_protocol_error(
    clients: LiteralClients, version: int, packet: str
) -> None:
    client = await clients.connect(version)
    client.send(packet)
    await client.expect_closed("[E0 01 82]")


@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.clause("v5", "MQTT-2.1.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-2.2.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-2.2.2-2")
@pytest.mark.parametrize(
    "first_byte", ["00", "0F", "11", "21", "4F", "51", "64", "7F", "81", "9F", "A4", "B1", "CF"]
)
async def test_packet_type_0_and_reserved_flags_are_malformed(
    clients: LiteralClients, version: int, first_byte: str
) -> None:
    client = await clients.connect(version)
    client.send(f"{first_byte} 02 0001")
    await client.expect_closed("[E0 01 81]")


async def test_packet_type_15_is_malformed_in_3_1_1(clients: LiteralClients) -> None:
    client = await clients.connect(V3_1_1)
    client.send("F0 00")
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-4.13.1-1")
async def test_remaining_length_of_five_bytes_is_malformed(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("30 80 80 80 80 01")
    await client.expect_closed("[E0 01 81]")


@pytest.mark.clause("v5", "MQTT-1.5.5-1")
async def test_remaining_length_longer_than_needed_is_malformed_in_5(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send("C0 80 00")
    await client.expect_closed("E0 01 81")


async def test_remaining_length_longer_than_needed_is_read_in_3_1_1(clients: LiteralClients) -> None:
    client = await clients.connect(V3_1_1)
    client.send("C0 80 80 00")
    await client.expect("D0 00")


async def test_packets_before_an_error_are_answered(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("C0 00", '32 .. "a" 0001 [00]', "C1 00", "C0 00")
    await client.expect_closed("D0 00", "40 .. 0001 [10]", "[E0 01 81]")


async def test_error_of_one_client_is_nothing_to_others(clients: LiteralClients, version: int) -> None:
    other = await clients.subscribed(version, "a")
    client = await clients.connect(version)
    client.send("30 .. \"a\" [00] 'last'", "FF FF FF FF FF")
    await other.expect("30 .. \"a\" [00] 'last'")
    await other.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-7.1.1-1")
@pytest.mark.clause("v5", "MQTT-4.2-1")
async def test_bytes_may_come_one_by_one(clients: LiteralClients, version: int) -> None:
    client = await clients.open(version)
    packets = (connect_packet(version), '82 .. 0001 [00] "a" 01', "32 .. \"a\" 0001 [00] 'hi'", "C0 00")
    for byte in b"".join(literal(packet, version) for packet in packets):
        await client.send_now(f"{byte:02X}")
    await client.expect("20 .. 00 00 [{21 0400 22 0020 27 01000000}]")
    await client.expect("90 .. 0001 [00] 01", "32 .. \"a\" 0001 [00] 'hi'", "40 02 0001", "D0 00")


@pytest.mark.parametrize("sent", ["", "10", '10 20 "MQTT"'])
async def test_client_may_leave_at_any_time(clients: LiteralClients, version: int, sent: str) -> None:
    client = await clients.open(version)
    client.send(sent)
    client.abort()
    await (await clients.connect(version)).expect_nothing()
