"""How fast one connection may publish: first it is delayed, then it is closed.

Knows: the bucket of each connection, refilled by time, holding one second's worth.
Does not know: what is published.
Spec: v5 §4.13, Reason Code 0x96.
"""

from functools import partial

from ..protocol.connection import ConnectionState
from ..protocol.errors import MessageRateTooHighError
from .connection import Hold, ServedConnection
from .holds import hold, unhold
from .state import EngineState


def charge(state: EngineState, connection: ServedConnection, publishes: int, now: float) -> None:
    """Take `publishes` from the bucket; a connection that overdraws it is not read from for a while.

    Raises:
        MessageRateTooHighError: it has been overdrawing for `publish_rate_patience_s`.
    """
    rate = state.limits.publish_rate_maximum
    if rate is None or not publishes:
        return
    bucket = connection.publish_bucket
    level = min(rate, bucket.level + (now - bucket.filled_at) * rate)
    if level >= rate:
        # Full: quiet for a second after all was paid. At zero, where a hold ends, a flood would begin anew.
        bucket.overdrawn_since = None
    bucket.level = level - publishes
    bucket.filled_at = now
    if bucket.level >= 0:
        return
    if bucket.overdrawn_since is None:
        bucket.overdrawn_since = now
    elif now - bucket.overdrawn_since >= state.limits.publish_rate_patience_s:
        state.stats.publish_rate_closes += 1
        raise MessageRateTooHighError("publishes faster than allowed for too long", spec="v5 §3.14.2.1")
    state.stats.publish_rate_holds += 1
    hold(state, connection, Hold.PUBLISH_RATE)
    state.timers.add(now - bucket.level / rate, partial(_is_paid, state), connection)


def _is_paid(state: EngineState, connection: ServedConnection, now: float) -> None:
    if connection.state is not ConnectionState.CLOSED:
        unhold(state, connection, Hold.PUBLISH_RATE)
