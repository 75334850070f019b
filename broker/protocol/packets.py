"""Control Packets as values.

Knows: the fields of the fifteen packets of both versions.
Does not know: bytes (codec), who may send what when (connection).
Spec: v5 §3; v3.1.1 §3.
"""

import enum
from typing import Final, NewType

from msgspec import Struct

from .properties import NO_PROPERTIES, Properties
from .reason_codes import ReasonCode

#: UTF-8 bytes as on the wire, without wildcards: the hot path never decodes a topic.
TopicName = NewType("TopicName", bytes)
#: UTF-8 bytes as on the wire; `+`, `#` and a leading `$share/{group}/` have their meaning.
TopicFilter = NewType("TopicFilter", bytes)
ClientId = NewType("ClientId", str)

#: Protocol levels (v3.1.1 §3.1.2.2; v5 §3.1.2.2). Plain integers: they are compared per message.
V3_1_1: Final = 4
V5: Final = 5


class PacketType(enum.IntEnum):
    """High four bits of the first byte (v5 §2.1.2)."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Will(Struct, frozen=True, gc=False, kw_only=True):
    """The Will of a CONNECT (v5 §3.1.2.5); QoS 0..2."""

    topic: TopicName
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NO_PROPERTIES


class Connect(Struct, frozen=True, gc=False, kw_only=True):
    """CONNECT (v5 §3.1). `is_clean_start` is Clean Session in 3.1.1; `keep_alive` in seconds."""

    version: int
    client_id: ClientId
    is_clean_start: bool = True
    keep_alive: int = 0
    will: Will | None = None
    user_name: str | None = None
    password: bytes | None = None
    properties: Properties = NO_PROPERTIES


class ConnAck(Struct, frozen=True, gc=False):
    """CONNACK (v5 §3.2). Encoding for 3.1.1 maps the code; one without a map raises."""

    is_session_present: bool = False
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class Publish(Struct, frozen=True, gc=False):
    """PUBLISH (v5 §3.3). `packet_id` is 1..65535, and 0 at QoS 0.

    `frame` holds the packet's own bytes where receivers may be sent them unchanged (QoS 0, not
    RETAIN, no Properties), else None.
    """

    topic: TopicName
    payload: bytes
    qos: int = 0
    is_retain: bool = False
    is_dup: bool = False
    packet_id: int = 0
    properties: Properties = NO_PROPERTIES
    frame: bytes | None = None


class PubAck(Struct, frozen=True, gc=False):
    """PUBACK (v5 §3.4)."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class PubRec(Struct, frozen=True, gc=False):
    """PUBREC (v5 §3.5)."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class PubRel(Struct, frozen=True, gc=False):
    """PUBREL (v5 §3.6)."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class PubComp(Struct, frozen=True, gc=False):
    """PUBCOMP (v5 §3.7)."""

    packet_id: int
    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class SubscriptionRequest(Struct, frozen=True, gc=False):
    """One Topic Filter of a SUBSCRIBE with its Subscription Options (v5 §3.8.3.1).

    `retain_handling`: 0 send retained messages, 1 only if the Subscription is new, 2 never.
    """

    topic_filter: TopicFilter
    qos: int = 0
    is_no_local: bool = False
    is_retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(Struct, frozen=True, gc=False):
    """SUBSCRIBE (v5 §3.8); at least one request."""

    packet_id: int
    requests: tuple[SubscriptionRequest, ...]
    properties: Properties = NO_PROPERTIES


class SubAck(Struct, frozen=True, gc=False):
    """SUBACK (v5 §3.9); one code per request, 0..2 granted. Encoding for 3.1.1 makes failures 0x80."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...]
    properties: Properties = NO_PROPERTIES


class Unsubscribe(Struct, frozen=True, gc=False):
    """UNSUBSCRIBE (v5 §3.10); at least one filter."""

    packet_id: int
    topic_filters: tuple[TopicFilter, ...]
    properties: Properties = NO_PROPERTIES


class UnsubAck(Struct, frozen=True, gc=False):
    """UNSUBACK (v5 §3.11). The codes are not sent in 3.1.1 and decode as an empty tuple."""

    packet_id: int
    reason_codes: tuple[ReasonCode, ...] = ()
    properties: Properties = NO_PROPERTIES


class PingReq(Struct, frozen=True, gc=False):
    """PINGREQ (v5 §3.12)."""


class PingResp(Struct, frozen=True, gc=False):
    """PINGRESP (v5 §3.13)."""


class Disconnect(Struct, frozen=True, gc=False):
    """DISCONNECT (v5 §3.14). In 3.1.1 it has no body and always means SUCCESS."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


class Auth(Struct, frozen=True, gc=False):
    """AUTH (v5 §3.15); a 3.1.1 peer that sends type 15 is malformed."""

    reason_code: ReasonCode = ReasonCode.SUCCESS
    properties: Properties = NO_PROPERTIES


ControlPacket = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)
