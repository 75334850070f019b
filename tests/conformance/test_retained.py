import pytest

from literal_bytes import V5, LiteralClients


@pytest.mark.clause("v5", "MQTT-3.3.1-5")
@pytest.mark.clause("v5", "MQTT-3.3.1-9")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-5")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-6")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-8")
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_new_subscription_brings_the_last_retained_message(
    clients: LiteralClients, version: int, published: int, granted: int
) -> None:
    publisher = await clients.connect(version)
    publisher.send(
        "31 .. \"a/b\" [00] 'first'",
        f"3{published * 2 + 1} .. \"a/b\" {'0001' if published else ''} [00] 'last'",
    )
    await publisher.expect(*("", "40 .. 0001 [10]", "50 .. 0001 [10]")[published : published + 1])
    await publisher.expect_nothing()
    subscriber = await clients.subscribed(version, "a/+", granted)
    qos = min(published, granted)
    await subscriber.expect(f"3{qos * 2 + 1} .. \"a/b\" {'0001' if qos else ''} [00] 'last'")
    await subscriber.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.3.1-12")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-9")
async def test_live_subscription_gets_it_without_retain(clients: LiteralClients, version: int) -> None:
    subscriber = await clients.subscribed(version, "a")
    publisher = await clients.connect(version)
    publisher.send("31 .. \"a\" [00] 'now'")
    await subscriber.expect("30 .. \"a\" [00] 'now'")


@pytest.mark.clause("v5", "MQTT-3.3.1-13")
async def test_retain_as_published_keeps_the_flag(clients: LiteralClients) -> None:
    subscriber = await clients.connect(V5, "subscriber")
    subscriber.send('82 .. 0001 00 "a" 08')
    await subscriber.expect("90 .. 0001 00 00")
    publisher = await clients.connect(V5)
    publisher.send('31 .. "a" 00', '30 .. "a" 00')
    await subscriber.expect('31 .. "a" 00', '30 .. "a" 00')


@pytest.mark.clause("v5", "MQTT-3.3.1-6")
@pytest.mark.clause("v5", "MQTT-3.3.1-7")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-10")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-11")
async def test_empty_retained_message_removes_and_is_delivered_as_any(
    clients: LiteralClients, version: int
) -> None:
    live = await clients.subscribed(version, "a", client_id="live")
    publisher = await clients.connect(version)
    publisher.send("31 .. \"a\" [00] 'kept'", '31 .. "a" [00]', '31 .. "never" [00]')
    await live.expect("30 .. \"a\" [00] 'kept'", '30 .. "a" [00]')
    late = await clients.subscribed(version, "#", client_id="late")
    await late.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.3.1-8")
@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-12")
async def test_message_without_retain_leaves_the_retained_one(clients: LiteralClients, version: int) -> None:
    live = await clients.subscribed(version, "a", client_id="live")
    publisher = await clients.connect(version)
    publisher.send("31 .. \"a\" [00] 'kept'", "30 .. \"a\" [00] 'passing'", '30 .. "a" [00]')
    await live.expect("30 .. \"a\" [00] 'kept'", "30 .. \"a\" [00] 'passing'", '30 .. "a" [00]')
    late = await clients.subscribed(version, "a", client_id="late")
    await late.expect("31 .. \"a\" [00] 'kept'")
    await late.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-3.3.1-7")
async def test_qos_0_replaces_a_retained_message_of_higher_qos(clients: LiteralClients, version: int) -> None:
    publisher = await clients.connect(version)
    publisher.send("33 .. \"a\" 0001 [00] 'old'", "31 .. \"a\" [00] 'new'")
    await publisher.expect("40 .. 0001 [10]")
    late = await clients.subscribed(version, "a", 1)
    await late.expect("31 .. \"a\" [00] 'new'")


@pytest.mark.clause("v3.1.1", "MQTT-3.8.4-3")
async def test_subscribing_again_brings_retained_messages_again(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    client.send("31 .. \"a\" [00] 'kept'")
    for _ in range(2):
        client.send('82 .. 0001 [00] "a" 00')
        await client.expect("90 .. 0001 [00] 00", "31 .. \"a\" [00] 'kept'")


@pytest.mark.clause("v5", "MQTT-3.3.1-9")
@pytest.mark.clause("v5", "MQTT-3.3.1-10")
@pytest.mark.clause("v5", "MQTT-3.3.1-11")
@pytest.mark.clause("v5", "MQTT-3.8.4-4")
@pytest.mark.parametrize(("options", "first", "again"), [("00", 1, 1), ("10", 1, 0), ("20", 0, 0)])
async def test_retain_handling_says_when_retained_messages_come(
    clients: LiteralClients, options: str, first: int, again: int
) -> None:
    client = await clients.connect(V5)
    client.send("31 .. \"a\" 00 'kept'")
    for count in (first, again):
        client.send(f'82 .. 0001 00 "a" {options}')
        await client.expect("90 .. 0001 00 00", *["31 .. \"a\" 00 'kept'"] * count)
        await client.expect_nothing()


async def test_retained_message_keeps_its_properties_and_gets_the_identifier(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('31 .. "a" {01 01 03 "text" 26 "k" "v"} \'kept\'', '82 .. 0001 {0B 07} "a" 00')
    await client.expect("90 .. 0001 00 00", '31 .. "a" {01 01 03 "text" 0B 07 26 "k" "v"} \'kept\'')


@pytest.mark.clause("v5", "MQTT-4.7.2-1")
@pytest.mark.clause("v3.1.1", "MQTT-4.7.2-1")
async def test_wildcards_bring_all_retained_messages_below_but_hidden_ones(
    clients: LiteralClients, version: int
) -> None:
    client = await clients.connect(version)
    topics = ["a", "a/b", "a/b/c", "/a", "$x/a", "b"]
    client.send(*(f"31 .. \"{topic}\" [00] 'r'" for topic in topics))
    for topic_filter, matching in (
        ("#", ["a", "a/b", "a/b/c", "/a", "b"]),
        ("a/#", ["a", "a/b", "a/b/c"]),
        ("+/+", ["a/b", "/a"]),
        ("$x/#", ["$x/a"]),
        ("a/b", ["a/b"]),
    ):
        client.send(f'82 .. 0001 [00] "{topic_filter}" 00')
        await client.expect("90 .. 0001 [00] 00")
        await client.expect_in_any_order(*(f"31 .. \"{topic}\" [00] 'r'" for topic in matching))
        await client.expect_nothing()


@pytest.mark.parametrize("limits", [{"retained_messages_maximum": 1}])
async def test_retained_message_above_the_maximum_is_delivered_but_not_kept(
    clients: LiteralClients, version: int
) -> None:
    live = await clients.subscribed(version, "#", client_id="live")
    live.send("31 .. \"a\" [00] '1'", "31 .. \"b\" [00] '2'", "31 .. \"a\" [00] '3'")
    await live.expect("30 .. \"a\" [00] '1'", "30 .. \"b\" [00] '2'", "30 .. \"a\" [00] '3'")
    late = await clients.subscribed(version, "#", client_id="late")
    await late.expect("31 .. \"a\" [00] '3'")
    await late.expect_nothing()
