import asyncio

import pytest

from literal_bytes import ANNOUNCED, CONNACK_PRESENT, V3_1_1, V5, LiteralClient, LiteralClients


async def _lasting(clients: LiteralClients, version: int, *, is_present: bool = False) -> LiteralClient:
    """A client whose Session outlives its connection, in the words of its version."""
    return await clients.connect(
        version,
        "lasting",
        flags="00",
        properties="11 FFFFFFFF",
        connack=CONNACK_PRESENT if is_present else None,
    )


async def _lasting_subscriber(clients: LiteralClients, version: int, qos: str = "01") -> LiteralClient:
    client = await _lasting(clients, version)
    client.send(f'82 .. 0001 [00] "a" {qos}')
    await client.expect(f"90 .. 0001 [00] {qos}")
    return client


@pytest.mark.clause("v5", "MQTT-3.1.4-3")
@pytest.mark.clause("v5", "MQTT-3.1.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.3-2")
async def test_second_connect_closes_the_first_connection(clients: LiteralClients, version: int) -> None:
    first = await clients.connect(version)
    second = await clients.connect(version)
    await first.expect_closed("[E0 01 8E]")
    await second.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.4-3")
async def test_take_over_works_across_versions(clients: LiteralClients) -> None:
    first = await clients.connect(V5)
    second = await clients.connect(V3_1_1)
    await first.expect_closed("E0 01 8E")
    await clients.connect(V5)
    await second.expect_closed()


async def test_client_identifiers_are_compared_letter_by_letter(
    clients: LiteralClients, version: int
) -> None:
    first = await clients.connect(version, "client")
    await clients.connect(version, "Client")
    await clients.connect(version, "client ")
    await first.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-5")
@pytest.mark.clause("v5", "MQTT-3.1.2-23")
@pytest.mark.clause("v5", "MQTT-3.2.2-3")
@pytest.mark.clause("v5", "MQTT-4.5.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-5")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.5.0-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.1.0-1")
@pytest.mark.parametrize(
    ("ending", "answer"), [("E0 00", ""), ("00 00", "[E0 01 81]")], ids=["left", "thrown-out"]
)
async def test_session_keeps_subscriptions_and_messages_without_a_connection(
    clients: LiteralClients, version: int, ending: str, answer: str
) -> None:
    client = await _lasting_subscriber(clients, version, "02")
    client.send(ending)
    await client.expect_closed(answer)
    publisher = await clients.connect(version)
    publisher.send("32 .. \"a\" 0001 [00] 'one'", "34 .. \"a\" 0002 [00] 'two'")
    await publisher.expect("40 02 0001", "50 02 0002")
    client = await _lasting(clients, version, is_present=True)
    first, second = "32 .. \"a\" 0001 [00] 'one'", "34 .. \"a\" 0002 [00] 'two'"
    await client.expect(first, second)
    client.send("40 02 0001", "50 02 0002")
    await client.expect("62 02 0002")


@pytest.mark.clause("v5", "MQTT-3.1.2-4")
@pytest.mark.clause("v5", "MQTT-3.1.4-4")
@pytest.mark.clause("v5", "MQTT-3.2.2-2")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-6")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-1")
async def test_clean_start_discards_the_session(clients: LiteralClients, version: int) -> None:
    client = await _lasting_subscriber(clients, version)
    client.send("E0 00")
    await client.expect_closed()
    publisher = await clients.connect(version)
    publisher.send('32 .. "a" 0001 [00]')
    await publisher.expect("40 02 0001")
    client = await clients.connect(version, "lasting")
    publisher.send('32 .. "a" 0002 [00]')
    await publisher.expect("40 .. 0002 [10]")
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-6")
async def test_clean_start_discards_the_session_of_a_live_connection(
    clients: LiteralClients, version: int
) -> None:
    first = await _lasting_subscriber(clients, version)
    second = await clients.connect(version, "lasting")
    await first.expect_closed("[E0 01 8E]")
    second.send('32 .. "a" 0001 [00]')
    await second.expect("40 .. 0001 [10]")


