import pytest

from literal_bytes import ANNOUNCED, CONNACK, V5, LiteralClient, LiteralClients, connect_packet

# The broker of these tests has one method, RIDDLE: the Client says who it is, is told 7, and answers 8.

_CONNECT = connect_packet(V5, properties='15 "RIDDLE" 16 "alice"')
_CHALLENGE = 'F0 .. 18 {15 "RIDDLE" 16 "7"}'
_ANSWER = 'F0 .. 18 {15 "RIDDLE" 16 "8"}'
_WRONG = 'F0 .. 18 {15 "RIDDLE" 16 "9"}'
_AGAIN = 'F0 .. 19 {15 "RIDDLE" 16 "alice"}'
_WELCOME = '15 "RIDDLE" 16 "welcome"'
_CONNACK = f"20 .. 00 00 {{{_WELCOME} {ANNOUNCED}}}"


async def _let_in(clients: LiteralClients) -> LiteralClient:
    client = await clients.open(V5)
    client.send(_CONNECT)
    await client.expect(_CHALLENGE)
    client.send(_ANSWER)
    await client.expect(_CONNACK)
    return client


@pytest.mark.clause("v5", "MQTT-3.2.0-1")
@pytest.mark.clause("v5", "MQTT-3.15.2-1")
@pytest.mark.clause("v5", "MQTT-4.12.0-2")
@pytest.mark.clause("v5", "MQTT-4.12.0-3")
@pytest.mark.clause("v5", "MQTT-4.12.0-5")
async def test_right_answer_lets_the_client_in(clients: LiteralClients) -> None:
    client = await _let_in(clients)
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.1.4-6")
@pytest.mark.clause("v5", "MQTT-3.2.2-6")
@pytest.mark.clause("v5", "MQTT-4.12.0-4")
@pytest.mark.clause("v5", "MQTT-4.13.2-1")
async def test_wrong_answer_is_refused_and_nothing_follows(clients: LiteralClients) -> None:
    watcher = await clients.subscribed(V5, "a")
    client = await clients.open(V5)
    client.send(_CONNECT)
    await client.expect(_CHALLENGE)
    client.send(_WRONG, "30 .. \"a\" 00 'hi'")
    await client.expect_closed("20 03 00 87 00")
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.12.0-1")
@pytest.mark.clause("v5", "MQTT-3.2.2-8")
@pytest.mark.parametrize("method", ["riddle", "RIDDLES", "SCRAM-SHA-1", ""])
async def test_method_that_is_not_supported_is_refused(clients: LiteralClients, method: str) -> None:
    client = await clients.open(V5)
    client.send(connect_packet(V5, properties=f'15 "{method}"'))
    await client.expect_closed("20 03 00 8C 00")


@pytest.mark.clause("v5", "MQTT-3.14.0-1")
@pytest.mark.clause("v5", "MQTT-4.12.0-3")
@pytest.mark.clause("v5", "MQTT-4.12.0-5")
@pytest.mark.parametrize(
    "answer",
    ['F0 .. 18 {15 "OTHER" 16 "8"}', "F0 .. 18 00", _AGAIN, 'F0 .. 00 {15 "RIDDLE" 16 "8"}', "F0 00"],
    ids=["other-method", "no-method", "again", "success", "empty"],
)
async def test_answer_of_another_kind_ends_the_connection_without_disconnect(
    clients: LiteralClients, answer: str
) -> None:
    client = await clients.open(V5)
    client.send(_CONNECT)
    await client.expect(_CHALLENGE)
    client.send(answer)
    await client.expect_closed()


@pytest.mark.clause("v5", "MQTT-3.1.2-30")
@pytest.mark.clause("v5", "MQTT-3.14.0-1")
@pytest.mark.parametrize(
    "packet", ["C0 00", "30 .. \"a\" 00 'hi'", '82 .. 0001 00 "a" 00', _CONNECT, "E0 00"]
)
async def test_nothing_but_auth_is_processed_before_connack(clients: LiteralClients, packet: str) -> None:
    watcher = await clients.subscribed(V5, "#")
    client = await clients.open(V5)
    client.send(_CONNECT)
    await client.expect(_CHALLENGE)
    client.send(packet, _ANSWER)
    await client.expect_closed()
    await watcher.expect_nothing()


