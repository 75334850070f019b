"""Permissions that somebody outside decides: which questions are open, and the answers so far.

Knows: what is asked, what need not be asked, how much is remembered.
Does not know: how an answer is found and how long that takes (the engine's shell waits for it).
Spec: v5 §5.4.2; v3.1.1 §5.4.2.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from msgspec import Struct

from ..protocol.packets import TopicFilter, TopicName
from .principal import Permissions, Principal

#: What one answer takes beside its topic, about.
_ANSWER_BYTES: Final = 200


class Action(enum.Enum):
    """What a client wants to do with a Topic Name or a Topic Filter."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class Question(Struct, frozen=True):
    """One thing that a client may do or not; a filter comes without its `$share/{group}/`."""

    action: Action
    topic: TopicName | TopicFilter


class PolicyDecision(Protocol):
    """Somebody outside who decides. May wait; the broker reads nothing more from the client meanwhile."""

    async def authorize(self, principal: Principal, action: Action, topic: str) -> bool:
        """Say whether the client may; a failure or no answer in time means that it may not."""


class AskingPermissions:
    """Permissions of one principal that `decision` gives, topic by topic, and that hold for the connection.

    What is not answered yet is denied; the engine sees to it that the answer is there before it matters.
    To publish with RETAIN is the same question. What may be subscribed to may be received.

    Args:
        within: what this denies nobody is asked about; it also has the last word on RETAIN, QoS and
            what is received.
        decision: who is asked.
        remembered_bytes_maximum: beyond it answers are forgotten when the next question comes.
    """

    def __init__(
        self, within: Permissions, decision: PolicyDecision, *, remembered_bytes_maximum: int = 256 * 1024
    ) -> None:
        self.decision: Final = decision
        self._within = within
        self._answers: dict[Question, bool] = {}
        self._remembered_bytes = 0
        self._remembered_bytes_maximum = remembered_bytes_maximum

    def open_questions(self, questions: Iterable[Question]) -> list[Question]:
        """Return those of the questions that somebody must be asked, each once.

        Where too much is remembered it is forgotten here, so that a later `learn` completes all of them.
        """
        asked = [question for question in dict.fromkeys(questions) if self._is_within(question)]
        if self._remembered_bytes > self._remembered_bytes_maximum and not self._answers.keys() >= set(asked):
            self._answers.clear()
            self._remembered_bytes = 0
        return [question for question in asked if question not in self._answers]

    def learn(self, answers: Mapping[Question, bool]) -> None:
        """Take in answers to open questions."""
        self._answers.update(answers)
        self._remembered_bytes += sum(len(question.topic) + _ANSWER_BYTES for question in answers)

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        """Apply the answer, and what holds for everybody."""
        is_allowed = self._is_allowed(Action.PUBLISH, topic)
        return is_allowed and self._within.may_publish(topic, is_retain=is_retain)

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        """Apply the answer, and what holds for everybody."""
        is_allowed = self._is_allowed(Action.SUBSCRIBE, topic_filter)
        return is_allowed and self._within.may_subscribe(topic_filter)

    def may_receive(self, topic: TopicName) -> bool:
        """Apply what holds for everybody; the Subscription was asked about."""
        return self._within.may_receive(topic)

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        """Apply what holds for everybody."""
        return self._within.maximum_qos(topic_filter)

    def _is_allowed(self, action: Action, topic: TopicName | TopicFilter) -> bool:
        return self._answers.get(Question(action, topic), False)

    def _is_within(self, question: Question) -> bool:
        if question.action is Action.PUBLISH:
            return self._within.may_publish(TopicName(question.topic), is_retain=False)
        return self._within.may_subscribe(TopicFilter(question.topic))
