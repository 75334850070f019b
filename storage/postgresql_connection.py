"""Connections to PostgreSQL: where the server is, how each connection is set up, what its errors mean.

Knows: URLs, parameters of a session, SQLSTATE codes.
Does not know: transactions, tables.
Spec: PostgreSQL's connection URIs, error codes (appendix A).
"""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import asyncpg

from .errors import DatabaseDamagedError, StorageError
from .settings import StorageSettings

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_URL_FORM: Final = (
    "storage.url: should be postgresql://USER@HOST/DATABASE; for a socket "
    "postgresql://USER@/DATABASE?host=/run/postgresql"
)
#: The oldest that its makers still kept when this was written.
_VERSION_MINIMUM: Final = 14
_CONNECT_TIMEOUT_S: Final = 10.0
#: The server ends a statement after this, so that nothing waits for ever; the client gives up a little later.
_STATEMENT_TIMEOUT_S: Final = 30
_ANSWER_TIMEOUT_S: Final = 35.0

#: SQLSTATE, or its class, after which the same statements may succeed later; what to do until then.
_TRANSIENT: Final[Mapping[str, str]] = {
    "08": "the connection is lost; see whether the server runs",
    "25006": "the server is a standby or read-only; name the primary",
    "25P03": "a transaction took too long",
    "28": "put the password into a passfile of mode 0600 (?passfile=PATH, PGPASSFILE or ~/.pgpass), or name "
    "a client certificate (?sslcert=PATH&sslkey=PATH)",
    "3D": "create the database: CREATE DATABASE name ENCODING 'UTF8'",
    "40": "another program changed the same rows",
    "42501": "grant the missing right",
    "53": "give the server disk, memory or connections",
    "55P03": "another program holds a lock; end its transaction",
    "57": "see the server's log",
    "58": "the server's disk or system fails; see its log",
}
#: Another program changed the same rows: repeating at once is all that is needed.
_CONFLICT: Final = "40"
_DAMAGE: Final = frozenset({"XX001", "XX002"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One database of one server (or of several, of which one is the primary), and who we are there."""

    url: str
    #: For people: hosts and database, nothing else of the URL.
    place: str
    #: Tells our own sessions, and only those of this process, from others (63 bytes at most).
    application_name: str
    is_synchronous: bool

    @classmethod
    def parse(cls, url: str, settings: StorageSettings) -> Self:
        """Check a URL `postgresql://USER@HOST[:PORT]/DATABASE[?sslmode=..&passfile=..]`.

        Over TCP `sslmode` is verify-full until it is typed otherwise: libpq's default may speak in the clear.

        Raises:
            StorageError: no such URL, or it holds a password.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            raise StorageError(_URL_FORM) from None
        query = dict(parse_qsl(parts.query))
        hosts = unquote(parts.netloc.rpartition("@")[2]) or query.get("host", "")
        database = unquote(parts.path[1:]) or query.get("dbname", "")
        if parts.scheme != "postgresql" or not hosts or not database:
            raise StorageError(_URL_FORM)
        if parts.password is not None or query.keys() & {"password", "sslpassword"}:
            raise StorageError("storage.url: should hold no password; put it into a passfile: ?passfile=PATH")
        if "sslmode" not in query and not all(host.startswith("/") for host in hosts.split(",")):
            url += f"{'&' if parts.query else '?'}sslmode=verify-full"
        return cls(
            url=url,
            place=f"PostgreSQL database {database} at {hosts}",
            application_name=f"gnomon {socket.gethostname()[:30]} {os.getpid()} {secrets.token_hex(4)}",
            is_synchronous=settings.durability == "fsync",
        )

    def arguments(self, *, is_reader: bool = False) -> dict[str, Any]:
        """Return what `asyncpg.connect` and `asyncpg.create_pool` take."""
        reader = {"default_transaction_read_only": "on"} if is_reader else {}
        return {
            "dsn": self.url,
            "timeout": _CONNECT_TIMEOUT_S,
            "command_timeout": _ANSWER_TIMEOUT_S,
            # After a failover the host that answers may be a standby. Our readers do not count as read-write.
            "target_session_attrs": "primary" if is_reader else "read-write",
            "server_settings": {
                "application_name": self.application_name,
                "synchronous_commit": "on" if self.is_synchronous else "off",
                "statement_timeout": f"{_STATEMENT_TIMEOUT_S}s",
                "idle_in_transaction_session_timeout": f"{_STATEMENT_TIMEOUT_S}s",
                "jit": "off",  # Statements are short; compiling one takes longer than running it.
                # A plan made while a table was small reads all of it when it is large (measured: 2.3 s, not
                # 3 ms, to drop 1,000 of 1,000,000 rows); a plan for each statement takes 0.1 ms.
                "plan_cache_mode": "force_custom_plan",
                # When our machine loses its power, its sessions (and their locks) end in half a minute.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "4",
                **reader,
            },
        }

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            StorageError: nobody answers, we may not, or the server is not fit.
        """
        try:
            connection: Connection = await asyncpg.connect(**self.arguments())
        except CONNECT_ERRORS as error:
            raise self.error(error) from error
        encoding = connection.get_settings().server_encoding
        version = connection.get_server_version().major
        if version >= _VERSION_MINIMUM and encoding == "UTF8":
            return connection
        connection.terminate()
        if version < _VERSION_MINIMUM:
            raise StorageError(
                f"{self.place}: PostgreSQL {version} is too old; use {_VERSION_MINIMUM} or later"
            )
        raise StorageError(f"{self.place}: stores {encoding}; create the database with ENCODING 'UTF8'")

    def error(self, error: BaseException) -> StorageError:
        """Return what to tell about an error of the server or of the network."""
        if isinstance(error, StorageError):
            return error
        if is_damage(error):
            return DatabaseDamagedError(
                f"{self.place}: the database is damaged ({error}); see the server's log, restore a backup"
            )
        return StorageError(f"{self.place}: {reason(error)}")


#: What an attempt to connect may raise.
CONNECT_ERRORS: Final = (
    OSError,
    ValueError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def is_environment(error: BaseException, connection: Connection) -> bool:
    """Whether server or network are to blame, and the same statements may succeed later (or elsewhere)."""
    if isinstance(error, asyncpg.PostgresError):
        return _advice(error) is not None or is_damage(error) or connection.is_closed()
    # A TimeoutError is an OSError; an InternalClientError means that the stream of answers makes no sense.
    return isinstance(error, OSError | asyncpg.InternalClientError) or connection.is_closed()


def is_conflict(error: BaseException) -> bool:
    """Whether it suffices to try again at once."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate[:2] == _CONFLICT


def is_damage(error: BaseException) -> bool:
    """Whether the database's content is broken."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in _DAMAGE


def reason(error: BaseException) -> str:
    """Return one clause: what is wrong, and what to do where that is known."""
    if isinstance(error, TimeoutError):
        return "no answer in time; see whether the server runs and can be reached"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "takes no writes; name the primary, or end its read-only mode"
    text = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, asyncpg.PostgresError):
        advice = _advice(error)
        return f"{text}: {advice}" if advice else text
    if isinstance(error, OSError):
        return f"{text}: see whether the server runs, and whether storage.url is right"
    return text


def _advice(error: asyncpg.PostgresError) -> str | None:
    code = error.sqlstate or ""
    return _TRANSIENT.get(code) or _TRANSIENT.get(code[:2])
