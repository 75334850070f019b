"""Whether clients should be sent here.

Knows: why not.
Does not know: who asks.
Spec: none.
"""

from collections.abc import Callable

from storage import StorageHealth


class Health:
    """The server's own word; `storage` says how the database is."""

    def __init__(self, storage: Callable[[], StorageHealth] = StorageHealth) -> None:
        self._storage = storage
        self._phase: tuple[str, ...] = ("starting",)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why clients should not be sent here; empty when they should."""
        storage = self._storage()
        if storage.failing_since is None:
            return self._phase
        return (*self._phase, f"storage failing: {storage.reason}")

    def ready(self) -> None:
        """Every listener listens."""
        self._phase = ()

    def draining(self) -> None:
        """The end has begun."""
        self._phase = ("draining",)
