import asyncio

import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, V5, LiteralClients

_WILL = '[00] "w" "gone"'


@pytest.mark.clause("v5", "MQTT-3.1.2-7")
@pytest.mark.clause("v5", "MQTT-3.1.2-8")
@pytest.mark.clause("v5", "MQTT-3.1.2-14")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-16")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_will_is_published_when_the_connection_is_lost(
    clients: LiteralClients, version: int, qos: int
) -> None:
    watcher = await clients.subscribed(version, "w", 2)
    client = await clients.connect(version, flags=f"{0x06 | qos << 3:02X}", payload=_WILL)
    client.abort()
    await watcher.expect(f"3{qos * 2} .. \"w\" {'0001' if qos else ''} [00] 'gone'")


@pytest.mark.clause("v5", "MQTT-3.1.2-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
@pytest.mark.parametrize("packet", ["00 00", "82 02 0001", "20 02 00 00", '30 .. "a/+" [00]'])
async def test_will_is_published_when_the_client_breaks_the_protocol(
    clients: LiteralClients, version: int, packet: str
) -> None:
    watcher = await clients.subscribed(version, "w")
    client = await clients.connect(version, flags="06", payload=_WILL)
    client.send(packet)
    await watcher.expect("30 .. \"w\" [00] 'gone'")


@pytest.mark.clause("v5", "MQTT-3.14.4-3")
@pytest.mark.clause("v5", "MQTT-3.1.2-10")
@pytest.mark.clause("v3.1.1", "MQTT-3.14.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-10")
async def test_disconnect_discards_the_will(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "w")
    client = await clients.connect(version, flags="06", payload=_WILL)
    client.send("E0 00")
    await client.expect_closed()
    await watcher.expect_nothing()


@pytest.mark.parametrize("code", ["04", "80", "81"])
async def test_disconnect_with_another_reason_publishes_the_will(clients: LiteralClients, code: str) -> None:
    watcher = await clients.subscribed(V5, "w")
    client = await clients.connect(V5, flags="06", payload=_WILL)
    client.send(f"E0 01 {code}")
    await watcher.expect("30 .. \"w\" 00 'gone'")


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-12")
async def test_connection_without_will_publishes_none(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "#")
    client = await clients.connect(version)
    client.abort()
    again = await clients.connect(version)
    again.send('30 .. "a" [00]')
    await watcher.expect('30 .. "a" [00]')


@pytest.mark.clause("v5", "MQTT-3.1.2-15")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-17")
async def test_will_can_be_retained(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "w")
    client = await clients.connect(version, flags="26", payload=_WILL)
    client.abort()
    await watcher.expect("30 .. \"w\" [00] 'gone'")
    late = await clients.subscribed(version, "w", client_id="late")
    await late.expect("31 .. \"w\" [00] 'gone'")


@pytest.mark.clause("v5", "MQTT-3.1.2-14")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-16")
async def test_will_without_retain_is_not_kept(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "w")
    client = await clients.connect(version, flags="06", payload=_WILL)
    client.abort()
    await watcher.expect("30 .. \"w\" [00] 'gone'")
    late = await clients.subscribed(version, "w", client_id="late")
    await late.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-10")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-10")
async def test_published_will_is_not_published_again(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "w")
    session = {"properties": "11 FFFFFFFF"}
    client = await clients.connect(version, flags="04", payload=_WILL, **session)
    client.abort()
    await watcher.expect("30 .. \"w\" [00] 'gone'")
    client = await clients.connect(version, flags="00", connack=CONNACK_PRESENT, **session)
    client.abort()
    client = await clients.connect(version, flags="00", connack=CONNACK_PRESENT, **session)
    await watcher.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
async def test_take_over_publishes_the_will_of_the_first_connection(
    clients: LiteralClients, version: int
) -> None:
    watcher = await clients.subscribed(version, "w")
    await clients.connect(version, flags="06", payload=_WILL)
    await clients.connect(version)
    await watcher.expect("30 .. \"w\" [00] 'gone'")


async def test_will_may_have_no_payload(clients: LiteralClients, version: int) -> None:
    watcher = await clients.subscribed(version, "w")
    client = await clients.connect(version, flags="06", payload='[00] "w" ""')
    client.abort()
    await watcher.expect('30 .. "w" [00]')


@pytest.mark.clause("v5", "MQTT-3.1.3-10")
async def test_properties_of_the_will_travel_in_their_order(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    properties = '01 01 03 "text" 08 "r" 09 "corr" 26 "b" "1" 26 "a" "2" 26 "b" "1"'
    client = await clients.connect(V5, flags="06", payload=f'{{{properties} 02 0000000A}} "w" "gone"')
    client.abort()
    await watcher.expect(f"30 .. \"w\" {{01 01 02 0000000A {properties[6:]}}} 'gone'")


@pytest.mark.clause("v5", "MQTT-3.1.3-9")
async def test_will_is_not_published_when_the_client_is_back_in_time(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    lasting = {"flags": "04", "properties": "11 0000003C", "payload": '{18 0000003C} "w" "gone"'}
    client = await clients.connect(V5, **lasting)
    client.abort()
    client = await clients.connect(V5, **lasting, connack=CONNACK_PRESENT)
    client.send("E0 00")
    await client.expect_closed()
    await watcher.expect_nothing()


async def test_will_is_published_at_once_when_its_session_is_discarded(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    client = await clients.connect(
        V5, flags="04", properties="11 0000003C", payload='{18 0000003C} "w" "gone"'
    )
    client.abort()
    await clients.connect(V5, flags="02")
    await watcher.expect("30 .. \"w\" 00 'gone'")


async def test_will_does_not_wait_longer_than_its_session_lasts(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    client = await clients.connect(V5, flags="06", payload='{18 0000003C} "w" "gone"')
    client.abort()
    await watcher.expect("30 .. \"w\" 00 'gone'")


@pytest.mark.clause("v5", "MQTT-3.1.2-8")
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: intervals are whole seconds.
async def test_will_is_published_after_its_delay_or_with_the_end_of_its_session(
    clients: LiteralClients,
) -> None:
    loop = asyncio.get_running_loop()
    watcher = await clients.subscribed(V5, "w/+")
    delayed = await clients.connect(
        V5, "delayed", flags="04", properties="11 0000003C", payload='{18 00000001} "w/1" "delay"'
    )
    ending = await clients.connect(
        V5, "ending", flags="04", properties="11 00000001", payload='{18 0000003C} "w/2" "end"'
    )
    since = loop.time()
    delayed.abort()
    ending.abort()
    await watcher.expect_nothing()
    await watcher.expect_in_any_order("30 .. \"w/1\" 00 'delay'", "30 .. \"w/2\" 00 'end'")
    assert 1.0 <= loop.time() - since < 2.0
    await watcher.expect_nothing()


async def test_will_of_3_1_1_reaches_subscribers_of_5(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    client = await clients.connect(V3_1_1, flags="06", payload='"w" "gone"')
    client.abort()
    await watcher.expect("30 .. \"w\" 00 'gone'")
