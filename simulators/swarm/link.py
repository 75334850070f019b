"""One party's Network Connection on asyncio.

Knows: the transport, the clock.
Does not know: MQTT, who connects again and when.
Spec: v5 §4.2; v3.1.1 §4.2.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, cast

from .party import Party

_REASON_CHARACTERS: Final = 200


class Link(asyncio.Protocol):
    """Bytes from the socket to the party and back, one write for each read.

    Args:
        party: whose connection it is.
        due_ns: when it was due (monotonic nanoseconds).
        on_lost: called once the connection has ended, after the party knows.
    """

    def __init__(self, party: Party, due_ns: int, on_lost: Callable[["Link"], None]) -> None:
        self.party = party
        self._due_ns = due_ns
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        # Both loops hand a Transport to a Protocol; the type says less.
        self._transport = cast("asyncio.Transport", transport)
        self.party.connect(self._due_ns, time.monotonic_ns())
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Pass on what came, and write what follows from it."""
        self.party.receive(data, time.monotonic_ns())
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the party and whoever connects it again."""
        self.party.lost(None if error is None else reason_of(error))
        self._on_lost(self)

    def flush(self) -> None:
        """Write what waits, and end the connection if the party wants that."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if data := self.party.data_to_send():
            transport.write(data)
        if self.party.ending is not None:
            transport.close()

    def leave(self) -> None:
        """Say DISCONNECT and close."""
        self.party.leave()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self.party.data_to_send())
            self._transport.close()


def reason_of(error: BaseException) -> str:
    """Return why a connection ended or was not made, in few words."""
    return (str(error) or type(error).__name__)[:_REASON_CHARACTERS]
