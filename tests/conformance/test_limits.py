import asyncio

import pytest

from literal_bytes import V3_1_1, V5, LiteralClients

_SMALL = [{"maximum_packet_size": 100}]
_SMALL_CONNACK = "20 .. 00 00 [{21 0400 22 0020 27 00000064}]"
_TWO = [{"receive_maximum": 2}]
_TWO_CONNACK = "20 .. 00 00 [{21 0002 22 0020 27 01000000}]"


@pytest.mark.clause("v5", "MQTT-3.2.2-15")
@pytest.mark.parametrize("limits", _SMALL)
async def test_packet_above_our_maximum_ends_the_connection(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version, connack=_SMALL_CONNACK)
    largest = f"30 62 \"a\" [00] '{'x' * (95 - (version == V5))}'"
    client.send(largest)
    await client.expect_nothing()
    client.send("30 63")
    await client.expect_closed("[E0 01 95]")


@pytest.mark.clause("v5", "MQTT-3.1.2-24")
@pytest.mark.clause("v5", "MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_message_above_the_maximum_of_the_client_is_left_out(clients: LiteralClients, qos: int) -> None:
    small = await clients.connect(V5, properties="27 00000014")
    small.send(f'82 .. 0001 00 "a" {qos:02X}')
    await small.expect(f"90 .. 0001 00 {qos:02X}")
    large = await clients.subscribed(V5, "a", qos, client_id="large")
    publisher = await clients.connect(V5, "publisher")
    first = f'3{qos * 2} .. "a" 0001' if qos else '30 .. "a"'
    second = f'3{qos * 2} .. "a" 0002' if qos else '30 .. "a"'
    fits, exceeds = "x" * (20 - 6 - 2 * bool(qos)), "x" * (21 - 6 - 2 * bool(qos))
    publisher.send(f"{first} 00 '{exceeds}'", f"{second} 00 '{fits}'")
    await large.expect(f"{first} 00 '{exceeds}'", f"{second} 00 '{fits}'")
    answer = await small.receive(20)
    assert answer.hex(" ").endswith((" 78" * len(fits)).strip())
    assert (answer[0], answer[1]) == (0x30 + qos * 2, 18)
    await small.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-25")
async def test_message_that_was_too_large_does_not_use_up_the_quota(clients: LiteralClients) -> None:
    small = await clients.connect(V5, properties="27 00000014 21 0001")
    small.send('82 .. 0001 00 "a" 01')
    await small.expect("90 .. 0001 00 01")
    publisher = await clients.connect(V5, "publisher")
    publisher.send(*(f"32 .. \"a\" {number:04X} 00 '{'x' * 30}'" for number in range(1, 9)))
    publisher.send("32 .. \"a\" 0009 00 'fits'")
    answer = await small.receive(12)
    assert answer[-5:] == b"\0fits"


@pytest.mark.clause("v5", "MQTT-3.3.4-9")
@pytest.mark.clause("v5", "MQTT-3.3.4-10")
@pytest.mark.clause("v5", "MQTT-4.9.0-1")
@pytest.mark.clause("v5", "MQTT-4.9.0-2")
@pytest.mark.clause("v5", "MQTT-4.9.0-3")
async def test_client_is_sent_no_more_than_its_receive_maximum(clients: LiteralClients) -> None:
    client = await clients.connect(V5, properties="21 0002")
    client.send('82 .. 0001 00 "a" 02')
    await client.expect("90 .. 0001 00 02")
    publisher = await clients.connect(V5, "publisher")
    publisher.send(
        "32 .. \"a\" 0001 00 '1'",
        "34 .. \"a\" 0002 00 '2'",
        "32 .. \"a\" 0003 00 '3'",
        "34 .. \"a\" 0004 00 '4'",
    )
    await client.expect("32 .. \"a\" 0001 00 '1'", "34 .. \"a\" 0002 00 '2'")
    await client.expect_nothing()
    # What needs no quota passes: QoS 0, answers.
    publisher.send("30 .. \"a\" 00 '0'")
    await client.expect("30 .. \"a\" 00 '0'")
    client.send("40 02 0001")
    await client.expect("32 .. \"a\" 0003 00 '3'")
    client.send("50 02 0002")
    await client.expect("62 02 0002")
    await client.expect_nothing()
    client.send("70 02 0002")
    await client.expect("34 .. \"a\" 0004 00 '4'")


@pytest.mark.parametrize("limits", [{"in_flight_maximum": 1}])
async def test_client_is_sent_no_more_than_we_keep_in_flight(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "a", 1)
    publisher = await clients.connect(version)
    publisher.send("32 .. \"a\" 0001 [00] '1'", "32 .. \"a\" 0002 [00] '2'")
    await client.expect("32 .. \"a\" 0001 [00] '1'")
    await client.expect_nothing()
    client.send("40 02 0001")
    await client.expect("32 .. \"a\" 0002 [00] '2'")


@pytest.mark.clause("v5", "MQTT-3.3.4-7")
@pytest.mark.parametrize("limits", _TWO)
async def test_client_that_exceeds_our_receive_maximum_is_closed(clients: LiteralClients) -> None:
    client = await clients.connect(V5, connack=_TWO_CONNACK)
    client.send('34 .. "a" 0001 00', '34 .. "a" 0002 00')
    await client.expect("50 .. 0001 10", "50 .. 0002 10")
    client.send('3C .. "a" 0002 00')
    await client.expect("50 02 0002")
    client.send('34 .. "a" 0003 00')
    await client.expect_closed("E0 01 93")


@pytest.mark.parametrize("limits", _TWO)
async def test_client_within_our_receive_maximum_goes_on(clients: LiteralClients) -> None:
    client = await clients.connect(V5, connack=_TWO_CONNACK)
    for number in range(1, 9):
        client.send(f'34 .. "a" {number:04X} 00', f'32 .. "a" {number + 100:04X} 00')
        await client.expect(f"50 .. {number:04X} 10", f"40 .. {number + 100:04X} 10")
        client.send(f"62 02 {number:04X}")
        await client.expect(f"70 02 {number:04X}")


@pytest.mark.parametrize("limits", _TWO)
async def test_client_of_3_1_1_knows_no_receive_maximum(clients: LiteralClients) -> None:
    lasting = await clients.connect(V3_1_1, "lasting", flags="00")
    lasting.send('82 .. 0001 "a" 01')
    await lasting.expect("90 .. 0001 01")
    client = await clients.connect(V3_1_1)
    client.send(*(f'32 .. "a" {number:04X}' for number in range(1, 21)))
    await client.expect(*(f"40 02 {number:04X}" for number in range(1, 21)))


@pytest.mark.parametrize("limits", [{"frame_budget": 3}])
async def test_more_packets_than_a_turn_allows_are_handled_in_later_turns(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send(*["C0 00"] * 100)
    await client.expect(*["D0 00"] * 100)


@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: for a peer that does nothing.
@pytest.mark.parametrize(
    "limits", [{"write_buffer_high_bytes": 1000, "slow_consumer_s": 0.2, "drain_s": 0.2}]
)
async def test_who_takes_nothing_is_closed_and_holds_up_nobody(clients: LiteralClients, version: int) -> None:
    slow = await clients.subscribed(version, "a", client_id="slow")
    quick = await clients.subscribed(version, "a", client_id="quick")
    publisher = await clients.connect(version)
    message = f"30 .. \"a\" [00] '{'x' * 1_000_000}'"
    slow.stop_reading()
    for _ in range(16):  # More than the kernel keeps for a peer.
        publisher.send(message)
        await quick.expect(message)
    await asyncio.sleep(1.2)
    await quick.expect_nothing()
    await slow.expect_lost()
