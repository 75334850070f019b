"""Hypothesis strategies for values of the protocol.

Knows: what the specifications allow in each packet, told again here so that the codec's own tables
    are tested against something else than themselves.
Does not know: bytes.
Spec: v5 §2.2.2, §3, §4.7; v3.1.1 §3, §4.7.
"""

from typing import Any, Final

from hypothesis import strategies as st

from broker.protocol.packets import (
    V3_1_1,
    V5,
    Auth,
    ClientId,
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
    SubscriptionRequest,
    TopicFilter,
    TopicName,
    UnsubAck,
    Unsubscribe,
    Will,
)
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode

_CHARACTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_LEVEL_CHARACTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0+#/")
_PLAIN_LEVELS: Final = st.sampled_from(["", "a", "b", "$x", "é"]) | st.text(_LEVEL_CHARACTERS, max_size=6)

_TEXTS: Final = st.text(_CHARACTERS, max_size=20)
_PAIRS: Final = st.tuples(_TEXTS, _TEXTS)
_BYTES: Final = st.integers(0, 1)
_TWO: Final = st.integers(0, 0xFFFF)
_FOUR: Final = st.integers(0, 0xFFFF_FFFF)
_BINARY: Final = st.binary(max_size=20)
_PACKET_IDS: Final = st.integers(1, 0xFFFF)


def topic_names() -> st.SearchStrategy[TopicName]:
    """Valid Topic Names: short, often equal, with empty and `$` levels."""
    return (
        st.lists(_PLAIN_LEVELS, min_size=1, max_size=5)
        .map("/".join)
        .filter(bool)
        .map(lambda text: TopicName(text.encode()))
    )


def topic_filters(*, with_shared: bool = True) -> st.SearchStrategy[TopicFilter]:
    """Valid Topic Filters; with `$share/{name}/...` among them unless told otherwise."""
    levels = st.lists(_PLAIN_LEVELS | st.just("+"), max_size=4)
    plain = (
        st.tuples(levels, st.sampled_from([["#"], ["+"], ["a"], []]))
        .map(lambda parts: "/".join(parts[0] + parts[1]))
        .filter(lambda text: text and not text.startswith("$share/"))
    )
    names = st.text(_LEVEL_CHARACTERS, min_size=1, max_size=4)
    shared = st.tuples(names, plain).map(lambda parts: f"$share/{parts[0]}/{parts[1]}")
    return (plain | shared if with_shared else plain).map(lambda text: TopicFilter(text.encode()))


_FIELDS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "payload_format_indicator": _BYTES,
    "message_expiry_interval": _FOUR,
    "content_type": _TEXTS,
    "response_topic": topic_names().map(bytes.decode),
    "correlation_data": _BINARY,
    "subscription_identifiers": st.lists(st.integers(1, 268_435_455), max_size=3).map(tuple),
    "session_expiry_interval": _FOUR,
    "assigned_client_identifier": _TEXTS,
    "server_keep_alive": _TWO,
    "authentication_method": _TEXTS,
    "authentication_data": _BINARY,
    "request_problem_information": st.booleans(),
    "will_delay_interval": _FOUR,
    "request_response_information": st.booleans(),
    "response_information": _TEXTS,
    "server_reference": _TEXTS,
    "reason_string": _TEXTS,
    "receive_maximum": st.integers(1, 0xFFFF),
    "topic_alias_maximum": _TWO,
    "topic_alias": st.integers(1, 0xFFFF),
    "maximum_qos": _BYTES,
    "retain_available": st.booleans(),
    "user_properties": st.lists(_PAIRS, max_size=3).map(tuple),
    "maximum_packet_size": st.integers(1, 0xFFFF_FFFF),
    "wildcard_subscription_available": st.booleans(),
    "subscription_identifier_available": st.booleans(),
    "shared_subscription_available": st.booleans(),
}

_MESSAGE: Final = (
    "payload_format_indicator message_expiry_interval content_type response_topic correlation_data"
)
_ANSWER: Final = "reason_string user_properties"
_AUTHENTICATION: Final = "authentication_method authentication_data"
#: The tables "Properties" of v5 §3, packet by packet.
_CARRIED: Final[dict[type, str]] = {
    Connect: f"session_expiry_interval receive_maximum maximum_packet_size topic_alias_maximum"
    f" request_response_information request_problem_information user_properties {_AUTHENTICATION}",
    Will: f"will_delay_interval user_properties {_MESSAGE}",
    ConnAck: f"session_expiry_interval receive_maximum maximum_qos retain_available maximum_packet_size"
    f" assigned_client_identifier topic_alias_maximum wildcard_subscription_available"
    f" subscription_identifier_available shared_subscription_available server_keep_alive"
    f" response_information server_reference {_AUTHENTICATION} {_ANSWER}",
    Publish: f"topic_alias subscription_identifiers user_properties {_MESSAGE}",
    PubAck: _ANSWER,
    PubRec: _ANSWER,
    PubRel: _ANSWER,
    PubComp: _ANSWER,
    Subscribe: "subscription_identifiers user_properties",
    SubAck: _ANSWER,
    Unsubscribe: "user_properties",
    UnsubAck: _ANSWER,
    Disconnect: f"session_expiry_interval server_reference {_ANSWER}",
    Auth: f"{_AUTHENTICATION} {_ANSWER}",
}


@st.composite
def _some_properties(draw: st.DrawFn, packet: type) -> Properties:
    names = draw(st.lists(st.sampled_from(_CARRIED[packet].split()), unique=True, min_size=1))
    if "authentication_data" in names and "authentication_method" not in names:
        names.append("authentication_method")
    values = {name: draw(_FIELDS[name]) for name in names}
    if packet is Subscribe:
        values["subscription_identifiers"] = values.get("subscription_identifiers", ())[:1]
    return Properties(**values)


