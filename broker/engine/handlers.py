"""One handler per Control Packet of a connected Client, and the table that finds it.

Knows: which function serves which packet, the answers that are a packet id and no more.
Does not know: PUBLISH and PUBACK, which the engine serves in its loop; what handlers do.
Spec: v5 §3; v3.1.1 §3.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ..protocol.codec import encode_packet
from ..protocol.packets import (
    Auth,
    ControlPacket,
    Disconnect,
    PingReq,
    PubComp,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
)
from ..protocol.reason_codes import ReasonCode
from .connection import ServedConnection
from .enhanced import handle_auth
from .lifecycle import handle_disconnect
from .state import EngineState, Tenant
from .subscribe import handle_subscribe, handle_unsubscribe

# Acknowledgements in their short form, the same in both versions: nearly all there are.
_PUBREL: Final = b"\x62\x02"
_PUBCOMP: Final = b"\x70\x02"
_PINGRESP: Final = b"\xd0\x00"


def _handle_pubrec(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: PubRec, now: float
) -> None:
    code = connection.attached.handle_pubrec(packet.packet_id, packet.reason_code, now)
    if code is ReasonCode.SUCCESS:
        connection.write(_PUBREL + packet.packet_id.to_bytes(2, "big"))
    elif code is not None:
        connection.write_packet(PubRel(packet.packet_id, code))


def _handle_pubrel(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: PubRel, now: float
) -> None:
    code, commit = connection.attached.release_inbound(packet.packet_id)
    if code is ReasonCode.SUCCESS:
        connection.acknowledge(_PUBCOMP + packet.packet_id.to_bytes(2, "big"), commit)
    else:
        answer = encode_packet(PubComp(packet.packet_id, code), connection.version)
        connection.acknowledge(answer, commit)


def _handle_pubcomp(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: PubComp, now: float
) -> None:
    connection.attached.handle_pubcomp(packet.packet_id, now)


def _handle_pingreq(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: PingReq, now: float
) -> None:
    connection.write(_PINGRESP)


def _handle_disconnect(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Disconnect, now: float
) -> None:
    handle_disconnect(state, connection, packet, now)


def _handle_auth(
    state: EngineState, tenant: Tenant, connection: ServedConnection, packet: Auth, now: float
) -> None:
    handle_auth(state, connection, packet)


#: One handler per packet that a CONNECTED Client may send; PUBLISH and PUBACK are served in the loop.
HANDLERS: Final[Mapping[type[ControlPacket], Callable[..., None]]] = {
    PubRec: _handle_pubrec,
    PubRel: _handle_pubrel,
    PubComp: _handle_pubcomp,
    Subscribe: handle_subscribe,
    Unsubscribe: handle_unsubscribe,
    PingReq: _handle_pingreq,
    Disconnect: _handle_disconnect,
    Auth: _handle_auth,
}
