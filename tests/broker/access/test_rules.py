"""What rules decide, and that no client's attributes make them decide more."""

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.access import Permissions, ReservedTopics, Rule, RulePermissions, parse_rules
from broker.access.attributes import client_attributes
from broker.protocol.packets import TopicFilter, TopicName

TRAPS = [
    "+",
    "#",
    "",
    "a/b",
    "/",
    "a/",
    "$aws",
    "$SYS",
    "$share",
    "aws",
    "+/x",
    "a+",
    "a#",
    "a\0",
    "ä",
    "日本",
    "${tenant}",
]
TEXTS = st.sampled_from(TRAPS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def _rules(text: str) -> tuple[Rule, ...]:
    return parse_rules(f"version = 1\n{text}", source="test")


def _rule(effect: str, *topics: str, actions: str = '"publish", "subscribe"', more: str = "") -> str:
    return f'[[rule]]\neffect = "{effect}"\nactions = [{actions}]\ntopics = {list(topics)}\n{more}\n'


def _permissions(
    rules: tuple[Rule, ...], *, root: str = "$aws", is_open: bool = False, **known: Any
) -> Permissions:
    attributes: dict[str, Any] = {
        "client_id": "c1",
        "tenant": "default",
        "listener": "main",
        "user_name": None,
        "thing_name": None,
        "roles": frozenset(),
        "certificate": None,
    }
    return RulePermissions(
        rules, client_attributes(**attributes | known), reserved=ReservedTopics(root), is_open=is_open
    )


def _publish(permissions: Permissions, topic: str, *, is_retain: bool = False) -> bool:
    return permissions.may_publish(TopicName(topic.encode()), is_retain=is_retain)


def _receive(permissions: Permissions, topic: str) -> bool:
    return permissions.may_receive(TopicName(topic.encode()))


def _subscribe(permissions: Permissions, topic_filter: str) -> bool:
    return permissions.may_subscribe(TopicFilter(topic_filter.encode()))


def test_without_rules_nothing_is_allowed() -> None:
    nobody = _permissions(())
    assert not _publish(nobody, "a")
    assert not _subscribe(nobody, "a")
    assert not _receive(nobody, "a")


def test_an_action_that_a_rule_does_not_name_is_not_allowed() -> None:
    publisher = _permissions(_rules(_rule("allow", "a/#", actions='"publish"')))
    assert _publish(publisher, "a/b")
    assert not _subscribe(publisher, "a/b")
    subscriber = _permissions(_rules(_rule("allow", "a/#", actions='"subscribe"')))
    assert not _publish(subscriber, "a/b")
    assert _subscribe(subscriber, "a/+")
    assert _receive(subscriber, "a/b")


def test_a_filter_wider_than_every_allow_is_refused() -> None:
    permissions = _permissions(_rules(_rule("allow", "a/+", "a/b/#")))
    assert _subscribe(permissions, "a/+")
    assert not _subscribe(permissions, "a/#")
    assert not _subscribe(permissions, "+/b")
    assert not _subscribe(permissions, "#")


def test_a_denied_part_of_a_granted_filter_is_not_received() -> None:
    permissions = _permissions(_rules(_rule("allow", "a/#") + _rule("deny", "a/secret/#")))
    assert _subscribe(permissions, "a/#")
    assert _receive(permissions, "a/open")
    assert not _receive(permissions, "a/secret/1")
    assert not _subscribe(permissions, "a/secret/+")


def test_deny_of_everything_spares_nothing_that_wildcards_reach() -> None:
    permissions = _permissions(_rules(_rule("allow", "a/#", "$x/#") + _rule("deny", "#")), is_open=True)
    assert not _publish(permissions, "a/b")
    assert _publish(permissions, "$x/b"), "a leading wildcard reaches no topic with $ (v5 [MQTT-4.7.2-1])"


def test_retain_needs_a_rule_that_allows_it() -> None:
    text = _rule("allow", "a/#", actions='"publish"', more="retain = false") + _rule("allow", "a/kept")
    permissions = _permissions(_rules(text))
    assert _publish(permissions, "a/b")
    assert not _publish(permissions, "a/b", is_retain=True)
    assert _publish(permissions, "a/kept", is_retain=True)


@pytest.mark.parametrize(
    "topic", ["$aws/things/c1/shadow/update/delta", "$SYS/x", "$gnomon/ota/v1/meta/a/root"]
)
def test_no_rule_allows_to_publish_what_is_reserved(topic: str) -> None:
    permissions = _permissions(_rules(_rule("allow", "$aws/#", "$SYS/#", "$gnomon/#")), is_open=True)
    assert not _publish(permissions, topic)
    assert _subscribe(permissions, topic)


def test_wildcard_rules_never_reach_a_root_without_dollar() -> None:
    permissions = _permissions(_rules(_rule("allow", "#", "+/#")), root="aws", is_open=True)
    assert _subscribe(permissions, "#")
    assert _receive(permissions, "b/things/x/shadow/update")
    assert not _receive(permissions, "aws/things/x/shadow/update")
    assert not _publish(permissions, "aws/things/x/shadow/update")
    assert not _subscribe(permissions, "aws/#")


@pytest.mark.parametrize(
    ("when", "known", "holds"),
    [
        ('client_id = "c1"', {}, True),
        ('client_id = "c"', {}, False),
        ('client_id = "c*"', {}, True),
        ('client_id = "c1*"', {}, True),
        ('client_id = "c12*"', {}, False),
        ('client_id = "1*"', {}, False),
        ('client_id = "c1"', {"client_id": "*"}, False),
        ('client_id = "*"', {"client_id": ""}, False),
        ('thing_name = "*"', {}, False),
        ('thing_name = "*"', {"thing_name": "t"}, True),
        ('user_name = "u"', {"user_name": "u"}, True),
        ('tenant = "default"', {}, True),
        ('listener = "side"', {}, False),
        ('role = "operator"', {"roles": frozenset({"operator", "x"})}, True),
        ('role = "operator"', {}, False),
        ('certificate = "absent"', {}, True),
        ('certificate = "present"', {}, False),
        ('client_id = "c1", tenant = "other"', {}, False),
        ('client_id = "c1", tenant = "default"', {}, True),
        ('"cert.common_name" = "*"', {}, False),
    ],
)
def test_a_rule_speaks_only_where_all_its_conditions_hold(
    when: str, known: dict[str, Any], holds: bool
) -> None:
    rules = _rules(_rule("allow", "a", more=f"when = {{ {when} }}"))
    assert _publish(_permissions(rules, **known), "a") == holds


@pytest.mark.parametrize(
    "client_id",
    [trap for trap in TRAPS if trap not in ("$aws", "$SYS", "$share", "aws", "ä", "日本", "${tenant}")],
)
def test_a_value_that_is_no_part_of_a_level_makes_its_pattern_match_nothing(client_id: str) -> None:
    permissions = _permissions(
        _rules(_rule("allow", "dt/${client_id}/#", "dev-${client_id}")), client_id=client_id
    )
    for topic in (
        "dt/x",
        "dt",
        f"dt/{client_id}/x",
        "dt/a",
        "dt/a/b/c",
        "dev-a",
        f"dev-{client_id}",
        "dev-",
        "dt//x",
    ):
        assert not _receive(permissions, topic)


def test_values_are_inserted_literally_and_once() -> None:
    permissions = _permissions(_rules(_rule("allow", "a/${client_id}/b-${tenant}-c")), client_id="${tenant}")
    assert _publish(permissions, "a/${tenant}/b-default-c")
    assert not _publish(permissions, "a/default/b-default-c")


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=2))
@example("+", "x", [])
@example("a/b", "a", ["b"])
def test_substitution_never_reaches_another_clients_level(
    client_id: str, level: str, rest: list[str]
) -> None:
    permissions = _permissions(_rules(_rule("allow", "dt/${client_id}/#")), client_id=client_id)
    topic = "/".join(["dt", level, *rest])
    second = topic.split("/")[1]
    for topic_filter in (topic, "dt/+", "dt/+/#", "dt/#"):
        if second != client_id:
            assert not _publish(permissions, topic)
            assert not _receive(permissions, topic)
        if topic_filter.split("/")[1] != client_id or client_id in ("+", "#"):
            assert not _subscribe(permissions, topic_filter)


