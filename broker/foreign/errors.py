"""Errors of the way to a foreign broker.

Knows: what trying again can heal.
Does not know: who is told.
Spec: v5 §2.4.
"""

from ..protocol.errors import BrokerError
from ..protocol.reason_codes import ReasonCode


class ForeignBrokerError(BrokerError):
    """The foreign broker said no."""

    def __init__(self, what: str, reason_code: ReasonCode) -> None:
        super().__init__(f"{what}: {reason_code.name.lower().replace('_', ' ')}")
        self.reason_code = reason_code


class BusRefusedError(ForeignBrokerError):
    """It would say it again: credentials, subscriptions, a client id that another process uses."""


class BusEndedError(ForeignBrokerError):
    """It may be better at the next try."""


class BusFullError(BrokerError):
    """The foreign broker does not take messages fast enough; this one is dropped and counted."""


class ForeignFilesError(BrokerError):
    """Certificate, key, authorities or password cannot be used; the text names the file."""
