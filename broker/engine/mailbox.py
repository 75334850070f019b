"""Where a service inside the process receives: a Session without a socket, in batches.

Knows: the messages that wait for the service, and whether they are too many.
Does not know: the service, how it is woken, who is held back.
"""

from collections.abc import Callable

from ..session.message import ApplicationMessage


class Mailbox:
    """A receiver that takes messages as they are.

    It never drops: above `high` messages, whoever publishes to it is not read from until the service
    has taken the batch. What one turn may add is bounded by the frame budget of each connection.
    """

    __slots__ = ("_filled", "high", "messages", "name", "wake")

    def __init__(self, name: str, *, high: int, filled: "list[Mailbox]", wake: Callable[[], None]) -> None:
        self.name = name
        self.high = high
        self.messages: list[ApplicationMessage] = []
        #: Tells the service that a batch is there; the shell calls it.
        self.wake = wake
        self._filled = filled

    def put(self, message: ApplicationMessage) -> None:
        """Add a message to the batch."""
        if not self.messages:
            self._filled.append(self)
        self.messages.append(message)

    @property
    def is_full(self) -> bool:
        """Whether publishers must be held back."""
        return len(self.messages) >= self.high

    def take(self) -> list[ApplicationMessage]:
        """Return the batch and start the next; the engine's `drained` must follow."""
        messages = self.messages
        self.messages = []
        return messages
