import asyncio
from collections.abc import Sequence

import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, LiteralClient, LiteralClients


async def _lasting(clients: LiteralClients, *, is_present: bool = False) -> LiteralClient:
    """A client whose Session outlives its connection."""
    connack = CONNACK_PRESENT if is_present else None
    return await clients.connect(V3_1_1, "lasting", flags="00", connack=connack)


async def _lasting_subscriber(clients: LiteralClients) -> LiteralClient:
    client = await _lasting(clients)
    client.send('82 .. 0001 "a" 02')
    await client.expect("90 .. 0001 02")
    return client


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-6")
@pytest.mark.clause("v3.1.1", "MQTT-4.4.0-1")
async def test_clean_session_brings_nothing_again_that_was_not_acknowledged(clients: LiteralClients) -> None:
    client = await _lasting_subscriber(clients)
    client.send('32 .. "a" 0001', '34 .. "a" 0002')
    await client.expect_in_any_order('32 .. "a" 0001', '34 .. "a" 0002', "40 02 0001", "50 02 0002")
    client.abort()
    client = await clients.connect(V3_1_1, "lasting")
    await client.expect_nothing()
    client.send("E0 00")
    await client.expect_closed()
    client = await _lasting(clients)
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-6")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.3-2")
async def test_clean_session_forgets_the_qos_2_messages_of_the_client(clients: LiteralClients) -> None:
    subscriber = await clients.subscribed(V3_1_1, "a")
    client = await _lasting(clients)
    client.send("34 .. \"a\" 0001 'one'")
    await client.expect("50 02 0001")
    client.abort()
    client = await clients.connect(V3_1_1, "lasting")
    client.send("3C .. \"a\" 0001 'two'", "62 02 0001")
    await client.expect("50 02 0001", "70 02 0001")
    await subscriber.expect("30 .. \"a\" 'one'", "30 .. \"a\" 'two'")


@pytest.mark.clause("v3.1.1", "MQTT-3.10.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.4.0-1")
async def test_delivery_that_began_goes_on_after_unsubscribe_and_reconnect(clients: LiteralClients) -> None:
    client = await _lasting_subscriber(clients)
    publisher = await clients.connect(V3_1_1)
    publisher.send('32 .. "a" 0001')
    await client.expect('32 .. "a" 0001')
    client.send('A2 .. 0002 "a"')
    await client.expect("B0 02 0002")
    publisher.send('32 .. "a" 0002')
    await publisher.expect("40 02 0001", "40 02 0002")
    client.abort()
    client = await _lasting(clients, is_present=True)
    await client.expect('3A .. "a" 0001')
    client.send("40 02 0001")
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-4.1.0-2")
@pytest.mark.parametrize("limits", [{"session_expiry_maximum_s": 1}])
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: intervals are whole seconds.
async def test_session_lasts_as_long_as_its_connection(clients: LiteralClients) -> None:
    lasting = await _lasting_subscriber(clients)
    passing = await clients.subscribed(V3_1_1, "a", 2)
    await asyncio.sleep(1.5)
    publisher = await clients.connect(V3_1_1)
    publisher.send('34 .. "a" 0001')
    await lasting.expect('34 .. "a" 0001')
    await passing.expect('34 .. "a" 0001')
    lasting.abort()
    lasting = await _lasting(clients, is_present=True)
    await lasting.expect('3C .. "a" 0001')


@pytest.mark.clause("v3.1.1", "MQTT-2.3.1-4")
@pytest.mark.clause("v3.1.1", "MQTT-4.3.2-1")
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It sends every packet identifier there is.
async def test_packet_identifier_in_use_is_passed_over_when_all_others_were_used(
    clients: LiteralClients,
) -> None:
    subscriber = await clients.subscribed(V3_1_1, "a", 1)
    publisher = await clients.connect(V3_1_1)
    # 65,535 identifiers; 1 and 3 stay in use.
    await _publish(publisher, subscriber, [1, 2, 3], acknowledged=[2])
    for start in range(4, 65_536, 1_000):
        packet_ids = range(start, min(start + 1_000, 65_536))
        await _publish(publisher, subscriber, packet_ids, acknowledged=packet_ids)
    await _publish(publisher, subscriber, [2, 4], acknowledged=[2, 4])


async def _publish(
    publisher: LiteralClient,
    subscriber: LiteralClient,
    packet_ids: Sequence[int],
    acknowledged: Sequence[int],
) -> None:
    """Publish one message per identifier; the subscriber must get them under just these."""
    frames = "".join(f"3205000161{packet_id:04X}" for packet_id in packet_ids)
    publisher.send(frames)
    await publisher.expect("".join(f"4002{packet_id:04X}" for packet_id in packet_ids))
    await subscriber.expect(frames)
    subscriber.send("".join(f"4002{packet_id:04X}" for packet_id in acknowledged))
