"""Clients that send and expect literal bytes over real sockets.

Knows: the notation of the conformance tests, timeouts.
Does not know: the project's codec; a test must not be written in the words of what it tests.

The notation: hexadecimal bytes; `'text'` for its bytes; `"text"` for a UTF-8 Encoded String, with its
length of two bytes; `..` for the Remaining Length of what follows; `{...}` for Properties, with the
Property Length before them; `[...]` for what only version 5 has.
"""

import asyncio
import re
from contextlib import suppress
from typing import Final

V3_1_1: Final = 4
V5: Final = 5

#: What a broker with default limits announces: Receive Maximum, Topic Alias Maximum, Maximum Packet Size.
ANNOUNCED: Final = "21 0400 22 0020 27 01000000"

#: Nothing here takes as long unless it fails.
_TIMEOUT_S: Final = 10.0
_TOKEN: Final = re.compile(r"""\s*(?:'([^']*)'|"([^"]*)"|\{([^}]*)}|(\.\.)|((?:[0-9A-Fa-f]{2})+))\s*""")
_ONLY_V5: Final = re.compile(r"\[([^]]*)]")
_PINGREQ: Final = b"\xc0\x00"
_PINGRESP: Final = b"\xd0\x00"


def literal(text: str, version: int) -> bytes:
    """Return the bytes that `text` stands for."""
    text = _ONLY_V5.sub(r"\1" if version == V5 else "", text)
    head: bytes | None = None
    data = b""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        assert token is not None, f"cannot read {text[at:]!r}"
        plain, string, properties, length, hexadecimal = token.groups()
        if plain is not None:
            data += plain.encode()
        elif string is not None:
            data += len(string.encode()).to_bytes(2, "big") + string.encode()
        elif properties is not None:
            block = literal(properties, version)
            data += _variable_length(len(block)) + block
        elif length is not None:
            head, data = data, b""
        else:
            data += bytes.fromhex(hexadecimal)
        at = token.end()
    return data if head is None else head + _variable_length(len(data)) + data


def _variable_length(value: int) -> bytes:
    encoded = bytearray()
    while True:
        value, digit = divmod(value, 128)
        encoded.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


class LiteralClient:
    """One TCP connection to a broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self.version = version
        self._reader = reader
        self._writer = writer

    def send(self, *packets: str) -> None:
        """Write the packets at once."""
        self._writer.write(b"".join(literal(packet, self.version) for packet in packets))

    async def send_now(self, *packets: str) -> None:
        """Write the packets, and give the broker a turn to read them alone."""
        self.send(*packets)
        await asyncio.sleep(0)

    async def expect(self, *packets: str) -> None:
        """Read exactly these packets."""
        for packet in packets:
            expected = literal(packet, self.version)
            received = await self.receive(len(expected))
            assert received.hex(" ") == expected.hex(" ")

    async def expect_one_of(self, *packets: str) -> None:
        """Read one of these packets, which are of one length."""
        expected = [literal(packet, self.version).hex(" ") for packet in packets]
        received = await self.receive(len(literal(packets[0], self.version)))
        assert received.hex(" ") in expected

    async def expect_in_any_order(self, *packets: str) -> None:
        """Read exactly these packets, whichever comes first."""
        expected = [literal(packet, self.version) for packet in packets]
        received = await self.receive(sum(map(len, expected)))
        while received:
            found = next((frame for frame in expected if received.startswith(frame)), None)
            assert found is not None, (
                f"{received.hex(' ')} begins with none of {[x.hex(' ') for x in expected]}"
            )
            expected.remove(found)
            received = received[len(found) :]
        assert expected == []

    async def receive(self, size: int) -> bytes:
        """Read as many bytes; fewer where the broker closes before."""
        async with asyncio.timeout(_TIMEOUT_S):
            try:
                return await self._reader.readexactly(size)
            except asyncio.IncompleteReadError as error:
                return error.partial

    async def expect_nothing(self) -> None:
        """Nothing was sent: the answer to a ping is the next thing that comes."""
        self._writer.write(_PINGREQ)
        received = await self.receive(len(_PINGRESP))
        assert received.hex(" ") == _PINGRESP.hex(" ")

    async def expect_closed(self, *packets: str) -> None:
        """The broker sends these packets at most, and closes."""
        expected = b"".join(literal(packet, self.version) for packet in packets)
        async with asyncio.timeout(_TIMEOUT_S):
            try:
                received = await self._reader.read()
            except ConnectionResetError:  # It closed while bytes of ours were on their way.
                received = b""
        assert received.hex(" ") == expected.hex(" ")

    def stop_reading(self) -> None:
        """Take nothing more from the socket."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # streams hide their transport's type

    async def expect_lost(self) -> None:
        """The broker drops the connection, after whatever it could still send."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(_TIMEOUT_S):
            with suppress(ConnectionResetError):
                await self._reader.read()

    def abort(self) -> None:
        """Vanish without a word."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the socket, whatever its state."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


class LiteralClients:
    """Opens connections to one broker."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._opened: list[LiteralClient] = []

    async def open(self, version: int) -> LiteralClient:
        """Return a connection on which nothing was said."""
        reader, writer = await asyncio.open_connection(*self._address)
        client = LiteralClient(reader, writer, version)
        self._opened.append(client)
        return client

    async def connect(
        self,
        version: int,
        client_id: str = "c",
        *,
        flags: str = "02",
        keep_alive: str = "0000",
        properties: str = "",
        payload: str = "",
        connack: str | None = None,
    ) -> LiteralClient:
        """Return a connection that was let in: Session Present is 0 unless `connack` says else."""
        client = await self.open(version)
        client.send(connect_packet(version, client_id, flags, keep_alive, properties, payload))
        await client.expect(connack or CONNACK)
        return client

    async def subscribed(
        self, version: int, topic_filter: str, qos: int = 0, client_id: str = "subscriber"
    ) -> LiteralClient:
        """Return a connection with one Subscription."""
        client = await self.connect(version, client_id)
        client.send(f'82 .. 0001 [00] "{topic_filter}" {qos:02X}')
        await client.expect(f"90 .. 0001 [00] {qos:02X}")
        return client

    async def close(self) -> None:
        """Close what was opened."""
        for client in self._opened:
            await client.close()


#: CONNACK of a broker with default limits, without and with a Session from before.
CONNACK: Final = f"20 .. 00 00 [{{{ANNOUNCED}}}]"
CONNACK_PRESENT: Final = f"20 .. 01 00 [{{{ANNOUNCED}}}]"


def connect_packet(
    version: int,
    client_id: str = "c",
    flags: str = "02",
    keep_alive: str = "0000",
    properties: str = "",
    payload: str = "",
) -> str:
    """Return a CONNECT; `payload` is what follows the Client Identifier."""
    length = len(literal(properties, version))
    return (
        f'10 .. "MQTT" {version:02X} {flags} {keep_alive} [{length:02X} {properties}] "{client_id}" {payload}'
    )
