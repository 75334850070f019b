"""Who is let in, as whom, and what the built-in rules let them do."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from broker.access import (
    AccessRefusedError,
    AlternativeNames,
    CertificateSubject,
    ClientCertificate,
    ConnectRequest,
    Principal,
    RulesAuthenticator,
    builtin_rules,
    parse_rules,
)
from broker.protocol.packets import V5, TopicFilter, TopicName
from broker.protocol.reason_codes import ReasonCode

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def _certificate(common_name: str | None, unit: str | None = None) -> ClientCertificate:
    return ClientCertificate(
        subject=CertificateSubject(common_name=common_name, organizational_unit=unit),
        issuer_common_name="Plant CA",
        serial_number="1",
        subject_alternative_names=AlternativeNames(),
        fingerprint_sha256="00",
        spki_sha256="00",
        not_before=datetime(2026, 1, 1, tzinfo=UTC),
        not_after=datetime(2027, 1, 1, tzinfo=UTC),
        authority_key_id=None,
    )


def _request(client_id: str, certificate: ClientCertificate | None = None, **more: Any) -> ConnectRequest:
    return ConnectRequest(
        client_id=client_id,
        version=V5,
        certificate=certificate,
        listener="main",
        tenant="default",
        peer_address="192.0.2.1",
        **more,
    )


def _authenticator(
    *, allow_anonymous: bool = False, require_client_id_is_common_name: bool = True, root: str = "$aws"
) -> RulesAuthenticator:
    return RulesAuthenticator(
        builtin_rules(root),
        allow_anonymous=allow_anonymous,
        require_client_id_is_common_name=require_client_id_is_common_name,
        now=lambda: NOW,
        topics_root=root,
    )


DEVICE = _request("pump", _certificate("pump"))
NAMELESS = _request("pump 7", _certificate("pump 7"))
OPERATOR = _request("console", _certificate("alice", "operator"))
ANONYMOUS = _request("anyone")


def _may(principal: Principal, action: str, topic: str) -> bool:
    permissions = principal.permissions
    match action:
        case "publish":
            return permissions.may_publish(TopicName(topic.encode()), is_retain=False)
        case "retain":
            return permissions.may_publish(TopicName(topic.encode()), is_retain=True)
        case "receive":
            return permissions.may_receive(TopicName(topic.encode()))
    return permissions.may_subscribe(TopicFilter(topic.encode()))


BUILT_IN = [
    (DEVICE, "publish", "$aws/things/pump/shadow/update", True),
    (DEVICE, "publish", "$aws/things/pump/shadow/name/config/get", True),
    (DEVICE, "publish", "$aws/things/pump/jobs/$next/get", True),
    (DEVICE, "publish", "$aws/things/pump/streams/s/get/cbor", True),
    (DEVICE, "publish", "$aws/things/pump/defender/metrics/json", True),
    (DEVICE, "publish", "$aws/rules/ingest/dt/pump", True),
    (DEVICE, "publish", "dt/pump/temperature", True),
    (DEVICE, "retain", "dt/pump/temperature", True),
    (DEVICE, "retain", "$aws/things/pump/shadow/update", False),
    (DEVICE, "publish", "$aws/things/pump/shadow/update/accepted", False),
    (DEVICE, "publish", "$aws/things/other/shadow/update", False),
    (DEVICE, "publish", "$aws/things/pump2/shadow/update", False),
    (DEVICE, "publish", "dt/other/temperature", False),
    (DEVICE, "publish", "dt/pump2", False),
    (DEVICE, "publish", "cmd/pump/stop", False),
    (DEVICE, "publish", "a", False),
    (DEVICE, "publish", "$gnomon/admin/v1/session/kick", False),
    (DEVICE, "publish", "$SYS/broker/uptime", False),
    (DEVICE, "subscribe", "$aws/things/pump/shadow/update/accepted", True),
    (DEVICE, "subscribe", "$aws/things/pump/shadow/get/+", True),
    (DEVICE, "subscribe", "$aws/things/pump/jobs/notify-next", True),
    (DEVICE, "subscribe", "$aws/things/pump/#", True),
    (DEVICE, "subscribe", "cmd/pump/#", True),
    (DEVICE, "subscribe", "$SYS/#", True),
    (DEVICE, "receive", "$aws/things/pump/shadow/update/delta", True),
    (DEVICE, "receive", "$aws/things/other/shadow/update/delta", False),
    (DEVICE, "subscribe", "$aws/things/+/shadow/update/delta", False),
    (DEVICE, "subscribe", "$aws/#", False),
    (DEVICE, "subscribe", "$aws/events/#", False),
    (DEVICE, "subscribe", "cmd/+/stop", False),
    (DEVICE, "subscribe", "dt/other/#", False),
    (DEVICE, "subscribe", "#", False),
    (NAMELESS, "publish", "dt/pump 7/x", False),
    (NAMELESS, "publish", "$aws/rules/ingest", False),
    (NAMELESS, "subscribe", "$SYS/#", True),
    (OPERATOR, "publish", "$aws/things/pump/shadow/update", True),
    (OPERATOR, "publish", "$aws/things/pump/shadow/name/config/delete", True),
    (OPERATOR, "publish", "$aws/things/pump/shadow/update/delta", False),
    (OPERATOR, "publish", "$aws/things/pump/jobs/get", False),
    (OPERATOR, "publish", "cmd/pump/stop", True),
    (OPERATOR, "publish", "$gnomon/admin/v1/session/kick", True),
    (OPERATOR, "publish", "dt/pump/temperature", False),
    (OPERATOR, "subscribe", "$aws/things/+/shadow/update/documents", True),
    (OPERATOR, "subscribe", "$aws/events/#", True),
    (OPERATOR, "subscribe", "dt/#", True),
    (OPERATOR, "subscribe", "$SYS/#", True),
    (OPERATOR, "subscribe", "#", False),
    (OPERATOR, "subscribe", "$gnomon/#", False),
]


@pytest.mark.parametrize(("request_", "action", "topic", "verdict"), BUILT_IN)
async def test_built_in_rules(request_: ConnectRequest, action: str, topic: str, verdict: bool) -> None:
    principal = await _authenticator().authenticate(request_)
    assert _may(principal, action, topic) is verdict


OPEN = [
    ("publish", "a/b", True),
    ("retain", "a/b", True),
    ("publish", "$other/x", True),
    ("subscribe", "#", True),
    ("subscribe", "$other/#", True),
    ("subscribe", "$SYS/#", True),
    ("receive", "$SYS/broker/uptime", True),
    ("publish", "$SYS/broker/uptime", False),
    ("publish", "$aws/things/other/shadow/update", False),
    ("subscribe", "$aws/things/other/shadow/update", False),
    ("receive", "$aws/things/other/shadow/update", False),
    ("publish", "$gnomon/admin/v1/session/kick", False),
    ("subscribe", "$gnomon/#", False),
]


@pytest.mark.parametrize("client", [ANONYMOUS, DEVICE], ids=["anonymous", "device"])
@pytest.mark.parametrize(("action", "topic", "verdict"), OPEN)
async def test_where_anonymous_clients_are_let_in_all_use_what_is_not_reserved(
    client: ConnectRequest, action: str, topic: str, verdict: bool
) -> None:
    principal = await _authenticator(allow_anonymous=True).authenticate(client)
    assert _may(principal, action, topic) is verdict


async def test_a_device_keeps_its_own_topics_where_anonymous_clients_are_let_in() -> None:
    principal = await _authenticator(allow_anonymous=True).authenticate(DEVICE)
    assert _may(principal, "publish", "$aws/things/pump/shadow/update")


async def test_another_root_serves_devices_and_stays_shut_for_others() -> None:
    authenticator = _authenticator(allow_anonymous=True, root="aws")
    device = await authenticator.authenticate(DEVICE)
    assert _may(device, "publish", "aws/things/pump/shadow/update")
    assert not _may(device, "publish", "aws/things/other/shadow/update")
    anonymous = await authenticator.authenticate(_request("aws"))
    assert _may(anonymous, "subscribe", "#")
    assert not _may(anonymous, "receive", "aws/things/pump/shadow/update")


@pytest.mark.parametrize("client_id", ["pump", "alice"])
async def test_a_client_without_certificate_is_refused_whatever_it_says(client_id: str) -> None:
    with pytest.raises(AccessRefusedError) as raised:
        await _authenticator().authenticate(_request(client_id, user_name="alice", password=b"secret"))
    assert raised.value.reason_code is ReasonCode.NOT_AUTHORIZED


async def test_a_device_is_the_thing_that_its_common_name_names() -> None:
    principal = await _authenticator().authenticate(DEVICE)
    assert principal.thing_name == principal.client_id == "pump"
    assert principal.roles == frozenset()
    assert principal.certificate is DEVICE.certificate


@pytest.mark.parametrize("client_id", ["other", "", "+", "a/b", "#", "$aws", "Pump", "pump ", "pümp"])
async def test_a_device_under_another_client_id_is_refused(client_id: str) -> None:
    with pytest.raises(AccessRefusedError) as raised:
        await _authenticator().authenticate(_request(client_id, _certificate("pump")))
    assert raised.value.reason_code is ReasonCode.CLIENT_IDENTIFIER_NOT_VALID


async def test_another_client_id_changes_no_thing_where_it_is_let_in() -> None:
    authenticator = _authenticator(require_client_id_is_common_name=False)
    principal = await authenticator.authenticate(_request("other", _certificate("pump")))
    assert principal.thing_name == "pump"
    assert _may(principal, "publish", "dt/pump/x")
    assert not _may(principal, "publish", "dt/other/x")


@pytest.mark.parametrize("common_name", ["+", "#", "a/b", "$aws", "pümp", "pump 7", "a" * 129])
async def test_a_common_name_that_names_no_thing_gives_no_thing(common_name: str) -> None:
    principal = await _authenticator().authenticate(_request(common_name, _certificate(common_name)))
    assert principal.thing_name is None
    assert not _may(principal, "publish", f"dt/{common_name}/x")
    assert not _may(principal, "publish", "dt/x/x")


async def test_a_certificate_without_common_name_is_no_device() -> None:
    with pytest.raises(AccessRefusedError):
        await _authenticator().authenticate(_request("pump", _certificate(None)))


async def test_an_operator_uses_any_client_id_and_is_no_thing() -> None:
    principal = await _authenticator().authenticate(OPERATOR)
    assert principal.roles == {"operator"}
    assert principal.thing_name is None


@pytest.mark.parametrize("unit", ["Operator", "operators", "operator ", "", None])
async def test_only_the_exact_unit_makes_an_operator(unit: str | None) -> None:
    principal = await _authenticator().authenticate(_request("alice", _certificate("alice", unit)))
    assert principal.roles == frozenset()


@pytest.mark.parametrize("allow_anonymous", [False, True])
async def test_a_certificate_out_of_its_time_is_refused(allow_anonymous: bool) -> None:
    expired = replace(_certificate("pump"), not_after=datetime(2026, 5, 1, tzinfo=UTC))
    with pytest.raises(AccessRefusedError, match="expired"):
        await _authenticator(allow_anonymous=allow_anonymous).authenticate(_request("pump", expired))


async def test_user_name_and_password_prove_nothing() -> None:
    rules = parse_rules(
        """
        version = 1
        [[rule]]
        effect = "allow"
        actions = ["publish"]
        topics = ["${user_name}/x"]
        [[rule]]
        effect = "allow"
        actions = ["publish"]
        topics = ["y"]
        when = { user_name = "*" }
        """,
        source="test",
    )
    authenticator = RulesAuthenticator(
        rules, allow_anonymous=False, require_client_id_is_common_name=True, now=lambda: NOW
    )
    principal = await authenticator.authenticate(replace(DEVICE, user_name="alice", password=b"secret"))
    assert principal.user_name is None
    assert not _may(principal, "publish", "alice/x")
    assert not _may(principal, "publish", "y")


async def test_reloaded_rules_hold_for_those_who_come_later() -> None:
    authenticator = _authenticator()
    earlier = await authenticator.authenticate(DEVICE)
    authenticator.reload(())
    later = await authenticator.authenticate(DEVICE)
    assert _may(earlier, "publish", "dt/pump/x")
    assert not _may(later, "publish", "dt/pump/x")
