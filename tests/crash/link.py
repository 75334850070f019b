"""One connection of a load client: asyncio and TLS around the broker's own client core.

Knows: bytes in and out, the end.
Does not know: messages (peer).
Spec: v5 §4.2.
"""

import asyncio
from typing import Protocol, cast

from broker.protocol.client_connection import ClientConnection, ClientState
from broker.protocol.packets import ControlPacket


class Owner(Protocol):
    def made(self, link: "Link") -> None:
        """The connection stands; CONNECT is sent."""

    def packet_received(self, packet: ControlPacket) -> None:
        """A packet came, in its turn."""

    def lost(self, link: "Link") -> None:
        """The connection ended."""


class Link(asyncio.Protocol):
    """Bytes of one connection; `ended` is set at its end."""

    def __init__(self, connection: ClientConnection, owner: Owner) -> None:
        self.connection = connection
        self.ended = asyncio.Event()
        #: CONNACK has let us in, at one time.
        self.was_let_in = False
        self._owner = owner
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._owner.made(self)
        self._flush()

    def data_received(self, data: bytes) -> None:
        connection = self.connection
        connection.receive(data, now=0.0)
        for packet in connection.events():
            self.was_let_in |= connection.state is ClientState.CONNECTED
            self._owner.packet_received(packet)
        assert connection.failure is None, connection.failure
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.connection.close()
        self._owner.lost(self)
        self.ended.set()

    def send(self, *packets: ControlPacket) -> None:
        """Write packets at once; after the end they go nowhere."""
        for packet in packets:
            self.connection.send(packet)
        self._flush()

    def close(self) -> None:
        """Close after everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        if self.connection.outgoing and self._transport is not None:
            self._transport.write(self.connection.data_to_send())