def properties_for(packet: type) -> st.SearchStrategy[Properties]:
    """Properties that a packet class of `broker.protocol.packets`, or Will, may carry."""
    return st.just(NO_PROPERTIES) | _some_properties(packet)


def _properties(packet: type, version: int) -> st.SearchStrategy[Properties]:
    return properties_for(packet) if version == V5 else st.just(NO_PROPERTIES)


@st.composite
def publishes(draw: st.DrawFn, version: int) -> Publish:
    """PUBLISH packets as either side may send them; in v5 some have a Topic Alias only."""
    properties = draw(_properties(Publish, version))
    qos = draw(st.integers(0, 2))
    only_alias = properties.topic_alias is not None and draw(st.booleans())
    return Publish(
        TopicName(b"") if only_alias else draw(topic_names()),
        draw(st.binary(max_size=200)),
        qos,
        draw(st.booleans()),
        draw(st.booleans()) if qos else False,
        draw(_PACKET_IDS) if qos else 0,
        properties,
    )


@st.composite
def _connects(draw: st.DrawFn, version: int) -> Connect:
    will = None
    if draw(st.booleans()):
        will = Will(
            topic=draw(topic_names()),
            payload=draw(_BINARY),
            qos=draw(st.integers(0, 2)),
            retain=draw(st.booleans()),
            properties=draw(_properties(Will, version)),
        )
    user_name = draw(st.none() | _TEXTS)
    has_password = draw(st.booleans()) and (version == V5 or user_name is not None)
    return Connect(
        version=version,
        client_id=ClientId(draw(_TEXTS)),
        is_clean_start=draw(st.booleans()),
        keep_alive=draw(_TWO),
        will=will,
        user_name=user_name,
        password=draw(_BINARY) if has_password else None,
        properties=draw(_properties(Connect, version)),
    )


def _codes(*codes: int) -> st.SearchStrategy[ReasonCode]:
    return st.sampled_from([ReasonCode(code) for code in codes])


def _only_success(version: int, codes: st.SearchStrategy[ReasonCode]) -> st.SearchStrategy[ReasonCode]:
    return codes if version == V5 else st.just(ReasonCode.SUCCESS)


def _connacks(version: int) -> st.SearchStrategy[ConnAck]:
    refusals = _codes(0x84, 0x85, 0x86, 0x87, 0x88)
    if version == V5:
        refusals |= _codes(*(0x80, 0x81, 0x82, 0x83, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97))
        refusals |= _codes(*(0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F))
    properties = _properties(ConnAck, version)
    accepted = st.builds(ConnAck, st.booleans(), st.just(ReasonCode.SUCCESS), properties)
    return accepted | st.builds(ConnAck, st.just(False), refusals, properties)


def _acknowledgements(version: int) -> st.SearchStrategy[ControlPacket]:
    received = _only_success(version, _codes(0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99))
    released = _only_success(version, _codes(0x00, 0x92))
    return st.one_of(
        st.builds(PubAck, _PACKET_IDS, received, _properties(PubAck, version)),
        st.builds(PubRec, _PACKET_IDS, received, _properties(PubRec, version)),
        st.builds(PubRel, _PACKET_IDS, released, _properties(PubRel, version)),
        st.builds(PubComp, _PACKET_IDS, released, _properties(PubComp, version)),
    )


@st.composite
def _requests(draw: st.DrawFn, version: int) -> SubscriptionRequest:
    topic_filter = draw(topic_filters())
    qos = draw(st.integers(0, 2))
    if version == V3_1_1:
        return SubscriptionRequest(topic_filter, qos)
    is_no_local = not topic_filter.startswith(b"$share/") and draw(st.booleans())
    return SubscriptionRequest(topic_filter, qos, is_no_local, draw(st.booleans()), draw(st.integers(0, 2)))


def _some(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(elements, min_size=1, max_size=4).map(tuple)


def _subscriptions(version: int) -> st.SearchStrategy[ControlPacket]:
    granted = _codes(0x00, 0x01, 0x02, 0x80)
    if version == V5:
        granted |= _codes(0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
    removed = _codes(0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)
    removals = _some(removed) if version == V5 else st.just(())
    return st.one_of(
        st.builds(Subscribe, _PACKET_IDS, _some(_requests(version)), _properties(Subscribe, version)),
        st.builds(SubAck, _PACKET_IDS, _some(granted), _properties(SubAck, version)),
        st.builds(Unsubscribe, _PACKET_IDS, _some(topic_filters()), _properties(Unsubscribe, version)),
        st.builds(UnsubAck, _PACKET_IDS, removals, _properties(UnsubAck, version)),
    )


def _endings(version: int) -> st.SearchStrategy[ControlPacket]:
    if version == V3_1_1:
        return st.just(Disconnect())
    codes = _codes(
        *(0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94),
        *(0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2),
    )
    with_method = properties_for(Auth).filter(lambda found: found.authentication_method is not None)
    return st.one_of(
        st.builds(Disconnect, codes, properties_for(Disconnect)),
        st.builds(Auth, _codes(0x00, 0x18, 0x19), with_method),
        st.just(Auth()),
    )


def control_packets(version: int) -> st.SearchStrategy[ControlPacket]:
    """Every packet of a version, of clients and of Servers, as the specification allows it."""
    return st.one_of(
        publishes(version),
        _connects(version),
        _connacks(version),
        _acknowledgements(version),
        _subscriptions(version),
        st.just(PingReq()),
        st.just(PingResp()),
        _endings(version),
    )
