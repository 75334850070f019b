"""Numbered migrations: the files of each component, and which of them a database still needs.

Knows: the names of the files, their order, that an applied file never changes.
Does not know: any database, what the tables mean.
Spec: none.
"""

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal

from .errors import DatabaseNewerError, MigrationError

Dialect = Literal["postgresql", "sqlite"]

_FILE_NAME: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file; `sha256` in hexadecimal is over its bytes."""

    component: str
    number: int
    name: str
    sha256: str
    sql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrations:
    """The files of one component: `PACKAGE/migrations/DIALECT/0001_name.sql`, from 1 on without gaps."""

    component: str
    package: str

    def load(self, dialect: Dialect) -> tuple[Migration, ...]:
        """Read the files, in order.

        Raises:
            MigrationError: none is there, a name is wrong or a number is missing: the installation is broken.
        """
        folder = files(self.package) / "migrations" / dialect
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        names = [name for name in names if name.endswith(".sql")]
        loaded = []
        for expected, name in enumerate(names, 1):
            match = _FILE_NAME.fullmatch(name)
            if match is None or int(match[1]) != expected:
                raise MigrationError(
                    f"{self.package}: migration {name} is not number {expected}; install again"
                )
            content = (folder / name).read_bytes()
            loaded.append(
                Migration(
                    component=self.component,
                    number=expected,
                    name=match[2],
                    sha256=hashlib.sha256(content).hexdigest(),
                    sql=content.decode(),
                )
            )
        if not loaded:
            raise MigrationError(f"{self.package}: its {dialect} migrations are missing; install again")
        return tuple(loaded)


def pending(
    applied: Mapping[tuple[str, int], str],
    known: Sequence[Migrations],
    dialect: Dialect,
    *,
    place: str,
) -> list[Migration]:
    """Return what must still be applied, in order.

    Args:
        applied: sha256 by (component, number), as the database remembers them.
        known: the components of this release.
        dialect: which files to read.
        place: the file or server, for errors.

    Raises:
        DatabaseNewerError: the database knows a component or a number that this release does not.
        MigrationError: an applied file was different, or one in between was never applied.
    """
    available = {(each.component, each.number): each for group in known for each in group.load(dialect)}
    for component, number in sorted(applied):
        if (component, number) not in available:
            raise DatabaseNewerError(
                f"{place}: made by a newer gnomon ({component} {number} is unknown to this one); "
                "use that version, or restore a backup of this one with `gnomon restore FILE`"
            )
    missing = []
    for key, migration in available.items():
        if key not in applied:
            missing.append(migration)
        elif applied[key] != migration.sha256 or any(each.component == key[0] for each in missing):
            raise MigrationError(
                f"{place}: {key[0]} {key[1]} was applied in another form than this gnomon has; "
                "use the version that made the database, or restore a backup of this one"
            )
    return missing


def statements(sql: str) -> Iterator[str]:
    """Split a script into statements, each of which ends at the end of a line.

    Raises:
        MigrationError: the last statement has no end.
    """
    lines: list[str] = []
    for line in sql.splitlines():
        lines.append(line)
        text = "\n".join(lines)
        if sqlite3.complete_statement(text):
            yield text
            lines.clear()
    if any(_is_code(line) for line in lines):
        raise MigrationError("a migration ends inside a statement; install again")


def _is_code(line: str) -> bool:
    return bool(line.strip()) and not line.strip().startswith("--")
