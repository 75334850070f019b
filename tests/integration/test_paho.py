"""paho-mqtt, both versions, over mutual TLS and over plain TCP: devices and an operator talk to each other.

`dt/NAME/#` goes from the device NAME to operators and `cmd/NAME/#` the other way, as the built-in rules
have it; over TCP nobody has a certificate, and everybody may use both.
"""

import hashlib
from typing import Any

import pytest

from paho_peer import VERSIONS, Received, Version
from server_site import Site

GRANTED_QOS_1 = 0x01
FAILURE = 0x80
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E
PACKET_IDENTIFIER_NOT_FOUND = 0x92
DISCONNECT_WITH_WILL_MESSAGE = 0x04
MIB = 1024 * 1024

both_versions = pytest.mark.parametrize("version", VERSIONS)
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


@pytest.fixture(params=["mtls_site", "tcp_site"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


def kept_session(version: Version) -> dict[str, Any]:
    """Options of a client whose Session outlives its connection."""
    properties = {"SessionExpiryInterval": 600} if version == "5" else None
    return {"is_clean": False, "properties": properties}


@every_qos
@both_versions
def test_messages_reach_the_operator_and_the_device(
    site: Site, name: str, version: Version, qos: int
) -> None:
    with site.device(name, version) as device, site.operator(version) as operator:
        assert operator.subscribe(f"dt/{name}/#", qos) == qos
        assert device.subscribe(f"cmd/{name}/+", qos) == qos
        device.publish(f"dt/{name}/heat", b"21.5", qos=qos)
        assert operator.receive() == Received(f"dt/{name}/heat", b"21.5", qos, False)
        operator.publish(f"cmd/{name}/off", b"", qos=qos)
        assert device.receive() == Received(f"cmd/{name}/off", b"", qos, False)


@pytest.mark.parametrize(("sender", "receiver"), [("3.1.1", "5"), ("5", "3.1.1")])
@every_qos
def test_the_two_versions_understand_each_other(
    site: Site, name: str, sender: Version, receiver: Version, qos: int
) -> None:
    with site.device(name, sender) as device, site.operator(receiver) as operator:
        operator.subscribe(f"dt/{name}/x", 2)
        device.publish(f"dt/{name}/x", b"\x00\xff", qos=qos)
        assert operator.receive() == Received(f"dt/{name}/x", b"\x00\xff", qos, False)


@both_versions
def test_a_message_comes_at_the_lower_of_both_qos(site: Site, name: str, version: Version) -> None:
    with site.device(name, version) as device, site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/x", 1)
        for qos in (0, 1, 2):
            device.publish(f"dt/{name}/x", b"%d" % qos, qos=qos)
        assert [operator.receive().qos for _ in range(3)] == [0, 1, 1]


@both_versions
def test_after_unsubscribe_nothing_more_comes(site: Site, name: str, version: Version) -> None:
    with site.device(name, version) as device, site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/#")
        operator.subscribe(f"dt/{name}/end")
        operator.unsubscribe(f"dt/{name}/#")
        device.publish(f"dt/{name}/x", b"missed", qos=1)
        device.publish(f"dt/{name}/end", b"end", qos=1)
        assert operator.receive().payload == b"end"


@both_versions
def test_a_retained_message_waits_for_subscribers_until_it_is_removed(
    site: Site, name: str, version: Version
) -> None:
    topic = f"cmd/{name}/mode"
    with site.device(name, version) as device, site.operator(version) as operator:
        operator.publish(topic, b"eco", qos=1, is_retain=True)
        operator.publish(topic, b"night", qos=1, is_retain=True)
        device.subscribe(topic)
        assert device.receive() == Received(topic, b"night", 1, True)
        operator.publish(topic, b"day", qos=1, is_retain=True)
        assert device.receive() == Received(topic, b"day", 1, False)
        operator.publish(topic, b"", qos=1, is_retain=True)
        assert device.receive() == Received(topic, b"", 1, False)
        device.unsubscribe(topic)
        device.subscribe(topic)
        operator.publish(topic, b"end", qos=1)
        assert device.receive() == Received(topic, b"end", 1, False)


@both_versions
def test_the_will_of_a_killed_client_is_published(site: Site, name: str, version: Version) -> None:
    with site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/#")
        device = site.device(name, version, will=(f"dt/{name}/gone", b"lost", 1, False))
        device.connect()
        device.kill()
        assert operator.receive() == Received(f"dt/{name}/gone", b"lost", 1, False)


@both_versions
def test_a_retained_will_waits_for_subscribers(site: Site, name: str, version: Version) -> None:
    topic = f"dt/{name}/gone"
    with site.operator(version) as operator:
        operator.subscribe(topic)
        device = site.device(name, version, will=(topic, b"lost", 1, True))
        device.connect()
        device.kill()
        assert operator.receive() == Received(topic, b"lost", 1, False)
        operator.unsubscribe(topic)
        operator.subscribe(topic)
        assert operator.receive() == Received(topic, b"lost", 1, True)


@both_versions
def test_disconnect_takes_the_will_along(site: Site, name: str, version: Version) -> None:
    with site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/#")
        with site.device(name, version, will=(f"dt/{name}/gone", b"lost", 1, False)):
            pass
        with site.device(name, version) as device:
            device.publish(f"dt/{name}/back", b"back", qos=1)
        assert operator.receive().payload == b"back"


def test_a_v5_client_may_disconnect_and_leave_its_will(site: Site, name: str) -> None:
    with site.operator("5") as operator:
        operator.subscribe(f"dt/{name}/#")
        device = site.device(name, "5", will=(f"dt/{name}/gone", b"bye", 1, False))
        device.connect()
        device.disconnect(DISCONNECT_WITH_WILL_MESSAGE)
        assert operator.receive().payload == b"bye"


def test_a_client_that_is_back_in_time_has_no_will(site: Site, name: str) -> None:
    late = {"will": (f"dt/{name}/gone", b"lost", 1, False), "will_properties": {"WillDelayInterval": 600}}
    with site.operator("5") as operator:
        operator.subscribe(f"dt/{name}/#")
        device = site.device(name, "5", **kept_session("5"), **late)
        device.connect()
        device.kill()
        with site.device(name, "5", **kept_session("5")) as device:
            device.publish(f"dt/{name}/back", b"back", qos=1)
        assert operator.receive().payload == b"back"


@pytest.mark.parametrize("is_killed", [False, True], ids=["disconnected", "killed"])
@both_versions
def test_a_session_keeps_messages_while_its_client_is_away(
    site: Site, name: str, version: Version, is_killed: bool
) -> None:
    options = kept_session(version)
    with site.operator(version) as operator:
        device = site.device(name, version, **options)
        assert not device.connect().is_session_present
        device.subscribe(f"cmd/{name}/#", 2)
        device.kill() if is_killed else device.disconnect()
        for number in range(20):
            assert operator.publish(f"cmd/{name}/x", b"%d" % number, qos=1 + number // 10) == 0

        again = site.device(name, version, **options)
        assert again.connect().is_session_present
        got = [again.receive() for _ in range(20)]
        assert [(one.payload, one.qos) for one in got] == [(b"%d" % n, 1 + n // 10) for n in range(20)]
        operator.publish(f"cmd/{name}/x", b"live", qos=1)
        assert again.receive().payload == b"live"
        again.disconnect()


@both_versions
def test_a_clean_start_forgets_the_session(site: Site, name: str, version: Version) -> None:
    with site.device(name, version, **kept_session(version)) as device:
        device.subscribe(f"cmd/{name}/#")
    with site.device(name, version, is_clean=True):
        pass
    device = site.device(name, version, **kept_session(version))
    assert not device.connect().is_session_present
    device.disconnect()


@both_versions
def test_a_second_client_of_the_same_id_takes_the_session_over(
    site: Site, name: str, version: Version
) -> None:
    options = kept_session(version)
    with site.operator(version) as operator:
        first = site.device(name, version, **options)
        first.connect()
        first.subscribe(f"cmd/{name}/#")
        second = site.device(name, version, **options)
        assert second.connect().is_session_present
        code = first.disconnected()
        assert code == SESSION_TAKEN_OVER if version == "5" else code != 0
        operator.publish(f"cmd/{name}/x", b"for the second", qos=1)
        assert second.receive().payload == b"for the second"
        assert first.raw.empty()
        first.disconnect()
        second.disconnect()


@both_versions
@pytest.mark.parametrize(
    "topic",
    [
        "$SYS/broker/uptime",
        "$aws/things/{name}/shadow/update/accepted",
        "$aws/things/{name}/shadow/update/delta",
        "$gnomon/admin/v1",
    ],
)
def test_clients_may_not_speak_for_the_server(site: Site, name: str, version: Version, topic: str) -> None:
    topic = topic.format(name=name)
    device = site.device(name, version)
    device.connect()
    if version == "5":
        assert device.publish(topic, b"{}", qos=1) == NOT_AUTHORIZED
        # Where PUBREC says no, paho tells of the PUBCOMP after it.
        assert device.publish(topic, b"{}", qos=2) == PACKET_IDENTIFIER_NOT_FOUND
        device.post(topic, b"{}")
        assert device.disconnected() == NOT_AUTHORIZED
    else:
        device.post(topic, b"{}", qos=1)
        assert device.disconnected() != 0
    device.disconnect()


@both_versions
def test_wildcards_do_not_reach_reserved_topics(mtls_site: Site, name: str, version: Version) -> None:
    with mtls_site.device(name, version) as device:
        refusal = NOT_AUTHORIZED if version == "5" else FAILURE
        for topic_filter in ("#", "+/things/#", "$aws/#", "$aws/things/other/shadow/#", "$gnomon/#"):
            assert device.subscribe(topic_filter) == refusal, topic_filter
        assert device.subscribe("$SYS/#") == GRANTED_QOS_1
        assert device.subscribe(f"$aws/things/{name}/shadow/#", 2) == GRANTED_QOS_1


@both_versions
def test_without_a_certificate_reserved_topics_stay_closed(
    tcp_site: Site, name: str, version: Version
) -> None:
    with tcp_site.device(name, version) as client:
        refusal = NOT_AUTHORIZED if version == "5" else FAILURE
        for topic_filter in (f"$aws/things/{name}/shadow/#", "$gnomon/#"):
            assert client.subscribe(topic_filter) == refusal, topic_filter
        client.subscribe("#")
        client.subscribe(f"dt/{name}/#")
        client.publish(f"dt/{name}/x", b"end", qos=1)
        messages = client.receive_until(b"end")
        assert not [message for message in messages if message.topic.startswith("$")]


@both_versions
def test_a_device_may_not_speak_for_another(mtls_site: Site, name: str, version: Version) -> None:
    device = mtls_site.device(name, version)
    device.connect()
    device.post(f"dt/not-{name}/x", b"1", qos=0)
    code = device.disconnected()
    assert code == NOT_AUTHORIZED if version == "5" else code != 0
    device.disconnect()


@both_versions
def test_the_user_name_of_device_kits_without_a_password_is_ignored(
    site: Site, name: str, version: Version
) -> None:
    user_name = "?SDK=PythonV2&Version=1.21.0"
    with site.device(name, version, user_name=user_name) as device, site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/x")
        device.publish(f"dt/{name}/x", b"1", qos=1)
        assert operator.receive().payload == b"1"


def test_v5_properties_travel_unchanged(site: Site, name: str) -> None:
    properties = {
        "PayloadFormatIndicator": 1,
        "ContentType": "application/json; größe=7",
        "ResponseTopic": f"cmd/{name}/answer",
        "CorrelationData": bytes(range(256)),
        "UserProperty": [("a", "1"), ("a", "2"), ("", "ü")],
    }
    with site.device(name, "5") as device, site.operator("5") as operator:
        operator.subscribe(f"dt/{name}/x")
        device.publish(f"dt/{name}/x", b"{}", qos=1, properties=properties)
        got = vars(operator.receive_raw().properties)
        assert {key: got[key] for key in properties} == properties


def test_v5_subscription_options_hold(tcp_site: Site, name: str) -> None:
    topic = f"dt/{name}/x"
    with tcp_site.device(name, "5") as client, tcp_site.operator("5") as other:
        client.publish(topic, b"kept", qos=1, is_retain=True)
        client.subscribe(topic, noLocal=True, retainAsPublished=True, retainHandling=2)
        client.publish(topic, b"own", qos=1)
        other.publish(topic, b"foreign", qos=1, is_retain=True)
        assert client.receive() == Received(topic, b"foreign", 1, True)
        other.publish(topic, b"", qos=1, is_retain=True)


def test_v5_reason_codes_tell_when_nobody_listens(site: Site, name: str) -> None:
    with site.device(name, "5") as device, site.operator("5") as operator:
        assert device.publish(f"dt/{name}/x", b"1", qos=1) == NO_MATCHING_SUBSCRIBERS
        operator.subscribe(f"dt/{name}/x")
        assert device.publish(f"dt/{name}/x", b"1", qos=1) == 0


def test_v5_connack_tells_the_limits_and_an_assigned_client_id(tcp_site: Site) -> None:
    client = tcp_site.device("", "5")
    told = client.connect().properties
    client.disconnect()
    assert told["AssignedClientIdentifier"].startswith("auto-")
    assert told["ReceiveMaximum"] == 1024
    assert told["MaximumPacketSize"] == 16 * MIB
    assert told["TopicAliasMaximum"] == 32


def test_an_expired_message_is_not_delivered_and_a_living_one_tells_what_is_left(
    site: Site, name: str
) -> None:
    with site.operator("5") as operator:
        with site.device(name, "5", **kept_session("5")) as device:
            device.subscribe(f"cmd/{name}/#")
        for payload, interval in ((b"brief", 1), (b"long", 600)):
            extra = {"MessageExpiryInterval": interval}
            operator.publish(f"cmd/{name}/x", payload, qos=1, properties=extra)
        # The server's own clock tells that the second is over: a Will that waits for two.
        operator.subscribe("dt/+/gone")
        witness = site.device(
            f"{name}-w",
            "5",
            properties={"SessionExpiryInterval": 600},
            will=(f"dt/{name}-w/gone", b"", 1, False),
            will_properties={"WillDelayInterval": 2},
        )
        witness.connect()
        witness.kill()
        while operator.receive().topic != f"dt/{name}-w/gone":
            pass
        with site.device(name, "5", **kept_session("5")) as device:
            message = device.receive_raw()
            assert message.payload == b"long"
            assert 590 < vars(message.properties)["MessageExpiryInterval"] < 600


def test_receive_maximum_1_holds_the_next_message_back(site: Site, name: str) -> None:
    slow = {"properties": {"ReceiveMaximum": 1}, "acknowledges_by_hand": True}
    with site.device(name, "5", **slow) as device, site.operator("5") as operator:
        device.subscribe(f"cmd/{name}/work")
        device.subscribe(f"cmd/{name}/mark", 0)
        for number in range(3):
            operator.publish(f"cmd/{name}/work", b"%d" % number, qos=1)
        for number in range(3):
            message = device.receive_raw()
            assert message.payload == b"%d" % number
            # QoS 0 is not counted: had another QoS 1 message been sent, it would be here first.
            operator.publish(f"cmd/{name}/mark", b"mark")
            assert device.receive().payload == b"mark"
            device.acknowledge(message)


@every_qos
@both_versions
def test_a_large_payload_arrives_whole(site: Site, name: str, version: Version, qos: int) -> None:
    payload = hashlib.shake_128(name.encode()).digest(MIB)
    with site.device(name, version) as device, site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/x", qos)
        device.publish(f"dt/{name}/x", payload, qos=qos)
        assert operator.receive() == Received(f"dt/{name}/x", payload, qos, False)


@every_qos
@both_versions
def test_many_small_messages_arrive_once_and_in_order(
    site: Site, name: str, version: Version, qos: int
) -> None:
    count = 500
    with site.device(name, version) as device, site.operator(version) as operator:
        operator.subscribe(f"dt/{name}/x", qos)
        posted = [device.post(f"dt/{name}/x", b"%d" % number, qos=qos) for number in range(count)]
        assert [int(operator.receive().payload) for _ in range(count)] == list(range(count))
        for mid in posted:
            assert device.settle(mid) == 0
        device.publish(f"dt/{name}/x", b"end", qos=qos)
        assert operator.receive().payload == b"end"
