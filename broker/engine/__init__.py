"""The only writer of broker state: packets in, frames and effects out; no awaits, no I/O."""

from .connection import Origin, ServedConnection
from .effects import Authenticate, Close, Effect, PauseReading, Proceed, ResumeReading
from .engine import Engine
from .mailbox import Mailbox
from .stats import Stats

__all__ = [
    "Authenticate",
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
