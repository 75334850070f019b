"""What the engine wants done by its shell, in order.

Knows: the effects that are too rare to have a way of their own.
Does not know: who performs them.

Frames wait in each connection's `outgoing`, changes for the store in the journal, and filled
mailboxes in a list (`EngineState`): those three are effects too, kept as plain lists because they
happen per message.
"""

from msgspec import Struct

from ..access.ports import ConnectRequest
from ..protocol.reason_codes import ReasonCode
from .connection import ServedConnection


class Authenticate(Struct, frozen=True):
    """Ask the Authenticator and feed the answer to `Engine.authenticated`; nothing is read meanwhile."""

    connection: ServedConnection
    request: ConnectRequest


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


Effect = Authenticate | Close | PauseReading | ResumeReading | Proceed
