import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.topics import Operation, Reply, ShadowKey, ShadowTopics

TOPICS = ShadowTopics()
THINGS = st.text("aZ09:_-", min_size=1, max_size=128)
SHADOWS = st.none() | st.text("$aZ09:_-", min_size=1, max_size=64)


@given(THINGS, SHADOWS, st.sampled_from(Operation))
def test_a_request_topic_is_read_back(thing: str, shadow: str | None, operation: Operation) -> None:
    name = "" if shadow is None else f"name/{shadow}/"
    topic = f"$aws/things/{thing}/shadow/{name}{operation.value}"
    assert TOPICS.parse(topic) == (ShadowKey(thing, shadow), operation)


@given(st.text())
def test_other_text_is_no_request(text: str) -> None:
    assert TOPICS.parse(text) is None
    assert TOPICS.parse(f"$aws/things/{text}/shadow/get/accepted") is None


@pytest.mark.parametrize(
    "topic",
    [
        "$aws/things//shadow/get",
        f"$aws/things/{'x' * 129}/shadow/get",
        "$aws/things/a b/shadow/get",
        "$aws/things/ä/shadow/get",
        "$aws/things/a/b/shadow/get",
        "$aws/things/a/shadow/get\n",
        "$aws/things/a/shadow/GET",
        "$aws/things/a/shadow/update/delta",
        "$aws/things/a/shadow/name/get",
        "$aws/things/a/shadow/name//get",
        f"$aws/things/a/shadow/name/{'x' * 65}/get",
        "$aws/things/a/shadow/list",
        "xaws/things/a/shadow/get",
        "x$aws/things/a/shadow/get",
    ],
)
def test_a_topic_that_breaks_the_grammar_is_refused(topic: str) -> None:
    assert TOPICS.parse(topic) is None


def test_a_shadow_may_be_called_like_an_operation() -> None:
    assert TOPICS.parse("$aws/things/a/shadow/name/update/get") == (ShadowKey("a", "update"), Operation.GET)


def test_replies_lie_below_the_shadow() -> None:
    classic, named = ShadowKey("a"), ShadowKey("a", "fw")
    assert TOPICS.reply(classic, Reply.UPDATE_DELTA) == "$aws/things/a/shadow/update/delta"
    assert TOPICS.reply(named, Reply.GET_REJECTED) == "$aws/things/a/shadow/name/fw/get/rejected"


def test_no_reply_is_a_request() -> None:
    for key in (ShadowKey("a"), ShadowKey("a", "fw")):
        assert [TOPICS.parse(TOPICS.reply(key, reply)) for reply in Reply] == [None] * len(Reply)


def test_the_root_is_taken_literally() -> None:
    topics = ShadowTopics("a.b")
    assert topics.parse("a.b/things/t/shadow/get") == (ShadowKey("t"), Operation.GET)
    assert topics.parse("aXb/things/t/shadow/get") is None
    assert topics.reply(ShadowKey("t"), Reply.GET_ACCEPTED) == "a.b/things/t/shadow/get/accepted"


def test_the_filters_are_one_per_operation_and_kind_of_shadow() -> None:
    assert set(TOPICS.request_filters) == {
        "$aws/things/+/shadow/get",
        "$aws/things/+/shadow/update",
        "$aws/things/+/shadow/delete",
        "$aws/things/+/shadow/name/+/get",
        "$aws/things/+/shadow/name/+/update",
        "$aws/things/+/shadow/name/+/delete",
    }
