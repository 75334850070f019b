"""Topics of the shadow service.

Knows: the grammar of request topics, thing names and shadow names, and the topics of the replies.
Does not know: payloads, who may publish or subscribe.
Spec: AWS IoT device shadow service, MQTT topics; v5 §4.7; v3.1.1 §4.7.
"""

import enum
import re
from typing import NamedTuple


class ShadowKey(NamedTuple):
    """Which shadow: `shadow_name` is None for the classic one."""

    thing_name: str
    shadow_name: str | None = None


class Operation(enum.StrEnum):
    """What a client may ask for; the value is the last level of the request topic."""

    GET = "get"
    UPDATE = "update"
    DELETE = "delete"


class Reply(enum.StrEnum):
    """What the service publishes; the value is the topic's end behind the shadow's prefix."""

    GET_ACCEPTED = "get/accepted"
    GET_REJECTED = "get/rejected"
    UPDATE_ACCEPTED = "update/accepted"
    UPDATE_REJECTED = "update/rejected"
    UPDATE_DELTA = "update/delta"
    UPDATE_DOCUMENTS = "update/documents"
    DELETE_ACCEPTED = "delete/accepted"
    DELETE_REJECTED = "delete/rejected"


class ShadowTopics:
    """The topics below one root, `$aws` for every device SDK."""

    def __init__(self, root: str = "$aws") -> None:
        self._things = f"{root}/things"
        self._match = re.compile(
            re.escape(self._things)
            + r"/([a-zA-Z0-9:_-]{1,128})/shadow/(?:name/([$a-zA-Z0-9:_-]{1,64})/)?(get|update|delete)"
        ).fullmatch

    @property
    def request_filters(self) -> tuple[str, ...]:
        """The Topic Filters that together match every request topic."""
        prefixes = (f"{self._things}/+/shadow", f"{self._things}/+/shadow/name/+")
        return tuple(f"{prefix}/{operation}" for prefix in prefixes for operation in Operation)

    def parse(self, topic: str) -> tuple[ShadowKey, Operation] | None:
        """Read a request topic; None for anything else, names that break the rules included."""
        if (match := self._match(topic)) is None:
            return None
        thing_name, shadow_name, operation = match.groups()
        return ShadowKey(thing_name, shadow_name), Operation(operation)

    def reply(self, key: ShadowKey, reply: Reply) -> str:
        """The Topic Name of a reply."""
        if key.shadow_name is None:
            return f"{self._things}/{key.thing_name}/shadow/{reply}"
        return f"{self._things}/{key.thing_name}/shadow/name/{key.shadow_name}/{reply}"
