import pytest

from literal_bytes import ANNOUNCED, CONNACK, V5, LiteralClients, connect_packet

#: Bytes of a CONNACK that lets in, with what a broker with default limits announces.
_CONNACK_SIZE = 16


@pytest.mark.clause("v5", "MQTT-3.1.3-8")
@pytest.mark.clause("v5", "MQTT-3.1.4-2")
@pytest.mark.clause("v5", "MQTT-3.1.4-6")
@pytest.mark.clause("v5", "MQTT-3.2.2-6")
@pytest.mark.clause("v5", "MQTT-3.2.2-7")
@pytest.mark.clause("v5", "MQTT-3.2.2-8")
@pytest.mark.clause("v5", "MQTT-4.13.2-1")
@pytest.mark.parametrize("switches", [{}, {"reason_strings": True}], ids=["codes", "reason-strings"])
@pytest.mark.parametrize(
    ("client_id", "flags", "payload", "code"),
    [
        ("refused", "02", "", "85"),
        ("c", "82", '"stranger"', "86"),
        ("c", "C2", '"stranger" "secret"', "86"),
        ("c", "06", '00 "denied/w" "m"', "87"),
    ],
    ids=["identifier", "user-name", "password", "will"],
)
async def test_refused_client_is_told_why_and_closed(
    clients: LiteralClients, client_id: str, flags: str, payload: str, code: str
) -> None:
    watcher = await clients.subscribed(V5, "#")
    client = await clients.open(V5)
    properties = "11 0000003C 27 00000005"  # No room for more than the code.
    client.send(connect_packet(V5, client_id, flags, "0000", properties, payload), "30 .. \"a\" 00 'hi'")
    await client.expect_closed(f"20 03 00 {code} 00")
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-24")
@pytest.mark.clause("v5", "MQTT-3.2.2-19")
@pytest.mark.clause("v5", "MQTT-3.2.2-20")
@pytest.mark.clause("v5", "MQTT-4.13.2-1")
async def test_connack_is_no_larger_than_the_client_takes(clients: LiteralClients) -> None:
    fitting = await clients.connect(V5, "1", properties=f"27 {_CONNACK_SIZE:08X}")
    await fitting.expect_nothing()
    refused = await clients.open(V5)
    refused.send(connect_packet(V5, "2", properties=f"27 {_CONNACK_SIZE - 1:08X}"))
    await refused.expect_closed("20 .. 00 95 00")
    for size in (5, 4, 1):
        refused = await clients.open(V5)
        refused.send(connect_packet(V5, "3", properties=f"27 {size:08X}"))
        await refused.expect_closed(*["20 03 00 95 00"] * (size == 5))


@pytest.mark.clause("v5", "MQTT-3.2.2-19")
@pytest.mark.parametrize("switches", [{"reason_strings": True}])
async def test_refusal_has_words_as_far_as_the_client_takes_them(clients: LiteralClients) -> None:
    said = '20 .. 00 85 {1F "Client identifier not valid"}'
    for size, answer in ((35, said), (34, "20 .. 00 85 00")):
        client = await clients.open(V5)
        client.send(connect_packet(V5, "refused", properties=f"27 {size:08X}"))
        await client.expect_closed(answer)


@pytest.mark.clause("v5", "MQTT-3.1.2-28")
@pytest.mark.parametrize("properties", ["", "19 00"], ids=["absent", "0"])
async def test_no_response_information_comes_unasked(clients: LiteralClients, properties: str) -> None:
    await clients.connect(V5, properties=properties, connack=f"20 .. 00 00 {{{ANNOUNCED}}}")


@pytest.mark.clause("v5", "MQTT-4.12.0-6")
async def test_who_named_no_method_hears_of_none(clients: LiteralClients) -> None:
    client = await clients.open(V5)
    client.send(connect_packet(V5), "C0 00")
    await client.expect(CONNACK, "D0 00")


@pytest.mark.clause("v5", "MQTT-3.14.0-1")
@pytest.mark.parametrize(
    "packet",
    [
        "E0 00",
        "C0 00",
        "F0 00",
        '10 .. "MQTT" 05 03 0000 00 "c"',
        '10 .. "MQTT" 05 02 0000 {1100} "c"',
        "FF FF",
    ],
)
async def test_there_is_no_disconnect_without_a_connack(clients: LiteralClients, packet: str) -> None:
    client = await clients.open(V5)
    client.send(packet)
    if packet == "FF FF":
        client.send("FF FF FF FF")
    await client.expect_closed()
