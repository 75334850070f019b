"""Shared Subscriptions: one member gets each message."""

from collections import Counter

import pytest

from fakes import EngineDriver, FakePermissions
from fakes_client import FakeClient


def _members(driver: EngineDriver, count: int, *, qos: int = 1, expiry: int = 0) -> list[FakeClient]:
    members = [driver.connect(f"m{number}", expiry=expiry) for number in range(count)]
    for member in members:
        member.subscribe(b"$share/g/t", qos=qos)
    return members


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_each_message_goes_to_one_member_in_turn(qos: int) -> None:
    driver = EngineDriver()
    members = _members(driver, 3, qos=2)
    sender = driver.connect("s")
    for number in range(9):
        sender.publish(b"t", b"%d" % number, qos=qos)
    shares = [[message.payload for message in member.acknowledge_all()] for member in members]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert sorted(payload for share in shares for payload in share) == [b"%d" % each for each in range(9)]


def test_groups_and_plain_subscriptions_each_get_their_copy() -> None:
    driver = EngineDriver()
    client = driver.connect("c")
    client.subscribe(b"$share/g/t", b"$share/h/+", b"t")
    driver.connect("s").publish(b"t", b"m")
    assert client.payloads() == [b"m"] * 3


def test_a_member_that_is_there_comes_before_one_that_is_not() -> None:
    driver = EngineDriver()
    away, slow, here = _members(driver, 3, expiry=100)
    away.lose()
    slow.set_writable(False)
    sender = driver.connect("s")
    for _ in range(4):
        sender.publish(b"t", b"m", qos=1)
    assert here.payloads() == [b"m"] * 4


def test_where_nobody_is_there_the_message_waits_for_one() -> None:
    driver = EngineDriver()
    members = _members(driver, 2, expiry=100)
    for member in members:
        member.lose()
    driver.connect("s").publish(b"t", b"m", qos=1)
    back = [driver.connect(f"m{number}", expiry=100, is_clean_start=False) for number in range(2)]
    assert Counter(len(member.messages()) for member in back) == {0: 1, 1: 1}


def test_a_member_that_may_not_receive_a_topic_is_passed_over() -> None:
    driver = EngineDriver()
    driver.permissions["m0"] = FakePermissions(no_receive=(b"t",))
    forbidden, allowed = _members(driver, 2)
    sender = driver.connect("s")
    for _ in range(3):
        sender.publish(b"t", b"m", qos=1)
    allowed_payloads = allowed.payloads()
    assert (forbidden.payloads(), allowed_payloads) == ([], [b"m"] * 3)
    allowed.disconnect()
    sender.publish(b"t", b"m", qos=1)
    assert forbidden.messages() == []


def test_a_members_subscription_identifier_comes_with_the_message() -> None:
    driver = EngineDriver()
    client = driver.connect("c")
    client.subscribe(b"$share/g/t", identifier=5)
    driver.connect("s").publish(b"t", b"m")
    assert client.messages()[0].properties.subscription_identifiers == (5,)


def test_each_members_own_qos_holds() -> None:
    driver = EngineDriver()
    low, high = driver.connect("low"), driver.connect("high")
    low.subscribe(b"$share/g/t", qos=0)
    high.subscribe(b"$share/g/t", qos=1)
    sender = driver.connect("s")
    sender.publish(b"t", qos=2)
    sender.publish(b"t", qos=2)
    assert [message.qos for message in low.messages()] == [0]
    assert [message.qos for message in high.messages()] == [1]


def test_who_left_gets_nothing() -> None:
    driver = EngineDriver()
    first, second = _members(driver, 2)
    first.unsubscribe(b"$share/g/t")
    first.take()
    sender = driver.connect("s")
    sender.publish(b"t", b"1")
    second.disconnect()
    sender.publish(b"t", b"2")
    assert first.take() == []
    assert second.payloads() == [b"1"]