@pytest.mark.clause("v5", "MQTT-3.15.2-1")
@pytest.mark.clause("v5", "MQTT-4.12.0-5")
@pytest.mark.clause("v5", "MQTT-4.12.1-1")
async def test_client_may_authenticate_again_and_goes_on_meanwhile(clients: LiteralClients) -> None:
    client = await _let_in(clients)
    for _ in range(2):
        client.send(_AGAIN)
        await client.expect(_CHALLENGE)
        await client.expect_nothing()
        client.send(_ANSWER)
        await client.expect(f"F0 .. 00 {{{_WELCOME}}}")
    await client.expect_nothing()


@pytest.mark.clause("v5", "MQTT-4.12.1-2")
@pytest.mark.clause("v5", "MQTT-4.13.2-1")
async def test_wrong_answer_to_the_second_question_ends_the_connection(clients: LiteralClients) -> None:
    client = await _let_in(clients)
    client.send(_AGAIN)
    await client.expect(_CHALLENGE)
    client.send(_WRONG)
    await client.expect_closed("E0 01 87")


@pytest.mark.clause("v5", "MQTT-4.12.0-7")
@pytest.mark.clause("v5", "MQTT-4.12.1-1")
@pytest.mark.parametrize(
    "packet",
    ['F0 .. 19 {15 "OTHER" 16 "alice"}', "F0 .. 19 00", _ANSWER, 'F0 .. 00 {15 "RIDDLE"}', "F0 00"],
    ids=["other-method", "no-method", "answer", "success", "empty"],
)
@pytest.mark.parametrize("has_method", [True, False])
async def test_auth_out_of_turn_is_a_protocol_error(
    clients: LiteralClients, has_method: bool, packet: str
) -> None:
    client = await _let_in(clients) if has_method else await clients.connect(V5)
    client.send(packet)
    await client.expect_closed("E0 01 82")


@pytest.mark.clause("v5", "MQTT-3.15.1-1")
@pytest.mark.clause("v5", "MQTT-2.1.3-1")
@pytest.mark.parametrize("first_byte", ["F1", "F2", "F4", "F8", "FF"])
async def test_auth_with_reserved_flags_is_malformed(clients: LiteralClients, first_byte: str) -> None:
    client = await _let_in(clients)
    client.send(first_byte + _AGAIN[2:])
    await client.expect_closed("E0 01 81")


@pytest.mark.clause("v5", "MQTT-3.15.2-1")
@pytest.mark.parametrize("code", ["01", "17", "1A", "87", "FF"])
async def test_auth_with_a_code_of_another_packet_is_a_protocol_error(
    clients: LiteralClients, code: str
) -> None:
    client = await _let_in(clients)
    client.send(f'F0 .. {code} {{15 "RIDDLE" 16 "alice"}}')
    await client.expect_closed("E0 01 82")


@pytest.mark.clause("v5", "MQTT-3.15.2-2")
@pytest.mark.clause("v5", "MQTT-3.15.2-3")
@pytest.mark.parametrize("switches", [{}, {"reason_strings": True}], ids=["codes", "reason-strings"])
async def test_auth_has_no_room_for_more_than_it_must_say(clients: LiteralClients) -> None:
    client = await clients.open(V5)
    # The CONNACK has 35 bytes.
    client.send(connect_packet(V5, properties='15 "RIDDLE" 16 "alice" 27 00000023'))
    await client.expect(_CHALLENGE)
    client.send(_ANSWER)
    await client.expect(_CONNACK)
    client.send(_AGAIN)
    await client.expect(_CHALLENGE)


@pytest.mark.clause("v5", "MQTT-4.12.0-6")
async def test_other_clients_are_asked_nothing(clients: LiteralClients) -> None:
    await _let_in(clients)
    client = await clients.open(V5)
    client.send(connect_packet(V5, "other"))
    await client.expect(CONNACK)
    await client.expect_nothing()
