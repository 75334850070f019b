"""A Subscription as a Session holds it and routing finds it.

Knows: the Topic Filter, its Subscription Options and identifier.
Does not know: whose it is.
Spec: v5 §3.8; v3.1.1 §3.8.
"""

from msgspec import Struct

from .packets import TopicFilter


class Subscription(Struct, frozen=True, gc=False):
    """One Subscription; `topic_filter` is as sent, with its `$share/{group}/` if it has one."""

    topic_filter: TopicFilter
    qos: int = 0
    is_no_local: bool = False
    is_retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int | None = None
