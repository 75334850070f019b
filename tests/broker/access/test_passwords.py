"""Certificates, passwords and nothing: which of them counts, and who the client is then."""

from datetime import UTC, datetime

import pytest

from broker.access import (
    AccessRefusedError,
    AlternativeNames,
    CertificateSubject,
    ClientCertificate,
    ConnectRequest,
    PasswordUsers,
    Principal,
    RulesAuthenticator,
    parse_rules,
)
from broker.protocol.packets import V5, TopicFilter, TopicName
from broker.protocol.reason_codes import ReasonCode

NOW = datetime(2026, 6, 1, tzinfo=UTC)
RULES = """
version = 1
[[rule]]
effect = "allow"
actions = ["publish", "subscribe"]
topics = ["home/${user_name}/#"]
[[rule]]
effect = "allow"
actions = ["publish"]
topics = ["alarm"]
when = { user_name = "al*" }
"""
CERTIFICATE = ClientCertificate(
    subject=CertificateSubject(common_name="alice"),
    issuer_common_name="Plant CA",
    serial_number="1",
    subject_alternative_names=AlternativeNames(),
    fingerprint_sha256="00",
    spki_sha256="00",
    not_before=datetime(2026, 1, 1, tzinfo=UTC),
    not_after=datetime(2027, 1, 1, tzinfo=UTC),
    authority_key_id=None,
)


async def verify(password_hash: str, password: bytes) -> bool:
    return password_hash.encode() == password


def authenticator(*, has_file: bool = True, allow_anonymous: bool = False) -> RulesAuthenticator:
    return RulesAuthenticator(
        parse_rules(RULES, source="test"),
        passwords=PasswordUsers({"alice": "right", "bob": "good"}, verify=verify) if has_file else None,
        allow_anonymous=allow_anonymous,
        require_client_id_is_common_name=False,
        now=lambda: NOW,
    )


def request(
    user_name: str | None = None, password: bytes | None = None, certificate: ClientCertificate | None = None
) -> ConnectRequest:
    return ConnectRequest(
        client_id="c",
        version=V5,
        user_name=user_name,
        password=password,
        certificate=certificate,
        listener="main",
        tenant="default",
        peer_address="192.0.2.1",
    )


def may_publish(principal: Principal, topic: bytes) -> bool:
    return principal.permissions.may_publish(TopicName(topic), is_retain=False)


BAD = ReasonCode.BAD_USER_NAME_OR_PASSWORD
NONE = ReasonCode.NOT_AUTHORIZED


@pytest.mark.parametrize(
    ("has_file", "allow_anonymous", "asked", "expected"),
    [
        (True, False, request("alice", b"right"), "user/alice"),
        (True, False, request("alice", b"wrong"), BAD),
        (True, False, request("alice", b""), BAD),
        (True, False, request("carol", b"right"), BAD),
        (True, False, request("", b"right"), BAD),
        (True, False, request("alice"), NONE),
        (True, False, request(None, b"right"), NONE),
        (True, False, request(), NONE),
        (True, True, request("alice", b"right"), "user/alice"),
        (True, True, request("alice", b"wrong"), BAD),
        (True, True, request("?SDK=Python&Version=1"), None),
        (True, True, request(), None),
        (False, True, request("alice", b"right"), None),
        (False, False, request("alice", b"right"), NONE),
        (True, False, request("bob", b"wrong", CERTIFICATE), "alice"),
        (True, False, request("bob", b"good", CERTIFICATE), "alice"),
        (True, False, request("?SDK=Python&Version=1", None, CERTIFICATE), "alice"),
        (False, False, request(None, None, CERTIFICATE), "alice"),
    ],
)
async def test_a_certificate_counts_before_a_password_and_that_before_nothing(
    has_file: bool, allow_anonymous: bool, asked: ConnectRequest, expected: str | ReasonCode | None
) -> None:
    asking = authenticator(has_file=has_file, allow_anonymous=allow_anonymous).authenticate(asked)
    if isinstance(expected, ReasonCode):
        with pytest.raises(AccessRefusedError) as caught:
            await asking
        assert caught.value.reason_code is expected
    else:
        assert (await asking).identity == expected


async def test_a_user_has_the_name_that_was_verified_and_what_rules_give_to_it() -> None:
    alice = await authenticator().authenticate(request("alice", b"right"))
    bob = await authenticator().authenticate(request("bob", b"good"))
    assert (alice.user_name, alice.thing_name, alice.roles) == ("alice", None, frozenset())
    assert [may_publish(alice, topic) for topic in (b"home/alice/x", b"home/bob/x", b"alarm", b"x")] == [
        True,
        False,
        True,
        False,
    ]
    assert not may_publish(bob, b"alarm")
    assert alice.permissions.may_subscribe(TopicFilter(b"home/alice/#"))
    assert not alice.permissions.may_subscribe(TopicFilter(b"home/#"))


async def test_a_certificate_never_brings_the_user_name_beside_it() -> None:
    principal = await authenticator().authenticate(request("bob", b"good", CERTIFICATE))
    assert principal.user_name is None
    assert not may_publish(principal, b"home/bob/x")


async def test_where_anonymous_clients_are_let_in_users_may_do_what_they_may() -> None:
    principal = await authenticator(allow_anonymous=True).authenticate(request("bob", b"good"))
    assert may_publish(principal, b"anything")
    assert not may_publish(principal, b"$aws/things/x/shadow/update")


async def test_a_user_is_never_who_a_certificate_names() -> None:
    user = await authenticator().authenticate(request("alice", b"right"))
    device = await authenticator().authenticate(request(None, None, CERTIFICATE))
    assert user.identity != device.identity
