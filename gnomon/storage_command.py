"""The commands that copy a data folder's database, and put a copy back.

Knows: how a copy's progress is shown.
Does not know: how a database is copied (storage), what is in it.
Spec: none.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .data_folder import DataFolder
from .errors import EnvironmentFailureError, GnomonError

if TYPE_CHECKING:
    from storage import Progress

_file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("gnomon-data"),
    show_default=True,
    help="Data folder.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@_file_argument
@_data_option
@click.option("--force", is_flag=True, help="Overwrite FILE if it stands.")
@_json_option
def backup(file: Path, data: Path, *, force: bool, as_json: bool) -> None:
    """Copy the database of a data folder into FILE, as it is at this moment; a server may be running.

    The copy is checked before it gets its name. It holds what sessions and shadows hold, so only you
    may read it. A PostgreSQL database is copied by its own pg_dump.

    \b
    Examples:
      gnomon backup /backups/monday.db --data ./data
      gnomon backup /backups/latest.db --data ./data --force
    """  # noqa: D301  (\b keeps click from joining the lines)
    from storage import backup as copy

    from .storage import DATABASE_FILE, MIGRATIONS

    source = data / DATABASE_FILE
    if not source.exists():
        raise EnvironmentFailureError(
            f"{source}: no such database; name the server's data folder, or use pg_dump with PostgreSQL"
        )
    if file.exists() and not force:
        raise GnomonError(f"{file}: exists already; choose another name, or say --force")
    with _told(is_quiet=as_json) as progress:
        size = copy(source, file, migrations=MIGRATIONS, progress=progress, overwrite=force)
    shown = {"file": str(file), "size_bytes": size}
    click.echo(json.dumps(shown, indent=2) if as_json else f"{file}: {size:,} bytes, checked")


@click.command()
@_file_argument
@_data_option
@_json_option
def restore(file: Path, data: Path, *, as_json: bool) -> None:
    """Put the copy FILE in the place of a data folder's database. No server may be running there.

    The copy is checked first. The old database stays as gnomon.db.before-restore.

    \b
    Example:
      gnomon restore /backups/monday.db --data ./data
    """  # noqa: D301
    from storage import restore as put_back

    from .storage import DATABASE_FILE, MIGRATIONS

    target = data / DATABASE_FILE
    if not file.exists():
        raise EnvironmentFailureError(f"{file}: no such file; name a copy that `gnomon backup` made")
    with DataFolder(data).locked(), _told(is_quiet=as_json) as progress:
        aside = put_back(file, target, migrations=MIGRATIONS, progress=progress)
    if as_json:
        shown = {"database": str(target), "before": None if aside is None else str(aside)}
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(f"{target}: restored from {file}")
    if aside is not None:
        click.echo(f"{aside}: the database from before; delete it when it is no longer needed")


@contextmanager
def _told(*, is_quiet: bool) -> Iterator["Progress | None"]:
    """Show a bar where somebody looks, and tell what goes wrong in one sentence.

    Raises:
        EnvironmentFailureError: the copy failed.
    """
    from storage import StorageError

    try:
        if is_quiet or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("copy")
            yield lambda done, total: bar.update(task, completed=done, total=total)
    except StorageError as error:
        raise EnvironmentFailureError(str(error)) from error
