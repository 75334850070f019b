"""Passwords: the threads that check them, and the file that they are changed in.

Knows: how many are checked at a time, how the file is replaced without a half-written moment.
Does not know: what a line of the file looks like, who may do what (broker.access).
Spec: RFC 9106 §4; OWASP Password Storage Cheat Sheet (memory, rounds).
"""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

from broker.access import (
    AccessRefusedError,
    PasswordFileError,
    is_password,
    parse_password_file,
    with_user,
)
from broker.protocol.reason_codes import ReasonCode

from .errors import ConfigurationError, EnvironmentFailureError, GnomonError
from .setting_files import load_passwords

#: 18 ms and 19 MiB a check: a fleet that comes back must not wait minutes.
_MEMORY_KIB: Final = 19 * 1024
_ROUNDS: Final = 2
_LANES: Final = 1
_FILE_MODE: Final = 0o600


class PasswordWorkers:
    """Checks passwords on threads of its own, so that the event loop goes on meanwhile.

    Args:
        workers: checks at one time.
        waiting_maximum: checks under way or waiting; beyond it a client is refused.
    """

    def __init__(self, *, workers: int, waiting_maximum: int) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="gnomon-password")
        self._waiting_maximum = waiting_maximum
        self._waiting = 0

    async def verify(self, password_hash: str, password: bytes) -> bool:
        """Say whether the hash is the password's; a caller that gives up takes its check with it.

        Raises:
            AccessRefusedError: too many wait.
        """
        if self._waiting >= self._waiting_maximum:
            raise AccessRefusedError(ReasonCode.SERVER_BUSY, "password_checks_maximum reached")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, is_password, password_hash, password)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Check nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def set_password(path: Path, name: str, password: bytes) -> None:
    """Give a user this password; file and user are made where they are missing.

    Raises:
        ConfigurationError: the file is no password file, or with this user it would be none.
        EnvironmentFailureError: it cannot be written.
    """
    password_hash = PasswordHasher(time_cost=_ROUNDS, memory_cost=_MEMORY_KIB, parallelism=_LANES).hash(
        password
    )
    with _owned(path) as file:
        text = with_user(_read(file), name, password_hash)
        try:
            parse_password_file(text, source=str(path))
        except PasswordFileError as error:
            raise ConfigurationError(str(error)) from None
        _replace(file, text)


def delete_user(path: Path, name: str) -> None:
    """Take a user out of the file.

    Raises:
        GnomonError: there is no such user.
        ConfigurationError: the file is no password file.
        EnvironmentFailureError: it cannot be written.
    """
    with _owned(path) as file:
        if name not in (load_passwords(file) or {}):
            raise GnomonError(f"{path}: has no user {name}")
        _replace(file, with_user(_read(file), name, None))


@contextmanager
def _owned(path: Path) -> Iterator[Path]:
    """Let nobody else change the file meanwhile; gives the file itself where `path` is a link to it."""
    file = path.resolve()
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(folder)
    except OSError as error:
        raise EnvironmentFailureError(
            f"{path}: cannot be changed: {error.strerror}; name a file in a folder that you may write"
        ) from None


def _read(file: Path) -> str:
    """Return the file's text, which is known to be that of a password file; nothing where it is missing."""
    if not file.exists():
        return ""
    load_passwords(file)
    return file.read_bytes().decode()


def _replace(file: Path, text: str) -> None:
    """Write the file anew under its old owner: whoever reads it sees the old text or the new one."""
    temporary = file.with_name(f".{file.name}.new")
    temporary.unlink(missing_ok=True)  # Of a run that was killed; the folder is ours.
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as output:
            if file.exists():
                owner = file.stat()
                os.fchown(output.fileno(), owner.st_uid, owner.st_gid)
            output.write(text.encode())
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
