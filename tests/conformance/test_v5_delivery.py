import asyncio

import pytest

from literal_bytes import CONNACK, CONNACK_PRESENT, V5, LiteralClient, LiteralClients

_LASTING = "11 FFFFFFFF"


async def _member(clients: LiteralClients, client_id: str, properties: str = "") -> LiteralClient:
    """A Client that is a member of a Shared Subscription at QoS 2."""
    client = await clients.connect(V5, client_id, flags="02", properties=properties)
    client.send('82 .. 0001 00 "$share/g/a" 02')
    await client.expect("90 .. 0001 00 02")
    return client


async def _begun(clients: LiteralClients, properties: str = "") -> tuple[LiteralClient, LiteralClient]:
    """The member that a QoS 2 message was sent to, and one that came later."""
    chosen = await _member(clients, "chosen", properties)
    publisher = await clients.connect(V5, "publisher")
    publisher.send('34 .. "a" 0001 00')
    await publisher.expect("50 02 0001")
    await chosen.expect('34 .. "a" 0001 00')
    return chosen, await _member(clients, "other")


@pytest.mark.clause("v5", "MQTT-4.8.2-5")
async def test_shared_qos_2_message_ends_with_the_session_that_it_was_sent_to(
    clients: LiteralClients,
) -> None:
    chosen, other = await _begun(clients)
    chosen.abort()
    await other.expect_nothing()
    again = await clients.connect(V5, "chosen")
    await again.expect_nothing()
    await other.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.8.2-5")
async def test_shared_qos_2_message_ends_with_the_lasting_session_that_it_was_sent_to(
    clients: LiteralClients,
) -> None:
    chosen, other = await _begun(clients, _LASTING)
    chosen.abort()
    await other.expect_nothing()
    await clients.connect(V5, "chosen", flags="02")
    await other.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.8.2-6")
@pytest.mark.clause("v5", "MQTT-4.4.0-2")
@pytest.mark.parametrize(("qos", "refusal"), [(1, "40"), (2, "50")])
@pytest.mark.parametrize("code", ["80", "87", "97"])
async def test_shared_message_that_its_member_refuses_goes_to_nobody(
    clients: LiteralClients, qos: int, refusal: str, code: str
) -> None:
    chosen = await _member(clients, "chosen", _LASTING)
    publisher = await clients.connect(V5, "publisher")
    publisher.send(f'3{qos * 2} .. "a" 0001 00')
    await chosen.expect(f'3{qos * 2} .. "a" 0001 00')
    other = await _member(clients, "other")
    chosen.send(f"{refusal} 03 0001 {code}")
    await chosen.expect_nothing()
    chosen.send("E0 00")
    await chosen.expect_closed()
    await other.expect_nothing()
    again = await clients.connect(V5, "chosen", flags="00", properties=_LASTING, connack=CONNACK_PRESENT)
    await again.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.3.4-3")
