"""Authorization that must be waited for: what needs an answer is put off until it is there.

Knows: which packets wait, for which answers; what no answer means.
Does not know: who decides.
Spec: v5 §5.4.2; v3.1.1 §5.4.2.

Permissions always answer at once. Where they are `AskingPermissions`, a handler calls `require` before
it changes anything; it raises while questions are open. The packet and those behind it then wait, nothing
more is read, and after the answers they are handled from the beginning.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from ..access.asking import Action, AskingPermissions, Question
from ..access.principal import Principal
from ..protocol.connection import ConnectionState
from ..protocol.errors import BrokerError
from ..protocol.packets import ControlPacket, Publish, TopicFilter, TopicName
from ..protocol.topics import split_shared
from ..session.session import Session
from .connection import Hold, ServedConnection
from .effects import Authorize
from .holds import hold, unhold
from .state import EngineState


class UndecidedError(BrokerError):
    """A packet cannot be handled before these questions are answered."""

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__("not decided yet")
        self.questions = questions


def require(connection: ServedConnection, action: Action, topics: Iterable[TopicName | TopicFilter]) -> None:
    """See to it that what the Client may do with these topics is known; filters come without `$share`.

    Raises:
        UndecidedError: it is not.
    """
    permissions = connection.permissions
    if isinstance(permissions, AskingPermissions):
        questions = permissions.open_questions(Question(action, topic) for topic in topics)
        if questions:
            raise UndecidedError(questions)


def postpone(
    state: EngineState,
    connection: ServedConnection,
    packets: Sequence[ControlPacket],
    packet: ControlPacket,
    questions: Sequence[Question],
) -> None:
    """Keep `packet` and those behind it until the questions are answered; no answer is a denial."""
    at = next(index for index, each in enumerate(packets) if each is packet)
    connection.postponed = packets[at:]
    state.stats.publishes_received -= isinstance(packet, Publish)  # It will be counted again.
    if connection.principal is not None:
        hold(state, connection, Hold.UNDECIDED)
        resume = partial(_resume, state, connection)
        state.effects.append(Authorize(connection, connection.principal, questions, resume))


def questions_about_session(
    principal: Principal, session: Session | None, will_topic: TopicName | None
) -> list[Question]:
    """Return what must be known before the principal has this Session and this Will.

    Where these stay open, the Client is refused: a Subscription must not be lost because nobody answered.
    """
    permissions = principal.permissions
    if not isinstance(permissions, AskingPermissions):
        return []
    questions = [] if will_topic is None else [Question(Action.PUBLISH, will_topic)]
    if session is not None and session.identity == principal.identity:
        questions += [Question(Action.SUBSCRIBE, inner_filter(each)) for each in session.subscriptions]
    return permissions.open_questions(questions)


def handle_decided(effect: Authorize, answers: Mapping[Question, bool], now: float) -> None:
    """Take in the answers, denying what has none, and go on where it was put off."""
    questions, permissions = effect.questions, effect.principal.permissions
    if isinstance(permissions, AskingPermissions):
        permissions.learn({question: answers.get(question, False) for question in questions})
    effect.resume(all(question in answers for question in questions), now)


def inner_filter(topic_filter: TopicFilter) -> TopicFilter:
    """Return the Topic Filter without the `$share/{group}/` of a Shared Subscription."""
    shared = split_shared(topic_filter)
    return topic_filter if shared is None else shared[1]


def _resume(state: EngineState, connection: ServedConnection, is_complete: bool, now: float) -> None:
    if connection.state is ConnectionState.CONNECTED:
        unhold(state, connection, Hold.UNDECIDED)
