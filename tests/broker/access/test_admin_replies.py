"""Answers to administrators: nobody receives another's, whatever the rules say."""

from collections.abc import Sequence

import pytest

from broker.access import ReservedTopics, Rule, RulePermissions, builtin_rules, parse_rules
from broker.access.attributes import client_attributes
from broker.protocol.packets import TopicFilter, TopicName

EVERYTHING = """
version = 1
[[rule]]
effect = "allow"
actions = ["publish", "subscribe"]
topics = ["$gnomon/#"]
"""
RULES = parse_rules(EVERYTHING, source="test")


def permissions(client_id: str, rules: Sequence[Rule] = RULES, role: str = "operator") -> RulePermissions:
    attributes = client_attributes(
        client_id=client_id,
        tenant="default",
        listener="l",
        user_name=None,
        thing_name=None,
        roles=frozenset({role}),
        certificate=None,
    )
    return RulePermissions(rules, attributes, reserved=ReservedTopics(), is_open=False)


@pytest.mark.parametrize(
    ("topic", "is_received"),
    [
        (b"$gnomon/admin/v1/reply/ada/1", True),
        (b"$gnomon/admin/v1/reply/ada", True),
        (b"$gnomon/admin/v1/reply/bob/1", False),
        (b"$gnomon/admin/v1/reply/ada2/1", False),
        (b"$gnomon/admin/v1/reply/", False),
        (b"$gnomon/admin/v1/session/list", True),
    ],
)
def test_a_rule_for_everything_gives_nobody_the_answers_to_others(topic: bytes, is_received: bool) -> None:
    ada = permissions("ada")
    assert ada.may_subscribe(TopicFilter(b"$gnomon/#"))
    assert ada.may_receive(TopicName(topic)) is is_received


def test_a_client_id_of_two_levels_owns_no_answers() -> None:
    assert not permissions("ada/1").may_receive(TopicName(b"$gnomon/admin/v1/reply/ada/1"))


@pytest.mark.parametrize("topic", [b"$gnomon/admin/v1/reply/ada", b"$gnomon/admin/v1/reply/ada/1"])
def test_nobody_publishes_answers(topic: bytes) -> None:
    assert not permissions("ada").may_publish(TopicName(topic), is_retain=False)


@pytest.mark.parametrize(
    ("role", "topic_filter", "is_granted"),
    [
        ("operator", b"$gnomon/admin/v1/reply/ada/1", True),
        ("operator", b"$gnomon/admin/v1/reply/ada/#", True),
        ("operator", b"$gnomon/admin/v1/reply/+/1", False),
        ("operator", b"$gnomon/admin/#", False),
        ("device", b"$gnomon/admin/v1/reply/ada/1", False),
    ],
)
def test_the_built_in_rules_give_operators_their_own_answers(
    role: str, topic_filter: bytes, is_granted: bool
) -> None:
    ada = permissions("ada", builtin_rules(), role)
    assert ada.may_subscribe(TopicFilter(topic_filter)) is is_granted
