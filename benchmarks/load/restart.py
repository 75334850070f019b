"""How long a restart takes with much in the store.

    python benchmarks/load/restart.py [--messages 1000000] [--sessions 100000]

Fills a SQLite file through the store itself, then opens and loads it in a process of its own, and reads the
first pages. Prints one JSON object: seconds, peak memory and the size of the file.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

# Started as a program, this file has its own folder on the path, not the project's.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import structlog

from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.subscription import Subscription
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, DeliveryRow, SessionRow
from broker.storage.sqlite import MIGRATIONS, SqliteStore
from storage import SqliteDatabase, StorageSettings

_PAYLOAD_BYTES: Final = 200
_ROWS_PER_COMMIT: Final = 5_000
_PAGES: Final = 100


def main() -> None:
    """Fill, restart, print."""
    parser = argparse.ArgumentParser(description="Measure a restart of the broker's store.")
    parser.add_argument("--messages", type=int, default=1_000_000, help="pending messages (%(default)s)")
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions (%(default)s)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    with tempfile.TemporaryDirectory(prefix="gnomon-restart-") as folder:
        path = Path(folder) / "gnomon.db"
        began = time.perf_counter()
        asyncio.run(fill(path, options.messages, options.sessions))
        filled_s = time.perf_counter() - began
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # Memory is measured in a fresh process.
            figures = pool.apply(_restart, (path,))
        figures["file_mib"] = round(path.stat().st_size / 1024**2)
        print(json.dumps({**vars(options), "fill_s": round(filled_s, 2), **figures}, indent=2))


async def fill(path: Path, messages: int, sessions: int, *, identity: str | None = "CN=device") -> None:
    """Make a database with so many sessions of one owner and pending messages, spread evenly."""
    database = await SqliteDatabase.open(path, StorageSettings(durability="os"), migrations=[MIGRATIONS])
    store = SqliteStore(database)
    for changes in _changes(messages, sessions, identity):
        await store.commit(changes)
    await database.close()


def _changes(messages: int, sessions: int, identity: str | None) -> Iterator[Changes]:
    for start in range(1, sessions + 1, _ROWS_PER_COMMIT):
        changes = Changes(at=time.time())
        for number in range(start, min(start + _ROWS_PER_COMMIT, sessions + 1)):
            name = f"device-{number:07}"
            topic_filter = TopicFilter(f"cmd/{name}/#".encode())
            changes.sessions[number] = SessionRow(
                number, "default", ClientId(name), 86_400, time.time(), identity
            )
            changes.subscriptions[number, topic_filter] = Subscription(topic_filter, 1)
        yield changes
    for start in range(1, messages + 1, _ROWS_PER_COMMIT):
        changes = Changes(at=time.time())
        for row in range(start, min(start + _ROWS_PER_COMMIT, messages + 1)):
            session = row % sessions + 1
            topic = TopicName(f"cmd/device-{session:07}/set".encode())
            message = ApplicationMessage(topic, os.urandom(_PAYLOAD_BYTES), 1)
            changes.put[row] = DeliveryRow(row, session, message, 1, False, ())
        yield changes


def _restart(path: Path) -> dict[str, Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    return asyncio.run(_measure(path))


async def _measure(path: Path) -> dict[str, Any]:
    idle_bytes = _peak_bytes()
    began = time.perf_counter()
    database = await SqliteDatabase.open(path, StorageSettings(), migrations=[MIGRATIONS])
    opened = time.perf_counter()
    store = SqliteStore(database)
    snapshot = await store.load()
    loaded = time.perf_counter()
    read = 0
    for number in list(snapshot.sessions)[:_PAGES]:
        page = await store.read_pending(number, after=0, messages=1_000, size_bytes=1_000_000)
        read += len(page.deliveries)
    paged = time.perf_counter()
    await database.close()
    return {
        "open_s": round(opened - began, 2),
        "load_s": round(loaded - opened, 2),
        "loaded_sessions": len(snapshot.sessions),
        "loaded_pending": sum(stored.pending_messages for stored in snapshot.sessions.values()),
        "page_ms": round((paged - loaded) / _PAGES * 1000, 2),
        "page_messages": read / _PAGES,
        "peak_mib_above_start": round((_peak_bytes() - idle_bytes) / 1024**2),
    }


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
