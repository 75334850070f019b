"""Why a connection is not read from: the first reason pauses it, the last one to go resumes it.

Knows: the reasons of each connection.
Does not know: when they come and go.
"""

from .connection import Hold, ServedConnection
from .effects import PauseReading, ResumeReading
from .mailbox import Mailbox
from .state import EngineState


def hold(state: EngineState, connection: ServedConnection, reason: Hold) -> None:
    """Stop reading for `reason`."""
    if not connection.hold:
        state.effects.append(PauseReading(connection))
    connection.hold |= reason


def unhold(state: EngineState, connection: ServedConnection, reason: Hold) -> None:
    """Read again unless another reason stands."""
    if connection.hold & reason:
        connection.hold &= ~reason
        if not connection.hold:
            state.effects.append(ResumeReading(connection))


def wait_for(state: EngineState, connection: ServedConnection, mailbox: Mailbox) -> None:
    """Stop reading until the service has taken the mailbox's batch."""
    if not connection.hold & Hold.MAILBOX_FULL:
        state.stats.mailbox_holds += 1
        hold(state, connection, Hold.MAILBOX_FULL)
        state.waiting.setdefault(mailbox, []).append(connection)


def wait_for_store(state: EngineState, connection: ServedConnection) -> None:
    """Stop reading until the store has taken some of what it is to keep."""
    if not connection.hold & Hold.STORE_BUSY:
        state.stats.store_holds += 1
        hold(state, connection, Hold.STORE_BUSY)
        state.waiting_for_store.append(connection)


def drained(state: EngineState, mailbox: Mailbox) -> None:
    """The service took its batch: read again from whoever waited for that."""
    for connection in state.waiting.pop(mailbox, ()):
        unhold(state, connection, Hold.MAILBOX_FULL)
