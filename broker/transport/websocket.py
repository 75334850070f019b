"""The shell of a connection on which MQTT travels in WebSocket messages.

Knows: the opening and closing handshake, which frames may carry MQTT, how much may wait in them.
Does not know: what the bytes in the frames mean.
Spec: v5 §6; v3.1.1 §6; RFC 6455.
"""

from collections.abc import Sequence
from typing import Final

from websockets.exceptions import NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ..protocol.connection import ConnectionState
from .shell import ConnectionShell, Host

_MQTT: Final = Subprotocol("mqtt")
#: Bytes of the HTTP request that opens the WebSocket.
_REQUEST_SIZE_MAXIMUM: Final = 16 * 1024
#: A message may hold several packets, so even small packets leave it this room, in bytes.
_MESSAGE_SIZE_MINIMUM: Final = 64 * 1024
_DATA: Final = (Opcode.BINARY, Opcode.CONT)


class WebSocketShell(ConnectionShell):
    """Takes MQTT out of binary frames, and puts each flush into one.

    Messages are as long as a packet may be, before CONNECT as long as the first may be, but always
    64 KiB. A connection has connect_timeout_s for request and CONNECT together.
    """

    __slots__ = ("_is_writable", "_path", "_unused", "_websocket")

    def __init__(
        self, host: Host, *, listener: str, tenant: str, path: str, address: str | None = None
    ) -> None:
        super().__init__(host, listener=listener, tenant=tenant, address=address)
        limits = host.engine.state.limits
        self._path = path
        self._is_writable = True
        #: Bytes received since the last whole frame.
        self._unused = 0
        self._websocket = ServerProtocol(
            select_subprotocol=_select_subprotocol,
            max_size=max(limits.maximum_packet_size, _MESSAGE_SIZE_MINIMUM),
        )

    def data_received(self, data: bytes) -> None:
        """Bytes came; what is whole of them goes to the engine. After the end nobody wants them."""
        websocket = self._websocket
        if websocket.eof_sent:
            return
        websocket.receive_data(data)
        self._unused += len(data)
        payloads: list[bytes] = []
        for event in websocket.events_received():
            self._unused = 0
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame) and event.opcode in _DATA:
                payloads.append(bytes(event.data))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                # v5 [MQTT-6.0.0-1]; v3.1.1 [MQTT-6.0.0-1]
                websocket.fail(CloseCode.UNSUPPORTED_DATA, "MQTT travels in binary frames")
                break
        if payloads and websocket.state is not State.CONNECTING:
            super().data_received(b"".join(payloads))
        if self._unused > self._unused_maximum():
            websocket.fail(CloseCode.MESSAGE_TOO_BIG)
        # While the peer takes nothing, it goes without answers to its pings.
        self._send_waiting(is_wanted=self._is_writable)

    def pause_writing(self) -> None:
        """The write buffer is full."""
        self._is_writable = False
        super().pause_writing()

    def resume_writing(self) -> None:
        """The write buffer has room again."""
        self._is_writable = True
        super().resume_writing()

    def write(self, data: bytes) -> None:
        """Hand frames to the transport as one binary message."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_binary(data)
            self._send_waiting()

    def finish(self, data: bytes) -> None:
        """Write the last frames and say so, then drop what still comes until the peer says so too."""
        self._is_finished = True
        self.write(data)
        self._say_close()
        self.resume_reading()

    def close(self) -> None:
        """Say so unless that was said, and close once everything is out."""
        self._say_close()
        super().close()

    def _say_close(self) -> None:
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(CloseCode.NORMAL_CLOSURE)
            self._send_waiting()

    def _answer(self, request: Request) -> None:
        websocket = self._websocket
        path = request.path.partition("?")[0]
        if path in ("/", self._path):
            response = websocket.accept(request)
        else:
            response = websocket.reject(404, "MQTT is served elsewhere\n")
        websocket.send_response(response)

    def _unused_maximum(self) -> int:
        """Bytes that may wait for the end of their frame: few for strangers."""
        websocket = self._websocket
        if websocket.state is State.CONNECTING:
            return _REQUEST_SIZE_MAXIMUM
        connection = self._connection
        limits = self._host.engine.state.limits
        if connection is not None and connection.state is ConnectionState.CONNECTED:
            return max(limits.maximum_packet_size, _MESSAGE_SIZE_MINIMUM) + _REQUEST_SIZE_MAXIMUM
        return max(limits.connect_packet_size_maximum, _MESSAGE_SIZE_MINIMUM) + _REQUEST_SIZE_MAXIMUM

    def _send_waiting(self, *, is_wanted: bool = True) -> None:
        """Write what the framing has for the peer; an empty piece is the end, which is always told."""
        transport = self._transport
        pieces = self._websocket.data_to_send()
        if transport is None or transport.is_closing() or not pieces:
            return
        is_end = b"" in pieces
        if is_wanted or is_end or self._websocket.state is not State.OPEN:
            transport.write(b"".join(pieces))
        if not is_end:
            return
        if transport.can_write_eof():
            # The peer may still be sending: to close now would reset what it is to read.
            self._write_eof(transport)
            self._host.linger(self)
        else:
            transport.close()


def _select_subprotocol(_websocket: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
    """Choose mqtt (v5 [MQTT-6.0.0-3], [MQTT-6.0.0-4]; v3.1.1 the same)."""
    if _MQTT not in offered:
        raise NegotiationError("the client does not offer the subprotocol mqtt")
    return _MQTT
