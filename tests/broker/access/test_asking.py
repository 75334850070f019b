"""Permissions that somebody outside decides: what is asked, and what holds without an answer."""

from hypothesis import given
from hypothesis import strategies as st

from broker.access import Action, AskingPermissions, Principal, Question
from broker.protocol.packets import TopicFilter, TopicName


class Within:
    """What holds for everybody: nothing below `never/`, RETAIN below `kept/` only."""

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        return not topic.startswith(b"never/") and (not is_retain or topic.startswith(b"kept/"))

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        return not topic_filter.startswith(b"never/")

    def may_receive(self, topic: TopicName) -> bool:
        return not topic.startswith(b"never/")

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        return 1


class Nobody:
    async def authorize(self, principal: Principal, action: Action, topic: str) -> bool:
        raise AssertionError("permissions never ask by themselves")


def asking(remembered_bytes_maximum: int = 256 * 1024) -> AskingPermissions:
    return AskingPermissions(Within(), Nobody(), remembered_bytes_maximum=remembered_bytes_maximum)


def publish(topic: bytes) -> Question:
    return Question(Action.PUBLISH, TopicName(topic))


def subscribe(topic_filter: bytes) -> Question:
    return Question(Action.SUBSCRIBE, TopicFilter(topic_filter))


def test_without_an_answer_nothing_is_allowed() -> None:
    permissions = asking()
    assert not permissions.may_publish(TopicName(b"a"), is_retain=False)
    assert not permissions.may_subscribe(TopicFilter(b"a/#"))


def test_each_open_question_is_asked_once_and_none_whose_answer_is_known() -> None:
    permissions = asking()
    questions = [publish(b"a"), subscribe(b"a"), publish(b"a"), publish(b"never/x"), subscribe(b"never/#")]
    assert permissions.open_questions(questions) == [publish(b"a"), subscribe(b"a")]
    permissions.learn({publish(b"a"): False})
    assert permissions.open_questions(questions) == [subscribe(b"a")]


def test_an_answer_speaks_of_its_action_and_topic_only() -> None:
    permissions = asking()
    permissions.learn({publish(b"a"): True, subscribe(b"b"): True, publish(b"c"): False})
    assert permissions.may_publish(TopicName(b"a"), is_retain=False)
    assert not permissions.may_subscribe(TopicFilter(b"a"))
    assert permissions.may_subscribe(TopicFilter(b"b"))
    assert not permissions.may_publish(TopicName(b"b"), is_retain=False)
    assert not permissions.may_publish(TopicName(b"c"), is_retain=False)


def test_what_holds_for_everybody_has_the_last_word() -> None:
    permissions = asking()
    permissions.learn({publish(b"never/x"): True, publish(b"a"): True, publish(b"kept/a"): True})
    assert not permissions.may_publish(TopicName(b"never/x"), is_retain=False)
    assert not permissions.may_publish(TopicName(b"a"), is_retain=True)
    assert permissions.may_publish(TopicName(b"kept/a"), is_retain=True)
    assert not permissions.may_receive(TopicName(b"never/x"))
    assert permissions.may_receive(TopicName(b"a"))
    assert permissions.maximum_qos(TopicFilter(b"a")) == 1


@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), max_size=8, unique=True), max_size=20))
def test_the_last_answers_are_always_remembered_and_all_together_stay_bounded(
    batches: list[list[bytes]],
) -> None:
    permissions = asking(remembered_bytes_maximum=1000)
    known = set[Question]()
    for batch in batches:
        questions = permissions.open_questions(publish(topic) for topic in batch)
        permissions.learn(dict.fromkeys(questions, True))
        known.update(questions)
        assert all(permissions.may_publish(TopicName(topic), is_retain=False) for topic in batch)
        remembered = sum(
            permissions.may_publish(TopicName(question.topic), is_retain=False) for question in known
        )
        assert remembered <= 5 + 8  # What 1000 bytes hold, and the largest batch.
