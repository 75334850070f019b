import pytest

from literal_bytes import LiteralClients


@pytest.mark.clause("v5", "MQTT-3.12.4-1")
@pytest.mark.clause("v3.1.1", "MQTT-3.12.4-1")
async def test_pingreq_is_answered(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("C0 00")
    await client.expect("D0 00")


async def test_each_pingreq_has_its_own_answer(clients: LiteralClients, version: int) -> None:
    client = await clients.connect(version)
    client.send("C0 00", "C0 00", "C0 00")
    await client.expect("D0 00", "D0 00", "D0 00")
    await client.expect_nothing()


@pytest.mark.clause("v3.1.1", "MQTT-2.2.2-2")
@pytest.mark.clause("v5", "MQTT-4.13.1-1")
@pytest.mark.parametrize("packet", ["C1 00", "C0 01 00"], ids=["reserved-flags", "with-a-body"])
async def test_malformed_pingreq_ends_the_connection(
    clients: LiteralClients, version: int, packet: str
) -> None:
    client = await clients.connect(version)
    client.send(packet)
    await client.expect_closed("[E0 01 81]")
