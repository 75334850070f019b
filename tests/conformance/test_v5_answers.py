import pytest

from literal_bytes import V5, LiteralClient, LiteralClients

#: What is answered by a failure: the packet, and the shortest form of the answer.
_FAILURES = {
    "PUBACK": ('32 .. "denied/a" 0001 00', "40 03 0001 87"),
    "PUBREC": ('34 .. "denied/a" 0002 00', "50 03 0002 87"),
    "PUBREL": ("50 02 0003", "62 03 0003 92"),
    "PUBCOMP": ("62 02 0004", "70 03 0004 92"),
    "SUBACK": ('82 .. 0005 00 "denied/a" 00 "b" 01', "90 05 0005 00 87 01"),
    "UNSUBACK": ('A2 .. 0006 00 "a" "b/c"', "B0 05 0006 00 11 11"),
}


async def _small(clients: LiteralClients) -> LiteralClient:
    """A Client that takes its CONNACK of 16 bytes, and no packet that is larger."""
    return await clients.connect(V5, properties="27 00000010")


@pytest.mark.clause("v5", "MQTT-3.1.2-24")
@pytest.mark.clause("v5", "MQTT-3.4.2-1")
@pytest.mark.clause("v5", "MQTT-3.4.2-2")
@pytest.mark.clause("v5", "MQTT-3.4.2-3")
@pytest.mark.clause("v5", "MQTT-3.5.2-1")
@pytest.mark.clause("v5", "MQTT-3.5.2-2")
@pytest.mark.clause("v5", "MQTT-3.5.2-3")
@pytest.mark.clause("v5", "MQTT-3.6.2-1")
@pytest.mark.clause("v5", "MQTT-3.6.2-2")
@pytest.mark.clause("v5", "MQTT-3.6.2-3")
@pytest.mark.clause("v5", "MQTT-3.7.2-1")
@pytest.mark.clause("v5", "MQTT-3.7.2-2")
@pytest.mark.clause("v5", "MQTT-3.7.2-3")
@pytest.mark.clause("v5", "MQTT-3.9.2-1")
@pytest.mark.clause("v5", "MQTT-3.9.2-2")
@pytest.mark.clause("v5", "MQTT-3.9.3-2")
@pytest.mark.clause("v5", "MQTT-3.11.2-1")
@pytest.mark.clause("v5", "MQTT-3.11.2-2")
@pytest.mark.clause("v5", "MQTT-3.11.3-2")
@pytest.mark.parametrize("switches", [{}, {"reason_strings": True}], ids=["codes", "reason-strings"])
@pytest.mark.parametrize(("packet", "answer"), _FAILURES.values(), ids=_FAILURES)
async def test_failure_that_must_be_short_says_its_code_alone(
    clients: LiteralClients, packet: str, answer: str
) -> None:
    client = await _small(clients)
    client.send(packet)
    await client.expect(answer)
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.2-29")
@pytest.mark.parametrize("switches", [{}, {"reason_strings": True}], ids=["codes", "reason-strings"])
@pytest.mark.parametrize(("packet", "answer"), _FAILURES.values(), ids=_FAILURES)
async def test_failure_says_its_code_alone_to_who_asked_for_no_more(
    clients: LiteralClients, packet: str, answer: str
) -> None:
    client = await clients.connect(V5, properties="17 00")
    client.send(packet)
    await client.expect(answer)
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.14.2-1")
@pytest.mark.clause("v5", "MQTT-3.14.2-2")
@pytest.mark.clause("v5", "MQTT-3.14.2-3")
@pytest.mark.clause("v5", "MQTT-3.14.2-4")
@pytest.mark.clause("v5", "MQTT-3.14.4-1")
@pytest.mark.clause("v5", "MQTT-3.14.4-2")
@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.parametrize("switches", [{}, {"reason_strings": True}], ids=["codes", "reason-strings"])
@pytest.mark.parametrize(
    ("packet", "code"),
    [
        ("C1 00", "81"),
        ("D0 00", "82"),
        ('30 .. "a/#" 00', "90"),
        ('30 .. "a" {23 FFFF}', "94"),
        ('30 .. "denied/a" 00', "87"),
    ],
)
async def test_disconnect_that_must_be_short_says_its_code_alone_and_nothing_follows(
    clients: LiteralClients, packet: str, code: str
) -> None:
    client = await _small(clients)
    client.send("C0 00", packet, "C0 00")
    await client.expect_closed("D0 00", f"E0 01 {code}")


@pytest.mark.clause("v5", "MQTT-3.14.2-3")
@pytest.mark.parametrize("switches", [{"reason_strings": True}])
async def test_disconnect_has_words_as_far_as_the_client_takes_them(clients: LiteralClients) -> None:
    for size, answer in ((21, 'E0 .. 82 {1F "Protocol error"}'), (20, "E0 01 82")):
        client = await clients.connect(V5, properties=f"27 {size:08X}")
        client.send("D0 00")
        await client.expect_closed(answer)


@pytest.mark.clause("v5", "MQTT-3.14.2-2")
@pytest.mark.clause("v5", "MQTT-3.14.4-2")
async def test_disconnect_of_a_lasting_session_says_nothing_of_its_expiry(clients: LiteralClients) -> None:
    first = await clients.connect(V5, flags="00", properties="11 0000003C 27 00000010")
    await clients.connect(V5, flags="02")
    await first.expect_closed("E0 01 8E")


_REMARKS = '{1F "r" 26 "k" "v" 26 "k" "v"}'
_BAD_REMARKS = {
    "reason-string-twice": ("40 .. 0001 00 {1F 0000 1F 0000}", "82"),
    "reason-string-not-utf-8": ("40 .. 0001 00 {1F 0001 FF}", "81"),
    "of-another-packet": ("50 .. 0001 00 {11 00000001}", "81"),
    "reason-string-of-subscribe": ('82 .. 0001 {1F "r"} "a" 00', "81"),
    "identifier-of-unsubscribe": ('A2 .. 0001 {0B 01} "a"', "81"),
    "longer-than-the-packet": ("62 .. 0001 00 01", "81"),
    "expiry-twice": ("E0 .. 00 {11 00000001 11 00000001}", "82"),
    "limit-of-connect": ("E0 .. 00 {21 0001}", "81"),
}


async def test_remarks_of_the_client_are_read_wherever_they_may_stand(clients: LiteralClients) -> None:
    client = await clients.connect(V5)
    client.send('82 .. 0001 {26 "k" "v" 26 "k" "v"} "a" 02', '32 .. "a" 0001 00', '34 .. "a" 0002 00')
    await client.expect("90 .. 0001 00 02")
    await client.expect_in_any_order('32 .. "a" 0001 00', '34 .. "a" 0002 00', "40 02 0001", "50 02 0002")
    client.send(f"62 .. 0002 00 {_REMARKS}")
    await client.expect("70 02 0002")
    client.send(f"40 .. 0001 00 {_REMARKS}", f"50 .. 0002 00 {_REMARKS}")
    await client.expect("62 02 0002")
    client.send(f"70 .. 0002 00 {_REMARKS}", 'A2 .. 0003 {26 "k" "v"} "a"')
    await client.expect("B0 .. 0003 00 00")
    client.send(f"E0 .. 00 {_REMARKS}")
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.parametrize(("packet", "code"), _BAD_REMARKS.values(), ids=_BAD_REMARKS)
async def test_remarks_that_are_illegal_end_the_connection(
    clients: LiteralClients, packet: str, code: str
) -> None:
    client = await _small(clients)
    client.send(packet)
    await client.expect_closed(f"E0 01 {code}")