@pytest.mark.clause("v5", "MQTT-3.1.2-6")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-3")
async def test_resuming_what_is_not_there_begins_a_session(clients: LiteralClients, version: int) -> None:
    await _lasting(clients, version)


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-6")
async def test_clean_session_of_3_1_1_ends_with_its_connection(clients: LiteralClients) -> None:
    client = await clients.subscribed(V3_1_1, "a", 1, client_id="lasting")
    client.send("E0 00")
    await client.expect_closed()
    client = await _lasting(clients, V3_1_1)
    client.send('30 .. "a"')
    await client.expect_nothing()


async def test_session_of_5_ends_with_its_connection_unless_it_asks_for_more(clients: LiteralClients) -> None:
    client = await clients.connect(V5, flags="00")
    client.send('82 .. 0001 00 "a" 01')
    await client.expect("90 .. 0001 00 01")
    client.send("E0 00")
    await client.expect_closed()
    await clients.connect(V5, flags="00")


async def test_session_is_resumed_in_the_other_version(clients: LiteralClients) -> None:
    client = await _lasting_subscriber(clients, V5)
    client.send("E0 00")
    await client.expect_closed()
    publisher = await clients.connect(V5)
    publisher.send('32 .. "a" 0001 {03 "text"} \'hi\'')
    await publisher.expect("40 02 0001")
    client = await _lasting(clients, V3_1_1, is_present=True)
    await client.expect("32 .. \"a\" 0001 'hi'")
    client.send("E0 00")
    await client.expect_closed()
    client = await _lasting(clients, V5, is_present=True)
    await client.expect('3A .. "a" 0001 {03 "text"} \'hi\'')


@pytest.mark.clause("v5", "MQTT-4.1.0-2")
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: intervals are whole seconds.
async def test_session_and_messages_expire_in_their_time(clients: LiteralClients) -> None:
    short = await clients.connect(V5, "short", flags="00", properties="11 00000001")
    long = await clients.connect(V5, "long", flags="00", properties="11 0000003C")
    long.send('82 .. 0001 00 "a" 01')
    await long.expect("90 .. 0001 00 01")
    for client in (short, long):
        client.send("E0 00")
        await client.expect_closed()
    publisher = await clients.connect(V5, "publisher")
    publisher.send("32 .. \"a\" 0001 {02 00000001} 'short'", "32 .. \"a\" 0002 {02 0000003C} 'long'")
    await publisher.expect("40 02 0001", "40 02 0002")
    await asyncio.sleep(1.2)
    await clients.connect(V5, "short", flags="00", properties="11 00000001")
    long = await clients.connect(V5, "long", flags="00", properties="11 0000003C", connack=CONNACK_PRESENT)
    # v5 [MQTT-3.3.2-5], [MQTT-3.3.2-6]: the one is gone, the other's interval is less by what it waited.
    await long.expect("32 .. \"a\" 0001 {02 0000003B} 'long'")
    await long.expect_nothing()


@pytest.mark.parametrize("limits", [{"session_expiry_maximum_s": 60}])
async def test_session_is_told_where_it_expires_sooner_than_asked(clients: LiteralClients) -> None:
    connack = f"20 .. 00 00 {{11 0000003C {ANNOUNCED}}}"
    await clients.connect(V5, "1", properties="11 0000003D", connack=connack)
    await clients.connect(V5, "2", properties="11 0000003C")


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-7")
async def test_retained_messages_outlive_the_session(clients: LiteralClients, version: int) -> None:
    publisher = await clients.connect(version)
    publisher.send("31 .. \"a\" [00] 'kept'", "E0 00")
    await publisher.expect_closed()
    client = await clients.subscribed(version, "a")
    await client.expect("31 .. \"a\" [00] 'kept'")


@pytest.mark.parametrize("limits", [{"pending_messages_maximum": 2}])
async def test_messages_beyond_the_queue_of_a_session_are_dropped(
    clients: LiteralClients, version: int
) -> None:
    client = await _lasting_subscriber(clients, version)
    client.send("E0 00")
    await client.expect_closed()
    publisher = await clients.connect(version)
    publisher.send(*(f'32 .. "a" {number:04X} [00]' for number in (1, 2, 3)))
    await publisher.expect(*(f"40 02 {number:04X}" for number in (1, 2, 3)))
    client = await _lasting(clients, version, is_present=True)
    await client.expect('32 .. "a" 0001 [00]', '32 .. "a" 0002 [00]')
    await client.expect_nothing()
