"""The data folder: its lock and ready.json.

Knows: which files stand in the folder, that one server at a time owns it.
Does not know: what the server does, what is listened on.
Spec: none.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from .errors import EnvironmentFailureError

LOCK_FILE: Final = "gnomon.lock"
READY_FILE: Final = "ready.json"
PKI_FOLDER: Final = "pki"


class DataFolder:
    """The folder that one running server owns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ready = path / READY_FILE

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Own the folder; made if missing, and without a stale ready.json.

        Raises:
            EnvironmentFailureError: another server owns it, or it cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.fdopen(os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as error:
            raise self._failure(error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = lock.read(32).strip() or "unknown"
                raise EnvironmentFailureError(
                    f"{self.path}: in use by the server with pid {owner}; stop it or use another folder"
                ) from None
            try:
                self.remove_ready()
                _overwrite(lock.fileno(), f"{os.getpid()}\n")
            except OSError as error:
                raise self._failure(error) from error
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # The lock itself ends with the file descriptor.
                    self.remove_ready()
                    _overwrite(lock.fileno(), "")

    def write_ready(self, content: Mapping[str, object]) -> None:
        """Tell others that the server is up: they never see half a file.

        Raises:
            EnvironmentFailureError: the folder cannot be written.
        """
        temporary = self._ready.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
            temporary.replace(self._ready)
        except OSError as error:
            raise self._failure(error) from error

    def remove_ready(self) -> None:
        """Take back `write_ready`."""
        self._ready.unlink(missing_ok=True)

    def _failure(self, error: OSError) -> EnvironmentFailureError:
        place = error.filename or self.path
        return EnvironmentFailureError(f"{place}: {error.strerror}; choose a data folder that you may write")


def _overwrite(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
