"""What no rule can allow."""

import pytest

from broker.access import ReservedTopics
from broker.protocol.packets import TopicFilter, TopicName

RESERVED = ReservedTopics()

REQUESTS = [
    "$aws/things/pump:7_a-b/shadow/get",
    "$aws/things/pump/shadow/update",
    "$aws/things/pump/shadow/delete",
    "$aws/things/pump/shadow/name/config/get",
    "$aws/things/pump/shadow/name/$package/update",
    "$aws/things/pump/shadow/name/delete/delete",
    f"$aws/things/{'t' * 128}/shadow/name/{'s' * 64}/get",
    "$aws/things/pump/jobs/get",
    "$aws/things/pump/jobs/start-next",
    "$aws/things/pump/jobs/$next/get",
    "$aws/things/pump/jobs/job-1/update",
    "$aws/things/pump/streams/s-1/describe/json",
    "$aws/things/pump/streams/s-1/get/cbor",
    "$aws/things/pump/defender/metrics/json",
    "$aws/certificates/create/json",
    "$aws/certificates/create-from-csr/cbor",
    "$aws/provisioning-templates/line 4/provision/cbor",
    "$aws/rules/ingest",
    "$aws/rules/ingest/dt/pump//x",
    "$gnomon/onboard/v1/pump/req/enroll",
    "$gnomon/onboard/v1/pump/req/log/3",
    "$gnomon/attest/v1/pump/evidence",
    "$gnomon/ota/v1/img/0123456789abcdef/need/pump",
    "$gnomon/ota/v1/dev/pump/st",
    "$gnomon/admin/v1/session/list",
]

NOT_FOR_CLIENTS = [
    "$aws",
    "$aws/",
    "$aws/things/pump/shadow",
    "$aws/things/pump/shadow/get/accepted",
    "$aws/things/pump/shadow/update/accepted",
    "$aws/things/pump/shadow/update/rejected",
    "$aws/things/pump/shadow/update/delta",
    "$aws/things/pump/shadow/update/documents",
    "$aws/things/pump/shadow/update\n",
    "$aws/things/pump/shadow/update/",
    "$aws/things/pump/shadow/name/update",
    "$aws/things/pump/shadow/name/config/update/delta",
    f"$aws/things/pump/shadow/name/{'s' * 65}/get",
    "$aws/things//shadow/get",
    "$aws/things/pump 7/shadow/get",
    "$aws/things/pümp/shadow/get",
    "$aws/things/$next/shadow/get",
    f"$aws/things/{'t' * 129}/shadow/get",
    "$aws/things/a/b/shadow/get",
    "$aws/things/pump/jobs/notify",
    "$aws/things/pump/jobs/notify-next",
    "$aws/things/pump/jobs/job-1/update/accepted",
    "$aws/things/pump/streams/s-1/data/cbor",
    "$aws/things/pump/streams/s-1/get/xml",
    "$aws/things/pump/tunnels/notify",
    "$aws/things/pump/defender/metrics/json/accepted",
    "$aws/certificates/create/json/accepted",
    "$aws/provisioning-templates//provision/json",
    "$aws/provisioning-templates/t/provision/json/rejected",
    "$aws/events/presence/connected/pump",
    "$aws/rules/",
    "$aws/rules//x",
    "$gnomon",
    "$gnomon/onboard/v1/pump/rsp/challenge",
    "$gnomon/attest/v1/pump/challenge",
    "$gnomon/ota/v1/meta/image/root",
    "$gnomon/admin/v1/session",
    "$SYS",
    "$SYS/broker/uptime",
]


@pytest.mark.parametrize("topic", REQUESTS)
def test_clients_publish_requests_but_never_retained(topic: str) -> None:
    assert RESERVED.may_publish(TopicName(topic.encode()), is_retain=False)
    assert not RESERVED.may_publish(TopicName(topic.encode()), is_retain=True)


@pytest.mark.parametrize("topic", NOT_FOR_CLIENTS)
def test_clients_never_publish_what_services_publish(topic: str) -> None:
    assert not RESERVED.may_publish(TopicName(topic.encode()), is_retain=False)


@pytest.mark.parametrize(
    "topic", ["dt/pump", "$other/x", "$AWS/things", "$awsome", "/$aws/x", "aws/x", "$share/g/x"]
)
def test_other_topics_are_ordinary(topic: str) -> None:
    assert RESERVED.may_publish(TopicName(topic.encode()), is_retain=True)
    assert not RESERVED.is_guarded(TopicName(topic.encode()))
    assert RESERVED.maximum_qos(TopicFilter(topic.encode())) == 2


def test_statistics_are_reserved_but_not_guarded() -> None:
    assert not RESERVED.is_guarded(TopicFilter(b"$SYS/#"))
    assert RESERVED.is_guarded(TopicFilter(b"$aws/#"))
    assert RESERVED.is_guarded(TopicFilter(b"$gnomon/+"))


@pytest.mark.parametrize("topic_filter", [b"$aws/#", b"$aws", b"$aws/things/+/shadow/get/+"])
def test_subscriptions_below_the_contract_root_get_qos_1(topic_filter: bytes) -> None:
    assert RESERVED.maximum_qos(TopicFilter(topic_filter)) == 1


def test_another_root_takes_the_place_of_the_default() -> None:
    reserved = ReservedTopics("aws")
    assert not reserved.may_publish(TopicName(b"aws/things/pump/shadow/update/delta"), is_retain=False)
    assert reserved.may_publish(TopicName(b"aws/things/pump/shadow/update"), is_retain=False)
    assert reserved.may_publish(TopicName(b"$aws/things/pump/shadow/update/delta"), is_retain=True)


@pytest.mark.parametrize("root", ["", "a/b", "+", "#", "a#", "\0", "$gnomon", "$SYS", "$share"])
def test_a_root_that_cannot_be_reserved_is_refused(root: str) -> None:
    with pytest.raises(ValueError, match=r"topics\.root must be one topic level"):
        ReservedTopics(root)
