import asyncio

import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, LiteralClients, connect_packet

_FIELDS_WITHOUT_FLAG = {
    "will": ("02", '"w" "m"'),
    "user-name": ("02", '"u"'),
    "user-name-and-password": ("02", '"u" "p"'),
    "password": ("82", '"u" "p"'),
    "will-before-user-name-and-password": ("C2", '"w" "m" "u" "p"'),
    "user-name-beside-will": ("06", '"w" "m" "u"'),
}


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-11")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-18")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-20")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.4-1")
@pytest.mark.parametrize(("flags", "payload"), _FIELDS_WITHOUT_FLAG.values(), ids=_FIELDS_WITHOUT_FLAG)
async def test_field_without_its_flag_ends_the_connection_without_connack(
    clients: LiteralClients, flags: str, payload: str
) -> None:
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, flags=flags, payload=payload))
    await client.expect_closed()


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-19")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-20")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-21")
@pytest.mark.parametrize(
    ("flags", "payload"), [("82", '"u"'), ("82", '""'), ("C2", '"u" ""'), ("C2", '"u" 0002 00FF')]
)
async def test_user_name_may_come_alone_and_a_password_is_any_bytes(
    clients: LiteralClients, flags: str, payload: str
) -> None:
    client = await clients.connect(V3_1_1, flags=flags, payload=payload)
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-6")
@pytest.mark.parametrize("limits", [{"topic_levels_maximum": 2}])
async def test_refusal_for_which_there_is_no_return_code_is_silent(clients: LiteralClients) -> None:
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, flags="06", payload='"w/2/3" "m"'))
    await client.expect_closed()
    await clients.connect(V3_1_1, flags="06", payload='"w/2" "m"')


@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-4")
@pytest.mark.clause("v3.1.1", "MQTT-3.2.2-5")
async def test_session_is_not_present_beside_a_refusal_though_there_is_one(clients: LiteralClients) -> None:
    client = await clients.connect(V3_1_1, flags="00")
    client.send("E0 00")
    await client.expect_closed()
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, flags="04", payload='"denied/w" "m"'))
    await client.expect_closed("20 02 00 05")
    await clients.connect(V3_1_1, flags="00", connack=CONNACK_PRESENT)


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-10")
async def test_will_that_was_discarded_belongs_to_no_later_connection(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V3_1_1, "w")
    client = await clients.connect(V3_1_1, flags="04", payload='"w" "gone"')
    client.send("E0 00")
    await client.expect_closed()
    client = await clients.connect(V3_1_1, flags="00", connack=CONNACK_PRESENT)
    client.abort()
    await clients.connect(V3_1_1, flags="00", connack=CONNACK_PRESENT)
    await watcher.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.14.1-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
@pytest.mark.parametrize("packet", ["E1 00", "E8 00", "E0 01 00"])
async def test_malformed_disconnect_does_not_discard_the_will(clients: LiteralClients, packet: str) -> None:
    watcher = await clients.subscribed(V3_1_1, "w")
    client = await clients.connect(V3_1_1, flags="06", payload='"w" "gone"')
    client.send(packet)
    await client.expect_closed()
    await watcher.expect("30 .. \"w\" 'gone'")


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
async def test_will_is_published_when_the_client_closes_without_disconnect(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V3_1_1, "w")
    client = await clients.connect(V3_1_1, flags="06", payload='"w" "gone"')
    await client.close()
    await watcher.expect("30 .. \"w\" 'gone'")


@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-24")
@pytest.mark.asyncio(loop_factories=["uvloop"])  # It waits in earnest: Keep Alive is in whole seconds.
async def test_will_is_published_when_the_client_falls_silent(clients: LiteralClients) -> None:
    loop = asyncio.get_running_loop()
    watcher = await clients.subscribed(V3_1_1, "w")
    since = loop.time()
    client = await clients.connect(V3_1_1, flags="06", keep_alive="0001", payload='"w" "gone"')
    await watcher.expect("30 .. \"w\" 'gone'")
    assert 1.5 <= loop.time() - since < 2.5
    await client.expect_closed()


@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.1-1")
@pytest.mark.parametrize("topic", ['""', "0001 00", '"#"', '"a+"'])
async def test_will_topic_that_is_no_topic_name_ends_the_connection_without_connack(
    clients: LiteralClients, topic: str
) -> None:
    client = await clients.open(V3_1_1)
    client.send(connect_packet(V3_1_1, flags="06", payload=f'{topic} "m"'))
    await client.expect_closed()
