"""Subscriptions, messages and deliveries as columns, and back; the same in every database.

Knows: which column holds what, the encoding of what is rare.
Does not know: statements, connections.
Spec: none.
"""

from collections import Counter
from collections.abc import Collection
from typing import Final

from msgspec import Struct, msgpack

from ..protocol.packets import TopicName
from ..protocol.properties import NO_PROPERTIES, Properties
from ..protocol.subscription import Subscription
from ..session.flow import Flow
from ..session.message import ApplicationMessage
from ..session.records import DeliveryRow

#: filter, qos, is_no_local, is_retain_as_published, retain_handling, identifier
SubscriptionColumns = tuple[bytes, int, bool, bool, int, int | None]
#: topic, payload, flags, expires_at, rare
MessageColumns = tuple[bytes, bytes, int, float | None, bytes | None]
#: row, session, packet_id, flow, flags, size, expires_at, rare, message, topic, payload
DeliveryColumns = tuple[
    int,
    int,
    int,
    int | None,
    int,
    int,
    float | None,
    bytes | None,
    int | None,
    bytes | None,
    bytes | None,
]

_QOS: Final = 0b011
_RETAIN: Final = 0b100
#: In `flags`, those of the delivery stand above those of its message.
_DELIVERY_SHIFT: Final = 3


class _Rare(Struct, array_like=True, tag=1, frozen=True):
    """What few messages and deliveries have. The tag is the format: another shape gets another number."""

    properties: Properties = NO_PROPERTIES
    supersede_key: bytes | None = None
    identifiers: tuple[int, ...] = ()
    share: bytes | None = None


_NOTHING_RARE: Final = _Rare()
_rare_encoder = msgpack.Encoder()
_rare_decoder = msgpack.Decoder(_Rare)


def subscription_columns(subscription: Subscription) -> SubscriptionColumns:
    """Return the columns of a Subscription, without whose it is."""
    return (
        subscription.topic_filter,
        subscription.qos,
        subscription.is_no_local,
        subscription.is_retain_as_published,
        subscription.retain_handling,
        subscription.identifier,
    )


def shared_messages(deliveries: Collection[DeliveryRow]) -> list[ApplicationMessage]:
    """Return the messages that several of the deliveries have."""
    messages = {id(delivery.message): delivery.message for delivery in deliveries}
    if len(messages) == len(deliveries):
        return []
    uses = Counter(id(delivery.message) for delivery in deliveries)
    return [message for key, message in messages.items() if uses[key] > 1]


def message_columns(message: ApplicationMessage) -> MessageColumns:
    """Return the columns of a message that stands alone."""
    return (
        message.topic,
        message.payload,
        _message_flags(message),
        message.expires_at,
        message_rare(message),
    )


def message_rare(message: ApplicationMessage) -> bytes | None:
    """Return what is rare in a message, None if nothing is."""
    if message.properties is NO_PROPERTIES and message.supersede_key is None:
        return None
    return _rare_encoder.encode(_Rare(message.properties, message.supersede_key))


def delivery_columns(delivery: DeliveryRow, message_id: int | None) -> DeliveryColumns:
    """Return the columns of a delivery whose message stands elsewhere, or in the same row for None."""
    message = delivery.message
    flow = delivery.flow
    topic: bytes | None = None
    payload: bytes | None = None
    if message_id is None:
        topic, payload = message.topic, message.payload
        properties, supersede_key = message.properties, message.supersede_key
    else:
        properties, supersede_key = NO_PROPERTIES, None
    rare = None
    share = delivery.share
    if (
        properties is not NO_PROPERTIES
        or supersede_key is not None
        or share is not None
        or delivery.identifiers
    ):
        rare = _rare_encoder.encode(_Rare(properties, supersede_key, delivery.identifiers, share))
    return (
        delivery.row,
        delivery.session,
        delivery.packet_id,
        None if flow is None else flow.value,
        _message_flags(message) | (delivery.qos | delivery.is_retain << 2) << _DELIVERY_SHIFT,
        len(message.payload) + len(message.topic),
        message.expires_at,
        rare,
        message_id,
        topic,
        payload,
    )


def message_from(
    topic: bytes, payload: bytes, flags: int, expires_at: float | None, rare: bytes | None
) -> ApplicationMessage:
    """Return the message of `message_columns`.

    Raises:
        msgspec.DecodeError: the columns are not ours.
    """
    return _message(topic, payload, flags, expires_at, _decode_rare(rare))


class DeliveryReader:
    """Makes deliveries of columns; those that share a message share it again."""

    def __init__(self) -> None:
        self._messages: dict[int, ApplicationMessage] = {}

    def delivery(
        self,
        row: int,
        session: int,
        packet_id: int,
        flow: int | None,
        flags: int,
        expires_at: float | None,
        rare: bytes | None,
        message_id: int | None,
        topic: bytes | None,
        payload: bytes | None,
        message_rare: bytes | None,
    ) -> DeliveryRow:
        """Return a delivery; topic, payload and `message_rare` may be those of table `message`.

        Raises:
            msgspec.DecodeError, ValueError: the columns are not ours.
        """
        if topic is None or payload is None:
            raise ValueError(f"delivery {row} without its message")
        own = _decode_rare(rare)
        if message_id is None:
            message = _message(topic, payload, flags, expires_at, own)
        elif (shared := self._messages.get(message_id)) is not None:
            message = shared
        else:
            message = _message(topic, payload, flags, expires_at, _decode_rare(message_rare))
            self._messages[message_id] = message
        delivery_flags = flags >> _DELIVERY_SHIFT
        return DeliveryRow(
            row,
            session,
            message,
            delivery_flags & _QOS,
            bool(delivery_flags & _RETAIN),
            own.identifiers,
            own.share,
            packet_id,
            None if flow is None else Flow(flow),
        )


def _message_flags(message: ApplicationMessage) -> int:
    return message.qos | message.is_retain << 2


def _message(
    topic: bytes, payload: bytes, flags: int, expires_at: float | None, rare: _Rare
) -> ApplicationMessage:
    return ApplicationMessage(
        TopicName(topic),
        payload,
        flags & _QOS,
        bool(flags & _RETAIN),
        rare.properties,
        expires_at,
        supersede_key=rare.supersede_key,
    )


def _decode_rare(rare: bytes | None) -> _Rare:
    return _rare_decoder.decode(rare) if rare else _NOTHING_RARE
