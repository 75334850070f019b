"""Application Messages and their deliveries, each encoded once for all receivers with equal needs.

Knows: what a receiver's frame looks like, message expiry.
Does not know: who receives, packet identifiers, sockets, clocks.
Spec: v5 §3.3, §4.3; v3.1.1 §3.3, §4.3.
"""

from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from ..protocol.codec import encode_publish_head
from ..protocol.packets import V5, TopicFilter, TopicName
from ..protocol.properties import NO_PROPERTIES, Properties


class ApplicationMessage(Struct, frozen=True, gc=False):
    """What a PUBLISH or a Will carries, apart from its way through the broker.

    `properties` holds only those that travel on to receivers (v5 §3.3.2.3). `expires_at` is monotonic
    seconds of the process that took the message in, None where it never expires. `origin` is what
    services learn of the publisher.
    """

    topic: TopicName
    payload: bytes
    qos: int = 0
    is_retain: bool = False
    properties: Properties = NO_PROPERTIES
    expires_at: float | None = None
    origin: object | None = None
    supersede_key: bytes | None = None

    def size_bytes(self) -> int:
        """Return what the message weighs where it is kept: payload and topic."""
        return len(self.payload) + len(self.topic)

    def has_expired(self, now: float) -> bool:
        """Whether the message must not be delivered any more (v5 [MQTT-3.3.2-5])."""
        return self.expires_at is not None and now >= self.expires_at


class Share(Protocol):
    """A Shared Subscription, as far as a delivery must remember where it came from."""

    @property
    def shared_filter(self) -> TopicFilter:
        """The Topic Filter as its members sent it, with `$share/`."""


class Delivery(Struct, gc=False):
    """One message on its way to all receivers with equal needs: same QoS, RETAIN and identifiers.

    The encoding is kept for the version that asked first, and made anew where it may not be shared:
    another version, or a message that expires and whose remaining time is sent (v5 [MQTT-3.3.2-6]).
    `share` is the Shared Subscription that the receiver was chosen from, None for an ordinary one.
    """

    message: ApplicationMessage
    qos: int
    is_retain: bool = False
    identifiers: tuple[int, ...] = ()
    share: Share | None = None
    encoded_version: int = 0
    prefix: bytes = b""
    suffix: bytes = b""

    @property
    def share_filter(self) -> TopicFilter | None:
        """The Shared Subscription's filter, None for an ordinary delivery."""
        return None if self.share is None else self.share.shared_filter

    def parts(self, version: int, now: float) -> tuple[bytes, bytes]:
        """Return the bytes before and after the packet id (QoS 1 and 2), DUP not set."""
        if self.encoded_version == version:
            return self.prefix, self.suffix
        prefix, suffix = self.encode(version, now, self.message.topic, None)
        if self.message.expires_at is None:
            self.prefix, self.suffix, self.encoded_version = prefix, suffix, version
        return prefix, suffix

    def encode(self, version: int, now: float, topic: TopicName, alias: int | None) -> tuple[bytes, bytes]:
        """Return the two parts for one receiver: `topic` may be empty where `alias` stands for it."""
        message = self.message
        properties = message.properties
        if version == V5 and (self.identifiers or message.expires_at is not None or alias is not None):
            remaining = None
            if message.expires_at is not None:  # A message that was sent may come again after its time.
                left = message.expires_at - now
                remaining = max(1, round(left)) if left > 0 else 0
            properties = replace(
                properties,
                subscription_identifiers=self.identifiers,
                message_expiry_interval=remaining,
                topic_alias=alias,
            )
        prefix, head = encode_publish_head(
            topic, len(message.payload), version, self.qos, self.is_retain, False, properties
        )
        return prefix, head + message.payload if head else message.payload

    def frame(self, version: int, now: float) -> bytes:
        """Return the whole packet of a QoS 0 delivery."""
        prefix, suffix = self.parts(version, now)
        return prefix + suffix

    def size_bytes(self) -> int:
        """Return what the message weighs in a queue."""
        return self.message.size_bytes()
