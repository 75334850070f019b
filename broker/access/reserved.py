"""Reserved topics: what no rule can allow to a client, decided in one table.

Knows: the reserved roots, the request topics that clients may publish below them, whose answers are whose.
Does not know: principals, rules, payloads.
Spec: v5 §4.7.2; v3.1.1 §4.7.2; the reserved topics of AWS IoT Core.
"""

import re
from collections.abc import Mapping
from typing import Final

from ..protocol.packets import TopicFilter, TopicName

DEFAULT_ROOT: Final = "$aws"
OWN_ROOT: Final = "$gnomon"
STATISTICS_ROOT: Final = "$SYS"

_THING_NAME: Final = "[a-zA-Z0-9:_-]{1,128}"

#: What a placeholder of the tables stands for. `level` is any level, `rest` the levels below, if any.
_PLACEHOLDERS: Final[Mapping[str, str]] = {
    "thing": _THING_NAME,
    "shadow": "[$a-zA-Z0-9:_-]{1,64}",
    "job": r"(?:\$next|[a-zA-Z0-9_-]{1,64})",
    "stream": "[a-zA-Z0-9_-]{1,128}",
    "format": "(?:json|cbor)",
    "level": "[^/]+",
    "rest": "(?:/.*)?",
    "area": "(?!reply/)[^/]+",
}

#: Below the contract's root: every topic on which a service listens to clients, and no other.
_CONTRACT_REQUESTS: Final = (
    "things/{thing}/shadow/get",
    "things/{thing}/shadow/update",
    "things/{thing}/shadow/delete",
    "things/{thing}/shadow/name/{shadow}/get",
    "things/{thing}/shadow/name/{shadow}/update",
    "things/{thing}/shadow/name/{shadow}/delete",
    "things/{thing}/jobs/get",
    "things/{thing}/jobs/start-next",
    "things/{thing}/jobs/{job}/get",
    "things/{thing}/jobs/{job}/update",
    "things/{thing}/streams/{stream}/describe/{format}",
    "things/{thing}/streams/{stream}/get/{format}",
    "things/{thing}/defender/metrics/{format}",
    "certificates/create/{format}",
    "certificates/create-from-csr/{format}",
    "provisioning-templates/{level}/provision/{format}",
    "rules/{level}{rest}",
)

#: Below our own root.
_OWN_REQUESTS: Final = (
    "onboard/v1/{level}/req/{level}{rest}",
    "attest/v1/{thing}/evidence",
    "ota/v1/img/{level}/need/{thing}",
    "ota/v1/dev/{thing}/st",
    "admin/v1/{area}/{level}",
)


#: `{prefix}{client_id}/...`: where an administrator's answers come; nobody else may receive them.
ADMIN_REPLIES: Final = f"{OWN_ROOT}/admin/v1/reply/"
_ADMIN_REPLIES: Final = ADMIN_REPLIES.encode()
_ADMIN_REPLIES_LEVELS: Final = ADMIN_REPLIES.count("/")


def is_thing_name(text: str) -> bool:
    """Say whether `text` may name a thing: 1..128 of `[a-zA-Z0-9:_-]`."""
    return re.fullmatch(_THING_NAME, text) is not None


class ReservedTopics:
    """The reserved roots of one broker. `root` is the contract's, one level."""

    __slots__ = ("_requests", "root")

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        """Compile the tables for `root`.

        Raises:
            ValueError: `root` is not one level that can be reserved.
        """
        if not root or root in (OWN_ROOT, STATISTICS_ROOT, "$share") or not set(root).isdisjoint("/+#\0"):
            raise ValueError(
                f"topics.root must be one topic level without wildcards, other than {OWN_ROOT}, "
                f"{STATISTICS_ROOT} and $share, such as {DEFAULT_ROOT}"
            )
        self.root: Final = root.encode()
        self._requests: Final[Mapping[bytes, re.Pattern[bytes] | None]] = {
            self.root: _compile(_CONTRACT_REQUESTS),
            OWN_ROOT.encode(): _compile(_OWN_REQUESTS),
            STATISTICS_ROOT.encode(): None,
        }

    def is_guarded(self, topic: TopicName | TopicFilter) -> bool:
        """Say whether only a rule that names the reserved root can allow `topic` (all but `$SYS`)."""
        return self._requests.get(topic.partition(b"/")[0]) is not None

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        """Say whether clients may publish to `topic` at all; below reserved roots never with RETAIN."""
        first, _, rest = topic.partition(b"/")
        if first not in self._requests:
            return True
        requests = self._requests[first]
        return requests is not None and not is_retain and requests.fullmatch(rest) is not None

    def may_receive(self, topic: TopicName, client_id: bytes) -> bool:
        """Say whether the client may receive messages on `topic` at all: no answers to others."""
        return not topic.startswith(_ADMIN_REPLIES) or topic.split(b"/")[_ADMIN_REPLIES_LEVELS] == client_id

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        """Return the highest QoS of subscriptions: 1 below the contract's root (v5 §3.9.3 lets us)."""
        return 1 if topic_filter.partition(b"/")[0] == self.root else 2


def _compile(templates: tuple[str, ...]) -> re.Pattern[bytes]:
    alternatives = (
        re.sub(r"\{(\w+)\}", lambda found: _PLACEHOLDERS[found[1]], template) for template in templates
    )
    return re.compile("|".join(alternatives).encode(), re.DOTALL)
