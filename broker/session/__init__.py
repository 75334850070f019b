"""Session State, messages in flight and pending, and the changes that a store must keep."""

from .flow import NEXT_FLOWS, Flow, advance
from .journal import Commit, Journal, Receipt
from .message import ApplicationMessage, Delivery
from .records import Changes, DeliveryRow, SessionRow, Will
from .session import NEVER_EXPIRES, Session
from .stats import SessionLimits, SessionStats

__all__ = [
    "NEVER_EXPIRES",
    "NEXT_FLOWS",
    "ApplicationMessage",
    "Changes",
    "Commit",
    "Delivery",
    "DeliveryRow",
    "Flow",
    "Journal",
    "Receipt",
    "Session",
    "SessionLimits",
    "SessionRow",
    "SessionStats",
    "Will",
    "advance",
]
