import pytest

from literal_bytes import V5, LiteralClient, LiteralClients

_TOPICS = ("a/topic/worth/an/alias", "another/topic/worth/an/alias", "a/third/topic/worth/an/alias")


async def _aliases(client: LiteralClient, topics: list[str]) -> list[int]:
    """Read QoS 0 messages without payload on these topics; return the Topic Alias of each, 0 for none."""
    known: dict[int, str] = {}
    aliases = []
    for topic in topics:
        head = await client.receive(2)
        assert head[0] == 0x30
        body = await client.receive(head[1])
        length = int.from_bytes(body[:2], "big")
        name, properties = body[2 : 2 + length].decode(), body[2 + length :]
        alias = 0
        if properties != b"\0":
            assert properties[:2] == b"\x03\x23"
            alias = int.from_bytes(properties[2:], "big")
            name = name or known[alias]
            known[alias] = name
        assert name == topic
        aliases.append(alias)
    return aliases


@pytest.mark.clause("v5", "MQTT-3.1.2-26")
@pytest.mark.clause("v5", "MQTT-3.3.2-8")
@pytest.mark.clause("v5", "MQTT-3.3.2-11")
@pytest.mark.parametrize("maximum", [1, 2, 65_535])
async def test_aliases_stay_within_the_maximum_of_the_client(clients: LiteralClients, maximum: int) -> None:
    client = await clients.connect(V5, properties=f"22 {maximum:04X}")
    client.send('82 .. 0001 00 "#" 00')
    await client.expect("90 .. 0001 00 00")
    publisher = await clients.connect(V5, "publisher")
    topics = [topic for topic in _TOPICS * 3 for _ in range(3)]
    publisher.send(*(f'30 .. "{topic}" 00' for topic in topics))
    aliases = await _aliases(client, topics)
    assert 0 < max(aliases) <= maximum
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-27")
@pytest.mark.clause("v5", "MQTT-3.3.2-11")
@pytest.mark.parametrize("properties", ["", "22 0000"], ids=["absent", "0"])
async def test_no_alias_is_sent_to_who_takes_none(clients: LiteralClients, properties: str) -> None:
    client = await clients.connect(V5, properties=properties)
    other = await clients.connect(V5, "other", properties="22 000A")
    for subscriber in (client, other):
        subscriber.send('82 .. 0001 00 "#" 00')
        await subscriber.expect("90 .. 0001 00 00")
    publisher = await clients.connect(V5, "publisher")
    topics = [*_TOPICS * 3]
    publisher.send(*(f'30 .. "{topic}" {{23 {alias:04X}}}' for alias, topic in enumerate(topics, 1)))
    await client.expect(*(f'30 .. "{topic}" 00' for topic in topics))
    await _aliases(other, topics)


@pytest.mark.clause("v5", "MQTT-3.3.2-7")
async def test_aliases_of_the_broker_end_with_the_connection(clients: LiteralClients) -> None:
    publisher = await clients.connect(V5, "publisher")
    for present in ("00", "01"):
        client = await clients.open(V5)
        client.send('10 .. "MQTT" 05 00 0000 {11 FFFFFFFF 22 000A} "lasting"', '82 .. 0001 00 "#" 20')
        await client.expect(f"20 .. {present} 00 {{21 0400 22 0020 27 01000000}}", "90 .. 0001 00 00")
        topics = [*_TOPICS * 3]
        publisher.send(*(f'30 .. "{topic}" 00' for topic in topics))
        await _aliases(client, topics)
        client.send("E0 00")
        await client.expect_closed()
