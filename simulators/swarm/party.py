"""One party's MQTT connection, and the next one after it is lost: packets in, packets out.

Knows: connecting, publishing at QoS 1, PUBACKs, Keep Alive, when it has waited too long, backing off.
Does not know: sockets, TLS, clocks (`now_ns` is monotonic nanoseconds and comes in), what messages mean.
Spec: v5 §3.1 to §3.4, §3.12, §3.14, §4.9.
"""

from typing import Final

from broker.protocol.client_connection import ClientConnection, ClientState
from broker.protocol.packets import (
    V5,
    ClientId,
    ConnAck,
    Connect,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode

from .scenario import fraction
from .tally import Tally

SECOND_NS: Final = 1_000_000_000
#: How long the other side may take for a request.
ANSWER_TIMEOUT_NS: Final = 10 * SECOND_NS
#: Reason codes from here on are refusals.
FAILURE: Final = 0x80
_CLOSED_EARLY: Final = "the server closed the connection before CONNACK; does it accept our certificate?"
_KEEP_ALIVE_S: Final = 60
#: How long it may take from the beginning of a connect until the party is ready.
_READY_TIMEOUT_NS: Final = 30 * SECOND_NS
_BACK_OFF_FIRST_S: Final = 0.5
_BACK_OFF_MAXIMUM_S: Final = 30.0
_PACKET_SIZE_MAXIMUM: Final = 1 << 20
_PACKET_ID_MAXIMUM: Final = 0xFFFF


class Party:
    """A client that connects, and does what its subclass says.

    `connect` begins each connection; then `receive`, `handle_timer` and `lost` are what happens, and after
    each of them `data_to_send` is to be written, and the connection to be ended where `ending` says why.
    """

    def __init__(self, name: str, seed: int, tally: Tally) -> None:
        self.name = name
        self.is_ready = False
        """Whether everything that belongs to connecting is done."""
        self.ending: str | None = None
        """Why the connection must end, or None."""
        self.tally = tally
        #: Publishes without a PUBACK: packet id to (token, when due, when sent).
        self.unacknowledged: dict[int, tuple[str, int, int]] = {}
        self._seed = seed
        self._attempts = 0
        self._due_ns = self._begun_ns = self._sent_ns = 0
        self._packet_id = 0
        self.connection = self._new_connection(0)
        self.connection.close()

    def data_to_send(self) -> bytes:
        """Return what waits to be written, and forget it."""
        return self.connection.data_to_send()

    def back_off_ns(self) -> int:
        """How long to wait before the next connect, after so many in a row that came to nothing."""
        pause_s = min(_BACK_OFF_MAXIMUM_S, _BACK_OFF_FIRST_S * 2.0 ** min(self._attempts - 1, 10))
        jitter = fraction(self._seed, "back-off", self.name, self._attempts)
        return int(pause_s * (1 + jitter) / 2 * SECOND_NS)

    # What happens.

    def connect(self, due_ns: int, now_ns: int) -> None:
        """Begin a connection; `due_ns` is when the schedule wanted it."""
        self._due_ns, self._begun_ns, self._sent_ns = due_ns, now_ns, now_ns
        self._packet_id = 0
        self.ending = None
        self.connection = self._new_connection(now_ns)

    def receive(self, data: bytes, now_ns: int) -> None:
        """Take in bytes as they came."""
        connection = self.connection
        connection.receive(data, now=now_ns / SECOND_NS)
        for packet in connection.events():
            match packet:
                case PubAck():
                    self._take_puback(packet, now_ns)
                case Publish():
                    if packet.qos:
                        connection.send(PubAck(packet.packet_id))
                    self.on_message(packet.topic, packet.payload, now_ns)
                case ConnAck() if packet.reason_code is not ReasonCode.SUCCESS:
                    self.ending = f"the server refused: {packet.reason_code.name}"
                case ConnAck():
                    self.on_connected(now_ns)
                case SubAck():
                    self._take_suback(packet, now_ns)
                case Disconnect():
                    self.ending = f"the server disconnected: {packet.reason_code.name}"
                case _:
                    pass  # PINGRESP: that something came is noted by the connection.
        if connection.failure is not None:
            self.ending = f"the server broke the protocol: {connection.failure}"
        self.pump(now_ns)

    def handle_timer(self, now_ns: int) -> None:
        """Look whether something takes too long, and whether a PINGREQ is due; called some times a minute."""
        if not self.is_ready:
            if (
                self.connection.state is not ClientState.CLOSED
                and now_ns - self._begun_ns > _READY_TIMEOUT_NS
            ):
                self.ending = "not ready in time after the connect"
            return
        while self.unacknowledged:
            packet_id, (token, _, sent_ns) = next(iter(self.unacknowledged.items()))
            if now_ns - sent_ns <= ANSWER_TIMEOUT_NS:
                break
            del self.unacknowledged[packet_id]
            self.on_puback_missing(token)
        self._keep_alive(now_ns)
        self.pump(now_ns)

    def lost(self, reason: str | None) -> None:
        """The connection is gone (no reason: closed), or was never made; what was on its way is cut off."""
        if reason is None:
            is_new = self.connection.state is ClientState.AWAIT_CONNACK
            reason = _CLOSED_EARLY if is_new else "the server closed the connection"
        if self.is_ready:
            self.tally.counts.connections_lost += 1
        else:
            self.tally.counts.connect_failures += 1
        self.tally.fail(self.ending or reason)
        self.unacknowledged.clear()
        self.is_ready = False
        self._attempts += 1
        self.connection.close()

    def leave(self) -> None:
        """Say DISCONNECT, and send nothing more."""
        if self.connection.state is ClientState.CONNECTED:
            self.connection.send(Disconnect())
        self.connection.close()

    # For subclasses.

    def on_connected(self, now_ns: int) -> None:
        """CONNACK is here."""
        self.become_ready(now_ns)

    def on_subscribed(self, now_ns: int) -> None:
        """Every subscription is granted."""

    def on_message(self, topic: bytes, payload: bytes, now_ns: int) -> None:
        """A message came."""

    def on_puback(self, token: str, due_ns: int, now_ns: int) -> None:
        """A publish was taken."""

    def on_refused(self, token: str) -> None:
        """A PUBACK refused a publish, which is counted already."""

    def on_puback_missing(self, token: str) -> None:
        """A publish was not acknowledged in time."""

    def pump(self, now_ns: int) -> None:
        """Send what may be sent now."""

    def become_ready(self, now_ns: int) -> None:
        """Nothing is left to do before the load."""
        self.is_ready = True
        self._attempts = 0

    def publish(self, topic: TopicName, payload: bytes, token: str, due_ns: int, now_ns: int) -> None:
        """Publish at QoS 1."""
        packet_id = self.next_packet_id()
        self.unacknowledged[packet_id] = (token, due_ns, now_ns)
        self._sent_ns = now_ns
        if not self.connection.send(Publish(topic, payload, 1, packet_id=packet_id)):
            self.ending = "a publish is larger than the server's Maximum Packet Size; use fewer fields"

    def next_packet_id(self) -> int:
        """Return the next one; long before it comes again, what had it is answered or given up."""
        self._packet_id = self._packet_id % _PACKET_ID_MAXIMUM + 1
        return self._packet_id

    # Private.

    def _new_connection(self, now_ns: int) -> ClientConnection:
        packet = Connect(version=V5, client_id=ClientId(self.name), keep_alive=_KEEP_ALIVE_S)
        return ClientConnection(packet, packet_size_maximum=_PACKET_SIZE_MAXIMUM, now=now_ns / SECOND_NS)

    def _take_puback(self, packet: PubAck, now_ns: int) -> None:
        token, due_ns, _ = self.unacknowledged.pop(packet.packet_id, ("", 0, 0))
        if packet.reason_code.value >= FAILURE:
            self.tally.refuse(packet.reason_code.value)
            self.on_refused(token)
        elif token:
            self.on_puback(token, due_ns, now_ns)

    def _take_suback(self, packet: SubAck, now_ns: int) -> None:
        refused = [code for code in packet.reason_codes if code.value >= FAILURE]
        if refused:
            self.ending = f"the server refused a subscription: {refused[0].name}"
        elif not self.is_ready:
            self.on_subscribed(now_ns)

    def _keep_alive(self, now_ns: int) -> None:
        keep_alive_ns = self.connection.keep_alive * SECOND_NS
        if not keep_alive_ns:
            return
        silent_ns = now_ns - int(self.connection.last_received * SECOND_NS)
        if silent_ns > keep_alive_ns + ANSWER_TIMEOUT_NS:
            self.ending = "no answer to PINGREQ in time"
        elif now_ns - self._sent_ns > keep_alive_ns * 3 // 4:
            self._sent_ns = now_ns
            self.connection.ping()
