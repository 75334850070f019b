import pytest

from literal_bytes import CONNACK_PRESENT, V3_1_1, V5, LiteralClients

_MATCHING = [
    ("sport/tennis/player1/#", "sport/tennis/player1"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
    ("sport/#", "sport"),
    ("#", "a"),
    ("#", "/a/"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/+", "sport/"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+", "finance"),
    ("+/tennis/#", "sport/tennis/x"),
    ("+/+/+", "//"),
    ("$x/#", "$x/a"),
    ("$x/+/b", "$x/a/b"),
    ("a b/ö/€", "a b/ö/€"),
    ("$", "$"),
    ("a/$x", "a/$x"),
    ("+/$x", "a/$x"),
]
_NOT_MATCHING = [
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("sport/+", "sport"),
    ("+", "/finance"),
    ("sport/#", "sports"),
    ("a", "A"),
    ("a", "a/"),
    ("/a", "a"),
    ("a//b", "a/b"),
    ("a", "a "),
    ("#", "$x/a"),
    ("+/a", "$x/a"),
    ("+", "$x"),
    ("#", "$"),
]


@pytest.mark.clause("v5", "MQTT-3.3.2-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.2-3")
@pytest.mark.clause("v3.1.1", "MQTT-3.8.3-2")
@pytest.mark.parametrize(("topic_filter", "topic"), _MATCHING)
async def test_filter_matches(clients: LiteralClients, version: int, topic_filter: str, topic: str) -> None:
    client = await clients.subscribed(version, topic_filter)
    client.send(f'30 .. "{topic}" [00]')
    await client.expect(f'30 .. "{topic}" [00]')


@pytest.mark.clause("v5", "MQTT-4.7.2-1")
@pytest.mark.clause("v5", "MQTT-3.3.2-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.2-3")
@pytest.mark.parametrize(("topic_filter", "topic"), _NOT_MATCHING)
async def test_filter_does_not_match(
    clients: LiteralClients, version: int, topic_filter: str, topic: str
) -> None:
    client = await clients.subscribed(version, topic_filter)
    client.send(f'30 .. "{topic}" [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.7.1-1")
@pytest.mark.clause("v5", "MQTT-4.7.1-2")
@pytest.mark.clause("v5", "MQTT-4.7.3-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.1-2")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.1-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-1")
@pytest.mark.parametrize("packet", ['82 .. 0001 [00] "{}" 00', 'A2 .. 0001 [00] "{}"'])
@pytest.mark.parametrize("topic_filter", ["", "a#", "#/a", "a/#/b", "##", "/#/", "+a", "a+/b", "++", "#+"])
async def test_misplaced_wildcard_ends_the_connection(
    clients: LiteralClients, version: int, topic_filter: str, packet: str
) -> None:
    client = await clients.connect(version)
    client.send(packet.format(topic_filter))
    await client.expect_closed("[E0 01 8F]")


@pytest.mark.clause("v5", "MQTT-4.7.3-4")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-4")
async def test_topics_are_not_normalised(clients: LiteralClients, version: int) -> None:
    composed, decomposed = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"
    client = await clients.subscribed(version, composed)
    client.send(f'30 .. "{decomposed}" [00]', f'30 .. "{composed}" [00]')
    await client.expect(f'30 .. "{composed}" [00]')
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-1.5.4-3")
@pytest.mark.clause("v3.1.1", "MQTT-1.5.3-3")
async def test_byte_order_mark_is_a_letter(clients: LiteralClients, version: int) -> None:
    client = await clients.subscribed(version, "#")
    client.send("30 .. 0004 EFBBBF 'a' [00]")
    await client.expect("30 .. 0004 EFBBBF 'a' [00]")
    plain = await clients.subscribed(version, "a", client_id="plain")
    client.send("30 .. 0004 EFBBBF 'a' [00]")
    await client.expect("30 .. 0004 EFBBBF 'a' [00]")
    await plain.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.7.3-3")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.3-3")
async def test_topic_may_have_65535_bytes(clients: LiteralClients, version: int) -> None:
    topic = "t" * 65_535
    client = await clients.subscribed(version, topic)
    client.send(f'30 .. "{topic}" [00]')
    await client.expect(f'30 .. "{topic}" [00]')


@pytest.mark.parametrize("limits", [{"topic_levels_maximum": 3, "topic_bytes_maximum": 10}])
@pytest.mark.parametrize("topic", ["1/2/3/4", "///", "12345678901"])
async def test_topics_beyond_our_limits_are_refused(
    clients: LiteralClients, version: int, topic: str
) -> None:
    client = await clients.connect(version)
    client.send(f'82 .. 0001 [00] "{topic}" 00 "1/2/345678" 00')
    await client.expect(f"90 .. 0001 [00] {'8F' if version == V5 else '80'} 00")
    client.send('30 .. "1/2/345678" [00]', f'30 .. "{topic}" [00]')
    await client.expect('30 .. "1/2/345678" [00]')
    await client.expect_closed("[E0 01 90]")


# Shared Subscriptions.


@pytest.mark.clause("v5", "MQTT-4.8.2-1")
@pytest.mark.clause("v5", "MQTT-4.8.2-2")
@pytest.mark.parametrize("topic_filter", ["$share//a", "$share/+/a", "$share/g#/a", "$share/g/", "$share/g"])
async def test_malformed_shared_subscription_is_a_protocol_error(
    clients: LiteralClients, topic_filter: str
) -> None:
    client = await clients.connect(V5)
    client.send(f'82 .. 0001 00 "{topic_filter}" 00')
    await client.expect_closed("E0 01 82")


@pytest.mark.clause("v5", "MQTT-3.8.3-4")
async def test_no_local_on_a_shared_subscription_is_a_protocol_error(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('82 .. 0001 00 "$share/g/a" 04')
    await client.expect_closed("E0 01 82")


async def test_shared_message_goes_to_one_member(clients: LiteralClients) -> None:
    members = [await clients.subscribed(V5, "$share/g/a", 1, client_id=name) for name in "12"]
    other = await clients.subscribed(V5, "$share/h/a", 1, client_id="3")
    publisher = await clients.connect(V5)
    publisher.send(*(f'32 .. "a" {number:04X} 00' for number in range(1, 5)))
    for member in members:
        await member.expect('32 .. "a" 0001 00', '32 .. "a" 0002 00')
        await member.expect_nothing()
    await other.expect(*(f'32 .. "a" {number:04X} 00' for number in range(1, 5)))


@pytest.mark.clause("v5", "MQTT-4.8.2-3")
async def test_shared_message_comes_at_the_qos_of_its_member(clients: LiteralClients) -> None:
    member = await clients.subscribed(V5, "$share/g/a", 1)
    publisher = await clients.connect(V5)
    publisher.send('34 .. "a" 0001 00', '30 .. "a" 00')
    await member.expect('32 .. "a" 0001 00', '30 .. "a" 00')


@pytest.mark.clause("v5", "MQTT-4.8.2-4")
async def test_shared_qos_2_message_waits_for_the_member_that_it_was_sent_to(clients: LiteralClients) -> None:
    lasting = {"flags": "00", "properties": "11 FFFFFFFF"}
    chosen = await clients.connect(V5, "chosen", **lasting)
    chosen.send('82 .. 0001 00 "$share/g/a" 02')
    await chosen.expect("90 .. 0001 00 02")
    publisher = await clients.connect(V5, "publisher")
    publisher.send('34 .. "a" 0001 00')
    await chosen.expect('34 .. "a" 0001 00')
    other = await clients.subscribed(V5, "$share/g/a", 2, client_id="other")
    chosen.send("E0 00")
    await chosen.expect_closed()
    await other.expect_nothing()
    chosen = await clients.connect(V5, "chosen", **lasting, connack=CONNACK_PRESENT)
    await chosen.expect('3C .. "a" 0001 00')


async def test_share_alone_is_a_level_like_any_other(clients: LiteralClients) -> None:
    client = await clients.subscribed(V3_1_1, "$share")
    client.send('30 .. "$share"')
    await client.expect('30 .. "$share"')
