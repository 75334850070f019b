"""Routing: who gets an Application Message, and which messages are retained.

Knows: Subscriptions, Shared Subscriptions, retained messages by topic.
Does not know: sessions, connections, permissions, storage.
Spec: v5 §4.7, §4.8; v3.1.1 §4.7.
"""

from ..protocol.subscription import Subscription
from .retained import RetainedIndex
from .tree import Matches, SharedGroup, SubscriptionTree

__all__ = ["Matches", "RetainedIndex", "SharedGroup", "Subscription", "SubscriptionTree"]
