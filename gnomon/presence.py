"""Which devices are connected, as the shadow service asks.

Knows: a device's ClientId is its thing's name.
Does not know: what the answer is for.
Spec: none.
"""

from broker.api import Broker


class BrokerPresence:
    """The devices of one tenant."""

    def __init__(self, broker: Broker, *, tenant: str) -> None:
        self._broker = broker
        self._tenant = tenant

    def connected_since(self, thing_name: str) -> float | None:
        """Return since when (seconds since the epoch) the thing's device is connected; None if it is not."""
        session = self._broker.session(self._tenant, thing_name)
        if session is None or not session.is_connected or session.thing_name not in (None, thing_name):
            return None
        return session.since