@pytest.mark.clause("v5", "MQTT-3.3.4-5")
async def test_each_copy_has_the_identifier_of_its_own_subscription(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send(
        '82 .. 0001 {0B 01} "a" 00', '82 .. 0002 {0B 02} "$share/g/a" 00', '82 .. 0003 00 "$share/h/a" 00'
    )
    await client.expect("90 .. 0001 00 00", "90 .. 0002 00 00", "90 .. 0003 00 00")
    publisher = await clients.connect(V5, "publisher")
    publisher.send("30 .. \"a\" 00 'hi'")
    await client.expect_in_any_order(
        "30 .. \"a\" {0B 01} 'hi'", "30 .. \"a\" {0B 02} 'hi'", "30 .. \"a\" 00 'hi'"
    )


@pytest.mark.clause("v5", "MQTT-3.8.4-3")
@pytest.mark.clause("v5", "MQTT-3.8.4-4")
async def test_replacing_a_subscription_loses_no_message(clients: LiteralClients) -> None:
    client = await clients.connect(V5, properties="21 0001")
    publisher = await clients.connect(V5, "publisher")
    client.send('82 .. 0001 {0B 01} "a" 01')
    await client.expect("90 .. 0001 00 01")
    publisher.send("32 .. \"a\" 0001 00 'sent'", "32 .. \"a\" 0002 00 'waiting'")
    await publisher.expect("40 02 0001", "40 02 0002")
    await client.expect("32 .. \"a\" 0001 {0B 01} 'sent'")
    client.send('82 .. 0002 {0B 02} "a" 00')
    await client.expect("90 .. 0002 00 00")
    publisher.send("32 .. \"a\" 0003 00 'later'")
    await client.expect("30 .. \"a\" {0B 02} 'later'")
    client.send("40 02 0001")
    await client.expect("32 .. \"a\" 0002 {0B 01} 'waiting'")
    # Between one packet and the next there is no gap either.
    client.send(
        "40 02 0002", *(part for qos in "010" for part in (f'82 .. 0003 00 "a" 0{qos}', '30 .. "a" 00'))
    )
    await client.expect(*(part for qos in "010" for part in (f"90 .. 0003 00 0{qos}", '30 .. "a" 00')))


async def test_shared_subscription_brings_no_retained_messages(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send("31 .. \"a\" 00 'kept'", '82 .. 0001 00 "$share/g/a" 00', '82 .. 0002 00 "$share/g/#" 00')
    await client.expect("90 .. 0001 00 00", "90 .. 0002 00 00")
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.3.2-5")
@pytest.mark.clause("v5", "MQTT-4.3.3-7")
@pytest.mark.clause("v5", "MQTT-4.3.3-13")
@pytest.mark.clause("v5", "MQTT-4.1.0-1")
@pytest.mark.clause("v5", "MQTT-3.1.2-23")
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: intervals are whole seconds.
async def test_messages_expire_unless_they_were_sent_and_sessions_do_not_while_connected(
    clients: LiteralClients,
) -> None:
    short = await clients.connect(V5, "short", flags="00", properties="11 00000001 21 0001")
    short.send('82 .. 0001 00 "a" 02')
    await short.expect("90 .. 0001 00 02")
    lasting = await clients.connect(V5, "lasting", flags="00", properties=f"{_LASTING} 21 0001")
    lasting.send('82 .. 0001 00 "a" 02')
    await lasting.expect("90 .. 0001 00 02")
    publisher = await clients.connect(V5, "publisher")
    publisher.send("34 .. \"a\" 0001 {02 00000001} 'sent'", "34 .. \"a\" 0002 {02 00000001} 'not sent'")
    await publisher.expect("50 02 0001", "50 02 0002")
    sent = "34 .. \"a\" 0001 {02 00000001} 'sent'"
    await short.expect(sent)
    await lasting.expect(sent)
    lasting.abort()
    await asyncio.sleep(1.2)
    # As a receiver the Server goes on with messages that have expired.
    publisher.send("62 02 0001", "62 02 0002")
    await publisher.expect("70 02 0001", "70 02 0002")
    # As a sender it goes on with the message that was sent, and forgets the one that waited.
    short.send("50 02 0001")
    await short.expect("62 02 0001")
    short.send("70 02 0001")
    await short.expect_nothing()
    lasting = await clients.connect(V5, "lasting", flags="00", properties=_LASTING, connack=CONNACK_PRESENT)
    again = await lasting.receive(len(b"\x3c\x0e\0\1a\0\1\5\2\0\0\0\1sent"))
    assert (again[0], again[-4:]) == (0x3C, b"sent")
    lasting.send("50 02 0001")
    await lasting.expect("62 02 0001")
    lasting.send("70 02 0001")
    await lasting.expect_nothing()
    # The Session of one second is there after more than that: its connection is open.
    publisher.send("30 .. \"a\" 00 'now'")
    await short.expect("30 .. \"a\" 00 'now'")


@pytest.mark.clause("v5", "MQTT-3.10.4-1")
@pytest.mark.clause("v5", "MQTT-3.11.3-2")
async def test_shared_subscription_is_another_than_its_filter(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send(
        '82 .. 0001 00 "$share/g/a" 01 "a" 00', 'A2 .. 0002 00 "$share/h/a" "$share/g/a" "$share/g/a"'
    )
    await client.expect("90 .. 0001 00 01 00", "B0 .. 0002 00 11 00 11")
    client.send('30 .. "a" 00')
    await client.expect('30 .. "a" 00')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-8")
@pytest.mark.clause("v5", "MQTT-3.1.3-9")
async def test_take_over_publishes_a_will_without_delay_only(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "w")
    for properties, payload, connack in (
        ("00", "now", CONNACK),
        ("{18 0000003C}", "late", CONNACK_PRESENT),
        ("{18 0000003C}", "late", CONNACK_PRESENT),
    ):
        await clients.connect(
            V5,
            flags="04",
            properties="11 0000003C",
            payload=f'{properties} "w" "{payload}"',
            connack=connack,
        )
    await watcher.expect("30 .. \"w\" 00 'now'")
    await watcher.expect_nothing()
