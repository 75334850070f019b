"""Session State, messages in flight and pending, and the changes that a store must keep."""

from .flow import NEXT_FLOWS, Flow, advance
from .message import ApplicationMessage, Delivery
from .records import Commit, Journal, Operation
from .session import NEVER_EXPIRES, Session, Will
from .stats import SessionLimits, SessionStats

__all__ = [
    "NEVER_EXPIRES",
    "NEXT_FLOWS",
    "ApplicationMessage",
    "Commit",
    "Delivery",
    "Flow",
    "Journal",
    "Operation",
    "Session",
    "SessionLimits",
    "SessionStats",
    "Will",
    "advance",
]
