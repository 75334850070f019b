"""Control Packets to bytes and back: the face of the codec.

Knows: which function reads and writes which packet; reserved flags of the fixed header.
Does not know: the packets' layouts (one private module per family), streams, who may send what.
Spec: v5 §2.1, §3; v3.1.1 §2.2, §3.

The codec is symmetric: it reads and writes all fifteen packets, of clients and of Servers. Reading
raises PeerError for what the specification forbids whoever sends it. Writing raises LocalUsageError
for what has no place on the wire, and leaves the rest to its caller.
"""

from collections.abc import Callable, Mapping
from typing import Final

from ._codec_common import check_end, check_received_topic_name
from ._codec_connect import (
    decode_auth,
    decode_connack,
    decode_connect,
    decode_disconnect,
    encode_auth,
    encode_connack,
    encode_connect,
    encode_disconnect,
)
from ._codec_publish import (
    decode_puback,
    decode_pubcomp,
    decode_publish,
    decode_pubrec,
    decode_pubrel,
    encode_acknowledgement,
    encode_publish,
    encode_publish_head,
)
from ._codec_subscribe import (
    decode_suback,
    decode_subscribe,
    decode_unsuback,
    decode_unsubscribe,
    encode_suback,
    encode_subscribe,
    encode_unsuback,
    encode_unsubscribe,
)
from ._property_codec import WILL, decode_properties, encode_properties
from .errors import MalformedPacketError
from .packets import (
    Auth,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
)

__all__ = [
    "WILL",
    "check_received_topic_name",
    "decode_packet",
    "decode_properties",
    "encode_packet",
    "encode_properties",
    "encode_publish_head",
]


def decode_packet(first_byte: int, body: bytes, version: int) -> ControlPacket:
    """Return the packet of a fixed header's first byte and the bytes after the fixed header.

    Args:
        first_byte: packet type and flags.
        body: exactly Remaining Length bytes.
        version: V3_1_1 or V5, as the CONNECT said; a CONNECT itself does not care.

    Raises:
        PeerError: the subclass says which rule of the specification is broken.

    Spec: v5 §2.1, §3; v3.1.1 §2.2, §3.
    """
    decode = _DECODERS.get(first_byte)
    if decode is None:
        raise MalformedPacketError(
            f"no packet begins with 0x{first_byte:02X}", spec="v5 [MQTT-2.1.3-1]; v3.1.1 [MQTT-2.2.2-2]"
        )
    return decode(first_byte, body, version)


def encode_packet(packet: ControlPacket, version: int) -> bytes:
    """Return the whole packet, fixed header included, in its shortest legal form.

    What 3.1.1 has no place for (Properties, reason codes of acknowledgements, Subscription Options)
    is left out. A CONNECT is written in the version that it names.

    Raises:
        LocalUsageError: the packet has no form in this version, or a value no place on the wire.

    Spec: v5 §3; v3.1.1 §3.
    """
    return _ENCODERS[type(packet)](packet, version)


def _decode_pingreq(first_byte: int, body: bytes, version: int) -> PingReq:
    check_end(body, 0)
    return PingReq()


def _decode_pingresp(first_byte: int, body: bytes, version: int) -> PingResp:
    check_end(body, 0)
    return PingResp()


#: By the first byte: flags that are reserved have no entry (v5 §2.1.3; v3.1.1 §2.2.2).
_DECODERS: Final[Mapping[int, Callable[[int, bytes, int], ControlPacket]]] = {
    0x10: decode_connect,
    0x20: decode_connack,
    **dict.fromkeys(range(0x30, 0x40), decode_publish),
    0x40: decode_puback,
    0x50: decode_pubrec,
    0x62: decode_pubrel,
    0x70: decode_pubcomp,
    0x82: decode_subscribe,
    0x90: decode_suback,
    0xA2: decode_unsubscribe,
    0xB0: decode_unsuback,
    0xC0: _decode_pingreq,
    0xD0: _decode_pingresp,
    0xE0: decode_disconnect,
    0xF0: decode_auth,
}

_ENCODERS: Final[Mapping[type[ControlPacket], Callable[..., bytes]]] = {
    Connect: encode_connect,
    ConnAck: encode_connack,
    Publish: encode_publish,
    PubAck: encode_acknowledgement,
    PubRec: encode_acknowledgement,
    PubRel: encode_acknowledgement,
    PubComp: encode_acknowledgement,
    Subscribe: encode_subscribe,
    SubAck: encode_suback,
    Unsubscribe: encode_unsubscribe,
    UnsubAck: encode_unsuback,
    PingReq: lambda packet, version: b"\xc0\x00",
    PingResp: lambda packet, version: b"\xd0\x00",
    Disconnect: encode_disconnect,
    Auth: encode_auth,
}
