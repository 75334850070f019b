import asyncio

import pytest

from literal_bytes import ANNOUNCED, V3_1_1, V5, LiteralClients

# These wait in earnest: the protocol counts in whole seconds. So they do much at once, some on one loop only.
_ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.mark.clause("v5", "MQTT-3.1.2-22")
@pytest.mark.clause("v5", "MQTT-3.2.2-22")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-24")
async def test_silence_of_one_and_a_half_keep_alive_ends_the_connection(clients: LiteralClients) -> None:
    loop = asyncio.get_running_loop()
    since = loop.time()
    silent = await clients.connect(V5, "silent", keep_alive="0001")
    silent_3_1_1 = await clients.connect(V3_1_1, "silent 3.1.1", keep_alive="0001")
    patient = await clients.connect(V5, "patient", keep_alive="0002")
    unwatched = await clients.connect(V3_1_1, "unwatched", keep_alive="0000")
    await silent.expect_closed("E0 01 8D")
    await silent_3_1_1.expect_closed()
    assert 1.5 <= loop.time() - since < 2.5
    await patient.expect_nothing()
    await unwatched.expect_nothing()


@_ONE_LOOP
@pytest.mark.clause("v5", "MQTT-3.1.2-22")
@pytest.mark.clause("v3.1.1", "MQTT-3.1.2-24")
async def test_any_packet_breaks_the_silence(clients: LiteralClients) -> None:
    client = await clients.connect(V3_1_1, keep_alive="0001")
    for packet in ("C0 00", '30 .. "a"'):
        await asyncio.sleep(0.9)
        client.send(packet)
    await client.expect("D0 00")
    await asyncio.sleep(0.9)
    await client.expect_nothing()


@_ONE_LOOP
@pytest.mark.parametrize("limits", [{"server_keep_alive_s": 1}])
async def test_keep_alive_of_the_server_holds_where_it_is_told(clients: LiteralClients) -> None:
    connack = f"20 .. 00 00 {{13 0001 {ANNOUNCED}}}"
    client = await clients.connect(V5, keep_alive="0000", connack=connack)
    await client.expect_closed("E0 01 8D")
