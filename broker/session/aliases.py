"""Topic Aliases towards one Client, where it offers them and they pay.

Knows: which topic has which alias on this Network Connection.
Does not know: frames.
Spec: v5 §3.3.2.3.4, [MQTT-3.1.2-26].
"""

from typing import Final

from ..protocol.packets import TopicName

#: An alias costs three bytes in each packet; a topic that is no longer gains nothing.
_WORTHWHILE_BYTES: Final = 4
_NO_TOPIC: Final = TopicName(b"")


class OutboundAliases:
    """Gives aliases 1 to `maximum` to the first topics that are long enough; they keep them.

    Aliases end with the Network Connection, and so does this object.
    """

    __slots__ = ("_aliases", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._aliases: dict[TopicName, int] = {}

    def choose(self, topic: TopicName) -> tuple[TopicName, int | None]:
        """Return the Topic Name to send, empty where the alias says it, and the alias if there is one."""
        alias = self._aliases.get(topic)
        if alias is not None:
            return _NO_TOPIC, alias
        if len(self._aliases) >= self._maximum or len(topic) < _WORTHWHILE_BYTES:
            return topic, None
        alias = self._aliases[topic] = len(self._aliases) + 1
        return topic, alias

    def retract(self, topic: TopicName) -> None:
        """Take back the alias that was given last: its packet is not sent."""
        del self._aliases[topic]
