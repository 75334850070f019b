"""A program that commits numbers for ever, and prints each after it was acknowledged.

Started as: storage_writer.py DATABASE PACKAGE FOLDER_OF_PACKAGE, with `.` and `tests` in PYTHONPATH.
"""

import asyncio
import os
import sqlite3
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from storage import Migrations, SqliteDatabase, StorageSettings
from storage_site import insert

_WAITING_MAXIMUM = 500


def _write(connection: sqlite3.Connection, values: Sequence[int]) -> None:
    insert(connection, values)


async def main() -> None:
    path, package, folder = sys.argv[1:]
    sys.path.append(folder)
    known = [Migrations(component="test", package=package)]
    database = await SqliteDatabase.open(Path(path), StorageSettings(), migrations=known)
    ((value,),) = await database.fetch("SELECT coalesce(max(value), 0) FROM number")
    writer = database.batch_writer(_write)
    slots = asyncio.Semaphore(_WAITING_MAXIMUM)

    def acknowledge(value: int, future: asyncio.Future[None]) -> None:
        future.result()
        os.write(1, b"%d\n" % value)
        slots.release()

    while True:
        await slots.acquire()
        value += 1
        writer.commit(value).add_done_callback(partial(acknowledge, value))
        if value % 7 == 0:
            await asyncio.sleep(0)


asyncio.run(main())
