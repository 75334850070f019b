"""What a broker may not do with sessions, retained messages, Wills and shadows is found."""

from collections.abc import Callable

import pytest

from crash.checker import Awaited, Kind, missing, quick_violations
from crash.history import Key, Step
from crash.payloads import key_of, payload_of
from crash.story import ONE, THREE, TWO, Story, will_of


@pytest.fixture
def story() -> Story:
    """One subscriber `s` of topic `t`."""
    story = Story()
    story.connect(present=False)
    story.subscribe()
    return story


# Sessions and subscriptions.


def test_a_session_with_an_acknowledged_subscription_must_be_present(story: Story) -> None:
    story.lose()
    story.connect(present=False)
    assert story.kinds == [Kind.SESSION]


def test_a_session_without_anything_acknowledged_may_be_forgotten() -> None:
    story = Story()
    story.connect(present=False)
    story.step(Step.SUBSCRIBE)
    story.lose()
    story.connect(present=False)
    assert story.kinds == []


def test_a_clean_start_makes_a_new_session(story: Story) -> None:
    story.lose()
    story.connect(present=False, may_be_new=True)
    assert story.kinds == []


def test_an_unsuback_that_knows_no_acknowledged_subscription_is_found(story: Story) -> None:
    story.step(Step.UNSUBSCRIBE)
    story.step(Step.UNSUBSCRIBED, existed=False)
    assert story.kinds == [Kind.SUBSCRIPTION]


def test_a_second_unsubscribe_may_find_nothing(story: Story) -> None:
    story.step(Step.UNSUBSCRIBE)
    story.lose()
    story.connect()
    story.step(Step.UNSUBSCRIBE)
    story.step(Step.UNSUBSCRIBED, existed=False)
    assert story.kinds == []


# Retained messages.


@pytest.fixture
def retained() -> Story:
    """1 acknowledged, 2 not."""
    story = Story()
    story.publish(ONE, is_retain=True)
    story.send(TWO, is_retain=True)
    return story


@pytest.mark.parametrize("key", [ONE, TWO])
def test_a_retained_message_is_the_last_acknowledged_or_a_later_one(retained: Story, key: Key) -> None:
    retained.read_retained(key)
    assert retained.kinds == []


def test_a_retained_message_that_is_gone_is_found(retained: Story) -> None:
    retained.read_retained(None)
    assert retained.kinds == [Kind.RETAINED]


def test_a_retained_message_older_than_an_acknowledged_one_is_found(retained: Story) -> None:
    retained.acknowledge(TWO)
    retained.read_retained(ONE)
    assert retained.kinds == [Kind.RETAINED]


def test_an_acknowledgement_during_the_read_leaves_both_open(retained: Story) -> None:
    since = retained.history.now
    retained.acknowledge(TWO)
    retained.read_retained(ONE, since)
    assert retained.kinds == []


def test_a_cleared_retained_message_must_not_be_there(retained: Story) -> None:
    retained.acknowledge(TWO)
    retained.publish(THREE, is_retain=True, is_cleared=True)
    retained.read_retained(None)
    assert retained.kinds == []
    retained.read_retained(TWO)
    assert retained.kinds == [Kind.RETAINED]


# Wills.


@pytest.fixture
def mortal() -> Story:
    """`m` has a Will that `s` wants."""
    story = Story()
    story.connect(present=False)
    story.subscribe("will/#")
    story.connect("m", present=False)
    story.will()
    return story


def test_a_will_comes_after_its_delay(mortal: Story) -> None:
    mortal.lose("m")
    mortal.wait(3)
    mortal.receive(will_of("m"), topic="will/m")
    assert mortal.kinds == []


def test_a_will_that_does_not_come_is_lost(mortal: Story) -> None:
    assert mortal.kinds == []
    mortal.lose("m")
    assert mortal.kinds == [Kind.WILL_LOST]
    assert missing(mortal.history) == {Awaited("s", will_of("m"))}


def test_a_will_before_its_delay_is_early(mortal: Story) -> None:
    mortal.lose("m")
    mortal.receive(will_of("m"), topic="will/m")
    assert mortal.kinds == [Kind.WILL_EARLY]


def test_a_will_of_a_living_client_is_early(mortal: Story) -> None:
    mortal.receive(will_of("m"), topic="will/m")
    assert mortal.kinds == [Kind.WILL_EARLY]


@pytest.mark.parametrize("comes", [True, False])
def test_a_will_that_the_server_may_not_have_may_come_or_not(mortal: Story, *, comes: bool) -> None:
    mortal.will("n", is_sure=False)
    if comes:
        mortal.receive(will_of("n"), topic="will/n")
    assert mortal.kinds == []


# Expiry.


def test_a_message_after_its_expiry_is_found(story: Story) -> None:
    story.publish(ONE, expires_s=10)
    story.wait(20)
    story.receive(ONE)
    assert story.kinds == [Kind.EXPIRED]


def test_a_message_may_expire(story: Story) -> None:
    story.publish(ONE, expires_s=10)
    assert story.kinds == []


def test_a_message_that_lives_long_must_come(story: Story) -> None:
    story.publish(ONE, expires_s=3600)
    assert story.kinds == [Kind.LOST]


def test_expiry_counts_from_the_last_time_that_the_message_was_sent(story: Story) -> None:
    story.send(ONE, expires_s=10)
    story.wait(20)
    story.publish(ONE, expires_s=10, is_dup=True)
    story.receive(ONE)
    assert story.kinds == []


# Shadows.


def test_a_shadow_that_holds_what_was_accepted_is_right() -> None:
    story = Story()
    story.accept(1, 1)
    story.accept(2, 3)
    story.read_shadow(2, 3)
    story.accept(3, 4)
    assert story.kinds == []


@pytest.mark.parametrize(
    ("tell", "kind"),
    [
        (lambda story: story.read_shadow(2, 1), Kind.SHADOW_BACK),
        (lambda story: story.read_shadow(1, 2), Kind.SHADOW_LOST),
        (lambda story: story.accept(3, 2), Kind.SHADOW_BACK),
    ],
    ids=["version of a read", "state of a read", "version of an update"],
)
def test_a_shadow_that_went_back_is_found(tell: Callable[[Story], None], kind: Kind) -> None:
    story = Story()
    story.accept(1, 1)
    story.accept(2, 2)
    tell(story)
    assert story.kinds == [kind]


def test_an_update_accepted_during_the_read_may_be_missing_in_it() -> None:
    story = Story()
    story.accept(1, 1)
    since = story.history.now
    story.accept(2, 2)
    story.read_shadow(1, 1, since)
    assert story.kinds == []


# The rest.


def test_messages_on_their_way_are_no_finding_of_the_quick_look(story: Story) -> None:
    story.publish(ONE)
    assert quick_violations(story.history) == []


@pytest.mark.parametrize("size", [0, 1, 17, 5000])
def test_a_payload_says_which_message_it_is(size: int) -> None:
    payload = payload_of(ONE, "t", size)
    assert key_of(payload, "t") == ONE
    assert len(payload) >= size


@pytest.mark.parametrize(
    "payload", [b"", b"\xff", b"p|1", b"p|x|0|", payload_of(ONE, "u", 9), payload_of(ONE, "t", 9)[:-1]]
)
def test_a_damaged_payload_says_nothing(payload: bytes) -> None:
    assert key_of(payload, "t") is None
