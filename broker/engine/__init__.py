"""The only writer of broker state: packets in, frames and effects out; no awaits, no I/O."""

from .census import Census
from .connection import Origin, ServedConnection
from .effects import (
    AskMethod,
    Authenticate,
    Authorize,
    Close,
    Effect,
    PauseReading,
    Proceed,
    ResumeReading,
)
from .engine import Engine
from .mailbox import Mailbox
from .stats import Stats

__all__ = [
    "AskMethod",
    "Authenticate",
    "Authorize",
    "Census",
    "Close",
    "Effect",
    "Engine",
    "Mailbox",
    "Origin",
    "PauseReading",
    "Proceed",
    "ResumeReading",
    "ServedConnection",
    "Stats",
]
