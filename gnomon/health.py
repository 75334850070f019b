"""Whether clients should be sent here.

Knows: why not.
Does not know: who asks.
Spec: none.
"""


class Health:
    """The server's own word; `reasons` says why it is not ready, and is empty when it is."""

    def __init__(self) -> None:
        self.reasons: tuple[str, ...] = ("starting",)

    def ready(self) -> None:
        """Every listener listens."""
        self.reasons = ()

    def draining(self) -> None:
        """The end has begun."""
        self.reasons = ("draining",)
