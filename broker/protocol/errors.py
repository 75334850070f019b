"""Errors of the broker, sorted by whose fault they are.

Knows: the wire code that each kind of fault carries.
Does not know: how a connection is told about it.
Spec: v5 §4.13; v3.1.1 §4.8.
"""

from typing import ClassVar

from .reason_codes import ReasonCode


class BrokerError(Exception):
    """Root of every error that the broker raises on purpose."""


class LocalUsageError(BrokerError):
    """Our own caller broke a contract; a bug here, never the peer's doing."""


class PeerError(BrokerError):
    """The peer broke the specification; the connection closes with `reason_code`.

    The text is for the log. It never holds payloads, passwords or raw peer bytes.
    """

    reason_code: ClassVar[ReasonCode] = ReasonCode.UNSPECIFIED_ERROR

    def __init__(self, detail: str, *, spec: str) -> None:
        super().__init__(f"{detail} ({spec})")


class MalformedPacketError(PeerError):
    """Bytes that cannot be parsed according to the specification (v5 §1.2)."""

    reason_code = ReasonCode.MALFORMED_PACKET


class ProtocolError(PeerError):
    """A well-formed packet that the protocol does not allow here (v5 §1.2)."""

    reason_code = ReasonCode.PROTOCOL_ERROR


class UnsupportedProtocolVersionError(PeerError):
    """CONNECT names a protocol level other than 4 or 5 (v5 [MQTT-3.1.2-2])."""

    reason_code = ReasonCode.UNSUPPORTED_PROTOCOL_VERSION


class ClientIdentifierError(PeerError):
    """The Client Identifier cannot be used (v3.1.1 [MQTT-3.1.3-8]; v5 [MQTT-3.1.3-5])."""

    reason_code = ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


class PacketTooLargeError(PeerError):
    """A packet exceeds the Maximum Packet Size that we announced (v5 [MQTT-3.2.2-15])."""

    reason_code = ReasonCode.PACKET_TOO_LARGE


class ReceiveMaximumExceededError(PeerError):
    """More unacknowledged QoS 1 and 2 messages than our Receive Maximum (v5 §3.3.4)."""

    reason_code = ReasonCode.RECEIVE_MAXIMUM_EXCEEDED


class TopicAliasInvalidError(PeerError):
    """A Topic Alias of 0 or above our Topic Alias Maximum (v5 [MQTT-3.3.2-8])."""

    reason_code = ReasonCode.TOPIC_ALIAS_INVALID


class TopicNameInvalidError(PeerError):
    """A Topic Name that is no name: empty, with wildcards, or beyond our limits (v5 §4.7)."""

    reason_code = ReasonCode.TOPIC_NAME_INVALID


class TopicFilterInvalidError(PeerError):
    """A Topic Filter that breaks the rules of wildcards, or is beyond our limits (v5 §4.7)."""

    reason_code = ReasonCode.TOPIC_FILTER_INVALID


class MessageRateTooHighError(PeerError):
    """The peer keeps sending faster than it may (v5 §3.14.2.1)."""

    reason_code = ReasonCode.MESSAGE_RATE_TOO_HIGH


class QosNotSupportedError(PeerError):
    """The Will or a message asks for a QoS above our Maximum QoS (v5 [MQTT-3.2.2-12])."""

    reason_code = ReasonCode.QOS_NOT_SUPPORTED


class NotAuthorizedError(PeerError):
    """The principal may not do this; 3.1.1 can only be told by closing (v5 §3.14.2.1)."""

    reason_code = ReasonCode.NOT_AUTHORIZED