@given(TEXTS)
def test_an_ordinary_value_is_reached(client_id: str) -> None:
    permissions = _permissions(_rules(_rule("allow", "dt/${client_id}/#")), client_id=client_id)
    is_ordinary = bool(client_id) and set(client_id).isdisjoint("/+#\0")
    assert _receive(permissions, f"dt/{client_id}/x") == is_ordinary


@given(TEXTS, st.sampled_from(["$aws", "aws"]))
@example("aws", "aws")
@example("ws", "aws")
@example("$aws", "$aws")
@example("$SYS", "$aws")
def test_a_value_in_the_first_level_never_names_a_reserved_root(client_id: str, root: str) -> None:
    rules = _rules(_rule("allow", "${client_id}/#", "a${client_id}/#", "${client_id}${listener}/#"))
    for listener in ("", "SYS", "ws"):
        permissions = _permissions(rules, root=root, client_id=client_id, listener=listener)
        for first in (root, "$SYS", "$gnomon", "$share"):
            assert not _receive(permissions, f"{first}/x")
            assert not _subscribe(permissions, f"{first}/#")


SETS = st.lists(
    st.tuples(
        st.sampled_from(["allow", "deny"]), st.sampled_from(["a/#", "a/b", "+/b", "#", "a/${client_id}", "b"])
    ),
    min_size=1,
    max_size=4,
)
TOPICS = ["a", "a/b", "b/b", "a/c1", "b", "$x/b"]
SUBSCRIPTIONS = [*TOPICS, "#", "a/#", "+/b", "a/+"]


def _verdicts(parts: tuple[tuple[str, str], ...]) -> list[bool]:
    permissions = _permissions(_rules("".join(_rule(effect, topic) for effect, topic in parts)))
    return [
        *(_publish(permissions, topic) for topic in TOPICS),
        *(_receive(permissions, topic) for topic in TOPICS),
        *(_subscribe(permissions, topic_filter) for topic_filter in SUBSCRIPTIONS),
    ]


@given(SETS)
def test_the_order_of_rules_does_not_matter(parts: list[tuple[str, str]]) -> None:
    verdicts = [_verdicts(ordered) for ordered in itertools.permutations(parts)]
    assert all(verdict == verdicts[0] for verdict in verdicts)


@given(SETS)
def test_deny_beats_allow(parts: list[tuple[str, str]]) -> None:
    allowed = _verdicts(tuple(part for part in parts if part[0] == "allow") or (("deny", "zzz"),))
    denied = _verdicts(
        tuple(("allow", topic) for effect, topic in parts if effect == "deny") or (("deny", "zzz"),)
    )
    expected = [allow and not deny for allow, deny in zip(allowed, denied, strict=True)]
    assert _verdicts(tuple(parts)) == expected
