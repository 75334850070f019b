"""A PostgreSQL server of one's own in a temporary folder, which can be stopped, killed and started again.

Knows: PostgreSQL's programs, configuration and process tree.
Does not know: what it is used for.
"""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_TIMEOUT_S = 30.0
#: The role that servers under test use: it owns its database and is no superuser.
ROLE = "gnomon"
#: What it must tell over TCP.
PASSWORD = "for-tests-only"
_SUPERUSER = "postgres"

_SETTINGS = {
    # The machine does not crash in a test. What was written before an acknowledgement survives the death of
    # every process in the system's cache, so a SIGKILL still tells synchronous_commit on from off.
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "ssl": "on",
    "timezone": "UTC",
}
#: Over the socket, in a folder of our own, anybody; over TCP only with TLS and a password.
_HBA = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"


class PostgresqlServer:
    """One cluster; what was committed survives `stop`, `kill` and `start`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._programs = _programs()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "postgresql.log"
        self._numbers = count(1)
        # Run by root, PostgreSQL refuses to start.
        self._user: int | None = None
        self._group: int | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user, self._group = nobody.pw_uid, nobody.pw_gid
            os.chown(folder, self._user, self._group)
        data = folder / "data"
        self._run("initdb", "-D", str(data), "-U", _SUPERUSER, "--auth=trust", "--encoding=UTF8",
                  "--no-locale", "--no-sync", "--no-instructions")  # fmt: skip
        self._make_certificate(data)
        (data / "pg_hba.conf").write_text(_HBA)
        settings = _SETTINGS | {"port": str(self.port), "unix_socket_directories": str(folder)}
        with (data / "postgresql.conf").open("a") as config:
            config.writelines(f"{key} = '{value}'\n" for key, value in settings.items())

    @property
    def certificate(self) -> Path:
        """What the server proves itself with over TCP, to 127.0.0.1 and localhost; its own authority."""
        return self.folder / "data" / "server.crt"

    def url(self, database: str, role: str = ROLE) -> str:
        """Name a database over the socket."""
        return f"postgresql://{role}@/{database}?host={self.folder}&port={self.port}"

    def new_database(self) -> str:
        """Create an empty one that `ROLE` owns, and return its name."""
        name = f"test_{next(self._numbers)}"
        self.query(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE template0")
        return name

    def drop_database(self, name: str) -> None:
        """Free its disk space, whoever is still connected."""
        self.query(f"DROP DATABASE {name} WITH (FORCE)")

    def query(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as superuser; its rows as lines with `|` between the columns."""
        place = ("-h", str(self.folder), "-p", str(self.port), "-U", _SUPERUSER, "-d", database)
        return self._run(
            "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *place, "-c", statement
        ).strip()

    def start(self) -> None:
        """Return when it takes connections."""
        program = self._programs / "postgres"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-D", self.folder / "data"],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
                group=self._group,
            )
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            if self._is_ready():
                break
            time.sleep(0.01)  # Another process opens the socket; there is nothing to wait on.
        else:
            raise AssertionError(self._log.read_text())

    def stop(self) -> None:
        """End it in order: connections are cut, everything is written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the postmaster and everything that it started at once, as a loss of power would."""
        assert self._process is not None
        pid = self._process.pid
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        handles = [os.pidfd_open(child) for child in children]
        self._process.kill()
        self._process.wait(_TIMEOUT_S)
        self._process = None
        for handle in handles:
            with suppress(ProcessLookupError):  # It noticed the end of its postmaster.
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            # They hold shared memory, which a new postmaster must have for itself.
            assert select.select([handle], [], [], _TIMEOUT_S)[0], "a process of PostgreSQL does not end"
            os.close(handle)

    def _is_ready(self) -> bool:
        """Whether this process, not the one before it, says so in its file."""
        assert self._process is not None
        try:
            lines = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def _make_certificate(self, data: Path) -> None:
        key = data / "server.key"
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
        self._execute(("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                       "-nodes", "-subj", "/CN=postgresql", "-addext", names, "-days", "2",
                       "-keyout", str(key), "-out", str(self.certificate)))  # fmt: skip

    def _run(self, program: str, *arguments: str) -> str:
        return self._execute((str(self._programs / program), *arguments))

    def _execute(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            cwd=self.folder,
            user=self._user,
            group=self._group,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout


def _programs() -> Path:
    """Find PostgreSQL's programs; Debian keeps those of a server out of the PATH, a folder per version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    program = found[-1] if found else shutil.which("initdb")
    assert program is not None, "PostgreSQL is not installed: tools/setup.sh --programs"
    return Path(program).resolve().parent


@contextmanager
def running_postgresql() -> Iterator[PostgresqlServer]:
    """Run a server until the end of the block."""
    # Not in pytest's folder: that is closed to other users, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="postgresql-", ignore_cleanup_errors=True) as folder:
        server = PostgresqlServer(Path(folder))
        server.start()
        try:
            server.query(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop()
