"""The password file: its text to users, and whether a password is a user's.

Knows: the format below, and what a refusal may not tell.
Does not know: the file system, threads (checking a password takes milliseconds: callers inject how).
Spec: RFC 9106; v5 §3.1.3.5, §3.1.3.6, §5.4.1; v3.1.1 §3.1.3.4, §3.1.3.5, §5.4.1.

    # A line that begins with # is a comment.
    alice:$argon2id$v=19$m=19456,t=2,p=1$...$...

A user name has no colon, no control character, and no space at its ends; it does not begin with #.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from ..protocol.errors import BrokerError
from ..protocol.reason_codes import ReasonCode
from .ports import AccessRefusedError

PASSWORD_FILE_SIZE_MAXIMUM: Final = 16 * 1024 * 1024
USERS_MAXIMUM: Final = 100_000
USER_NAME_BYTES_MAXIMUM: Final = 256

#: RFC 9106 §3.1: memory in KiB, rounds, lanes, a salt from 8 and a tag from 16 bytes, in base64.
_HASH: Final = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
).fullmatch
#: What one check may take, so that no line of the file can stop the broker.
_MEMORY_KIB_MAXIMUM: Final = 1024 * 1024
_ROUNDS_MAXIMUM: Final = 32
_LANES_MAXIMUM: Final = 64

#: Checks with each hash's own parameters; what this object would hash with is never used.
_HASHER: Final = PasswordHasher()


class PasswordFileError(BrokerError):
    """A password file cannot be used; the text is one sentence with file, line and what would be right."""


def parse_password_file(text: str, *, source: str) -> dict[str, str]:
    """Return hash by user name; `source` names the file in errors, which never show a line's content.

    Raises:
        PasswordFileError: it is not a password file in every line.
    """
    hashes: dict[str, str] = {}
    if len(text) > PASSWORD_FILE_SIZE_MAXIMUM:
        raise PasswordFileError(
            f"{source}: a password file has at most {PASSWORD_FILE_SIZE_MAXIMUM} characters"
        )
    for number, line in enumerate(text.split("\n"), start=1):
        where = f"{source}: line {number}"
        if not line.strip() or line.startswith("#"):
            continue
        name, separator, password_hash = line.rstrip().partition(":")
        if not separator:
            raise PasswordFileError(f"{where}: must be user:hash, as `gnomon password set` writes it")
        check_user_name(name, where=where)
        if name in hashes:
            raise PasswordFileError(f"{where}: the user stands in the file twice; delete one of the lines")
        _check_hash(password_hash, where)
        hashes[name] = password_hash
    if len(hashes) > USERS_MAXIMUM:
        raise PasswordFileError(f"{source}: a password file has at most {USERS_MAXIMUM} users")
    return hashes


def with_user(text: str, name: str, password_hash: str | None) -> str:
    """Return the text of a password file in which the user has this hash, or no line where it is None.

    Every other line stays as it is, comments too.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    place = next((at for at, line in enumerate(lines) if line.startswith(f"{name}:")), len(lines))
    lines[place : place + 1] = [] if password_hash is None else [f"{name}:{password_hash}"]
    return "".join(f"{line}\n" for line in lines)


def check_user_name(name: str, *, where: str) -> None:
    """Check that a user name can stand in a password file; `where` begins the error's sentence.

    Raises:
        PasswordFileError: it cannot.
    """
    is_writable = name.isprintable() and name == name.strip() and ":" not in name and not name.startswith("#")
    if not name or not is_writable or len(name.encode()) > USER_NAME_BYTES_MAXIMUM:
        raise PasswordFileError(
            f"{where}: a user name has 1 to {USER_NAME_BYTES_MAXIMUM} bytes, no colon, no control character, "
            "no space at its ends and no # at its beginning"
        )


def is_password(password_hash: str, password: bytes) -> bool:
    """Say whether the hash is the password's. Takes milliseconds of CPU and lets other threads run."""
    try:
        return _HASHER.verify(password_hash, password)
    except VerificationError:
        return False


class PasswordUsers:
    """The users of a password file, asked at CONNECT.

    Args:
        hashes: hash by user name, as `parse_password_file` returns it.
        verify: `is_password` off the event loop, with a bound on how many wait; it may refuse.
    """

    def __init__(self, hashes: Mapping[str, str], *, verify: Callable[[str, bytes], Awaitable[bool]]) -> None:
        self._hashes = hashes
        self._verify = verify

    def reload(self, hashes: Mapping[str, str]) -> None:
        """Use these users for those who connect from now on."""
        self._hashes = hashes

    async def check(self, user_name: str, password: bytes) -> None:
        """Check that the password is the user's.

        A user who does not exist takes as long as one who does, measured by the first in the file, so
        that nobody learns the names by the clock.

        Raises:
            AccessRefusedError: it is not.
        """
        password_hash = self._hashes.get(user_name)
        stand_in = next(iter(self._hashes.values()), None) if password_hash is None else password_hash
        is_right = stand_in is not None and await self._verify(stand_in, password)
        if password_hash is None or not is_right:
            raise AccessRefusedError(
                ReasonCode.BAD_USER_NAME_OR_PASSWORD,
                "the password is not the user's, or there is no such user",
            )


def _check_hash(password_hash: str, where: str) -> None:
    found = _HASH(password_hash)
    if found is None:
        raise PasswordFileError(f"{where}: not an Argon2id hash; write the line with `gnomon password set`")
    memory_kib, rounds, lanes = map(int, found.groups())
    if memory_kib > _MEMORY_KIB_MAXIMUM or rounds > _ROUNDS_MAXIMUM or lanes > _LANES_MAXIMUM:
        raise PasswordFileError(
            f"{where}: a check would take more than {_MEMORY_KIB_MAXIMUM} KiB, {_ROUNDS_MAXIMUM} rounds or "
            f"{_LANES_MAXIMUM} lanes; write the line with `gnomon password set`"
        )
