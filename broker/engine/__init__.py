"""The only writer of broker state: packets in, frames and effects out; no awaits, no I/O."""

from .census import Census
from .connection import Origin, ServedConnection
from .directory import (
    SessionInfo,
    count_receivers,
    follow,
    kick,
    page_of_client_ids,
    session_info,
    subscriptions_of,
)
from .effects import (
    AskMethod,
    Authenticate,
    Authorize,
    Close,
    Effect,
    PauseReading,
    Proceed,
    ReadPending,
    ResumeReading,
)
from .engine import Engine
from .mailbox import Mailbox
from .stats import Stats
from .tap import PacketNote

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
    "PacketNote",
    "PauseReading",
    "Proceed",
    "ReadPending",
    "ResumeReading",
    "ServedConnection",
    "SessionInfo",
    "Stats",
    "count_receivers",
    "follow",
    "kick",
    "page_of_client_ids",
    "session_info",
    "subscriptions_of",
]
