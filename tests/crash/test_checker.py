"""What a broker may not do with messages is found, and what it may do is not."""

import pytest

from crash.checker import Awaited, Kind, missing
from crash.history import Key, Step
from crash.story import ONE, THREE, TWO, Story


@pytest.fixture
def story() -> Story:
    """One subscriber `s` of topic `t`."""
    story = Story()
    story.connect(present=False)
    story.subscribe()
    return story


def test_a_message_that_came_is_right(story: Story) -> None:
    story.publish(ONE)
    story.receive(ONE)
    assert story.kinds == []


# Loss.


def test_an_acknowledged_message_that_did_not_come_is_lost(story: Story) -> None:
    story.publish(ONE)
    assert story.kinds == [Kind.LOST]
    assert missing(story.history) == {Awaited("s", ONE)}


def test_a_message_without_acknowledgement_may_be_lost(story: Story) -> None:
    story.send(ONE)
    assert story.kinds == []


def test_a_qos_0_message_may_be_lost(story: Story) -> None:
    story.publish(ONE, qos=0)
    assert story.kinds == []


def test_a_message_sent_before_suback_may_pass_the_subscriber_by() -> None:
    story = Story()
    story.step(Step.SUBSCRIBE)
    story.publish(ONE)
    story.step(Step.SUBSCRIBED)
    assert story.kinds == []


def test_a_message_acknowledged_before_unsubscribe_is_lost(story: Story) -> None:
    story.publish(ONE)
    story.unsubscribe()
    assert story.kinds == [Kind.LOST]


def test_a_message_acknowledged_after_unsubscribe_may_pass_the_subscriber_by(story: Story) -> None:
    story.send(ONE)
    story.step(Step.UNSUBSCRIBE)
    story.acknowledge(ONE)
    assert story.kinds == []


def test_a_new_subscription_after_one_in_doubt_counts(story: Story) -> None:
    story.step(Step.UNSUBSCRIBE)
    story.publish(ONE)
    story.subscribe()
    story.publish(TWO)
    assert missing(story.history) == {Awaited("s", TWO)}


def test_one_member_of_a_group_is_enough() -> None:
    story = Story()
    story.subscribe("$share/g/t", "a")
    story.subscribe("$share/g/t", "b")
    story.publish(ONE)
    assert missing(story.history) == {Awaited("group g", ONE)}
    story.receive(ONE, "b")
    assert story.kinds == []


# Repetition.


def test_a_qos_2_message_that_comes_twice_is_a_duplicate(story: Story) -> None:
    story.publish(ONE, qos=2)
    story.receive(ONE, qos=2, packet_id=1)
    story.release(1)
    story.lose()
    story.connect()
    story.receive(ONE, qos=2, packet_id=2, is_dup=True)
    assert story.kinds == [Kind.DUPLICATE]


def test_a_qos_2_message_sent_again_before_its_release_is_not_a_second_one(story: Story) -> None:
    story.publish(ONE, qos=2)
    story.receive(ONE, qos=2, packet_id=1)
    story.lose()
    story.connect()
    story.receive(ONE, qos=2, packet_id=1, is_dup=True)
    story.release(1)
    assert story.kinds == []


def test_a_qos_2_message_for_two_members_of_a_group_is_a_duplicate() -> None:
    story = Story()
    for client in "ab":
        story.subscribe("$share/g/t", client)
    story.publish(ONE, qos=2)
    for client in "ab":
        story.receive(ONE, client, qos=2, packet_id=1)
    assert story.kinds == [Kind.DUPLICATE]


@pytest.mark.parametrize("key", [TWO, ONE], ids=["another message", "no DUP"])
def test_a_packet_id_in_use_stands_for_one_message(story: Story, key: Key) -> None:
    story.publish(ONE, qos=2)
    story.receive(ONE, qos=2, packet_id=1)
    story.send(TWO, qos=2)
    story.receive(key, qos=2, packet_id=1)
    assert story.kinds == [Kind.PACKET_ID]


def test_a_new_session_knows_no_packet_ids(story: Story) -> None:
    story.publish(ONE, qos=2)
    story.receive(ONE, qos=2, packet_id=1)
    story.connect(present=False, may_be_new=True)
    story.send(TWO, qos=2)
    story.receive(TWO, qos=2, packet_id=1)
    assert story.kinds == []


def test_a_qos_1_message_that_comes_twice_without_need_is_a_repetition(story: Story) -> None:
    story.publish(ONE)
    story.receive(ONE)
    story.receive(ONE)
    assert story.kinds == [Kind.REPEATED]


def test_a_qos_1_message_may_come_again_on_a_new_connection(story: Story) -> None:
    story.publish(ONE)
    story.receive(ONE)
    story.lose()
    story.connect()
    story.receive(ONE, is_dup=True)
    assert story.kinds == []


def test_a_qos_1_message_may_come_again_when_its_publisher_sent_it_again(story: Story) -> None:
    story.send(ONE)
    story.receive(ONE)
    story.publish(ONE, is_dup=True)
    story.receive(ONE)
    assert story.kinds == []


def test_a_qos_2_publisher_that_sends_again_is_no_reason_to_repeat(story: Story) -> None:
    story.send(ONE, qos=2)
    story.receive(ONE)
    story.publish(ONE, qos=2, is_dup=True)
    story.receive(ONE)
    assert story.kinds == [Kind.REPEATED]


# Order, origin.


def test_messages_in_another_order_are_found(story: Story) -> None:
    story.publish(ONE)
    story.publish(TWO)
    story.receive(TWO)
    story.receive(ONE)
    assert story.kinds == [Kind.ORDER]


def test_repetitions_do_not_count_for_order(story: Story) -> None:
    story.publish(ONE)
    story.publish(TWO)
    story.receive(ONE)
    story.receive(TWO)
    story.lose()
    story.connect()
    story.receive(ONE, is_dup=True)
    story.receive(TWO, is_dup=True)
    assert story.kinds == []


@pytest.mark.parametrize("key", [None, THREE], ids=["damaged", "never sent"])
def test_a_message_that_nobody_sent_is_found(story: Story, key: Key | None) -> None:
    story.receive(key)
    assert story.kinds == [Kind.FOREIGN]


def test_a_message_published_after_unsuback_must_not_come(story: Story) -> None:
    story.unsubscribe()
    story.publish(ONE)
    story.receive(ONE)
    assert story.kinds == [Kind.UNASKED]


def test_a_message_published_before_unsuback_may_come_after_it(story: Story) -> None:
    story.publish(ONE)
    story.unsubscribe()
    story.receive(ONE)
    assert story.kinds == []


def test_a_message_acknowledged_before_subscribe_must_not_come(story: Story) -> None:
    story.publish(ONE, topic="u")
    story.subscribe("u")
    story.receive(ONE, topic="u")
    assert story.kinds == [Kind.UNASKED]
