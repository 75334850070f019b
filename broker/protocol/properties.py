"""Properties of MQTT 5 Control Packets as one typed value.

Knows: names and types of all 27 Properties.
Does not know: which packet may carry which (the codec's table), bytes.
Spec: v5 §2.2.2.
"""

from typing import Final

from msgspec import Struct


class Properties(Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """The Properties of one packet; None means absent, which differs from zero.

    Times are seconds. `user_properties` and `subscription_identifiers` may repeat and keep
    their order (v5 [MQTT-3.1.3-10], [MQTT-3.3.2-18]); every other Property comes at most once.
    """

    payload_format_indicator: int | None = None
    message_expiry_interval: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_identifiers: tuple[int, ...] = ()
    session_expiry_interval: int | None = None
    assigned_client_identifier: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: bool | None = None
    will_delay_interval: int | None = None
    request_response_information: bool | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    user_properties: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: bool | None = None
    subscription_identifier_available: bool | None = None
    shared_subscription_available: bool | None = None


#: The usual case, shared so that a packet without Properties costs no object.
NO_PROPERTIES: Final = Properties()
