"""What the engine wants done by its shell, in order.

Knows: the effects that are too rare to have a way of their own.
Does not know: who performs them.

Frames wait in each connection's `outgoing`, changes for the store in the journal, and filled
mailboxes in a list (`EngineState`): those three are effects too, kept as plain lists because they
happen per message.
"""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from ..access.asking import Question
from ..access.ports import ConnectRequest, Continue, Success
from ..access.principal import Principal
from ..protocol.reason_codes import ReasonCode
from ..session.session import Session
from .connection import ServedConnection


class Authenticate(Struct, frozen=True):
    """Ask the Authenticator and feed the answer to `Engine.authenticated`; nothing is read meanwhile."""

    connection: ServedConnection
    request: ConnectRequest


class AskMethod(Struct, frozen=True):
    """Ask a method of enhanced authentication; the answer goes to `Engine.method_answered`."""

    connection: ServedConnection
    question: Callable[[], Awaitable[Continue | Success]]


class Authorize(Struct, frozen=True):
    """Ask who decides for the principal; the answers go to `Engine.decided`, which calls `resume`.

    `resume` gets whether all questions were answered, and the time.
    """

    connection: ServedConnection
    principal: Principal
    questions: Sequence[Question]
    resume: Callable[[bool, float], None]


class Close(Struct, frozen=True):
    """Write what is in `outgoing`, then close the Network Connection.

    `reason_code` and `detail` are for log and metrics; the peer was told before, where it can be told.
    """

    connection: ServedConnection
    reason_code: ReasonCode
    detail: str


class PauseReading(Struct, frozen=True):
    """Read nothing more from the connection until `ResumeReading`."""

    connection: ServedConnection


class ResumeReading(Struct, frozen=True):
    """Read from the connection again, and call `Engine.proceed` for what is buffered."""

    connection: ServedConnection


class Proceed(Struct, frozen=True):
    """Call `Engine.proceed` in the next loop turn: the connection used up its budget of this one."""

    connection: ServedConnection


class ReadPending(Struct, frozen=True):
    """Read a page of pending deliveries, those above row `after`, and feed it to `Engine.take_page`."""

    session: Session
    asked: object
    after: int


ConnectionEffect = Authenticate | AskMethod | Authorize | Close | PauseReading | ResumeReading | Proceed
Effect = ConnectionEffect | ReadPending
