"""Retained messages: kept, replaced, removed, forgotten when they expire.

Knows: the limit and what does not count towards it, that each change must be stored.
Does not know: who publishes them, whom they are sent to.
Spec: v5 §3.3.1.3, §3.3.2.3.3; v3.1.1 §3.3.1.3.
"""

from functools import partial
from typing import Final

from ..protocol.packets import TopicName
from ..session.message import ApplicationMessage
from .state import EngineState, Tenant

#: Only services publish here (access); beyond the limits, which are for clients.
_STATISTICS: Final = b"$SYS/"


def retain(state: EngineState, tenant: Tenant, message: ApplicationMessage) -> None:
    """Keep, replace or remove the retained message of a topic (v5 [MQTT-3.3.1-5] ff.)."""
    topic = message.topic
    is_statistic = topic.startswith(_STATISTICS)
    if not message.payload:
        drop_retained(state, tenant, topic)
        return
    if not is_statistic and not _has_room(state, tenant, message):
        state.stats.retained_refused += 1
        return
    keep_retained(state, tenant, message)
    if not is_statistic and state.journal is not None:
        # Statistics are made anew after a restart, and need no place in a store.
        state.journal.put_retained(tenant.name, message)


def keep_retained(state: EngineState, tenant: Tenant, message: ApplicationMessage) -> None:
    """Keep a message until it is replaced, removed or expires; the store is not told."""
    topic = message.topic
    earlier = tenant.retained.get(topic)
    if earlier is None:
        tenant.statistics += topic.startswith(_STATISTICS)
    else:
        tenant.retained_bytes -= earlier.size_bytes()
    tenant.retained_bytes += message.size_bytes()
    _cancel_expiry(state, tenant, topic)
    tenant.retained.set(topic, message)
    if message.expires_at is not None:
        is_due = partial(_expiry_is_due, state, tenant)
        tenant.expiries[topic] = state.timers.add(message.expires_at, is_due, topic)


def drop_retained(state: EngineState, tenant: Tenant, topic: TopicName) -> None:
    """Forget the retained message of a topic if it has one.

    The store is told also where there is none: that the last one is gone may not be on disk yet.
    """
    _cancel_expiry(state, tenant, topic)
    removed = tenant.retained.remove(topic)
    is_statistic = topic.startswith(_STATISTICS)
    if removed is not None:
        tenant.retained_bytes -= removed.size_bytes()
        tenant.statistics -= is_statistic
    if not is_statistic and state.journal is not None:
        state.journal.drop_retained(tenant.name, topic)


def _has_room(state: EngineState, tenant: Tenant, message: ApplicationMessage) -> bool:
    """Whether a Client's message may be kept, in the place of an earlier one if there is one."""
    limits = state.limits
    earlier = tenant.retained.get(message.topic)
    size_bytes = tenant.retained_bytes + message.size_bytes() - (earlier.size_bytes() if earlier else 0)
    if earlier is None and len(tenant.retained) - tenant.statistics >= limits.retained_messages_maximum:
        return False
    return size_bytes <= limits.retained_bytes_maximum


def _cancel_expiry(state: EngineState, tenant: Tenant, topic: TopicName) -> None:
    timer = tenant.expiries.pop(topic, None)
    if timer is not None:
        state.timers.cancel(timer)


def _expiry_is_due(state: EngineState, tenant: Tenant, topic: TopicName, now: float) -> None:
    drop_retained(state, tenant, topic)
