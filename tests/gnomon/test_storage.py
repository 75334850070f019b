"""A server on its database: what survives, what a failing disk does, what a wrong file is told."""

import json
import signal
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet import DevelopmentPKI
from gnomon.errors import EnvironmentFailureError
from gnomon.storage import DATABASE_FILE, MIGRATIONS, open_stores
from paho_peer import PahoPeer, client_context
from running_server import RunningServer, running_server, start_gnomon
from shadow import MemoryShadowStore, PostgresqlShadowStore, SqliteShadowStore
from storage import SqliteDatabase, StorageSettings

_LISTEN = ("--listen", "mtls://127.0.0.1:0", "--http", "http://127.0.0.1:0")
_TOPIC = "$aws/things/lamp/shadow"


@contextmanager
def lamp(server: RunningServer) -> Iterator[PahoPeer]:
    """The device, subscribed to what its shadow answers."""
    files = DevelopmentPKI(server.data / "pki").ensure_device("lamp")
    peer = PahoPeer(server.port(), "lamp", "5", context=client_context(files))
    peer.connect()
    try:
        for operation in ("get", "update"):
            peer.subscribe(f"{_TOPIC}/{operation}/accepted")
            peer.subscribe(f"{_TOPIC}/{operation}/rejected")
        yield peer
    finally:
        peer.disconnect()


def answer(peer: PahoPeer) -> dict[str, Any]:
    received = peer.receive()
    assert received.topic.endswith("/accepted"), received
    body: dict[str, Any] = json.loads(received.payload)
    return body


def update(peer: PahoPeer, number: int) -> None:
    peer.publish(f"{_TOPIC}/update", json.dumps({"state": {"reported": {"n": number}}}).encode(), qos=1)


def ready(server: RunningServer) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(f"{server.ready['http']}/ready", timeout=10) as reply:  # noqa: S310  (our own)
            return reply.status, json.load(reply)["reasons"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["reasons"]


def run_to_end(*arguments: str, log: Path) -> tuple[int, str]:
    process = start_gnomon(*arguments, log=log)
    try:
        return process.wait(20), log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_accepted_shadow_survives_the_end_of_the_server(tmp_path: Path, number: signal.Signals) -> None:
    with running_server(tmp_path, *_LISTEN) as server, lamp(server) as peer:
        update(peer, 7)
        assert answer(peer)["version"] == 1
        server.process.send_signal(number)
        server.process.wait(20)
    with running_server(tmp_path, *_LISTEN) as server, lamp(server) as peer:
        peer.publish(f"{_TOPIC}/get", b"", qos=1)
        body = answer(peer)
        assert (body["version"], body["state"]) == (1, {"reported": {"n": 7}})


def test_the_end_leaves_one_file_without_a_log(tmp_path: Path) -> None:
    with running_server(tmp_path, *_LISTEN) as server, lamp(server) as peer:
        update(peer, 1)
        answer(peer)
        assert (tmp_path / f"{DATABASE_FILE}-wal").exists()
    assert [path.name for path in tmp_path.glob(f"{DATABASE_FILE}*")] == [DATABASE_FILE]


def test_while_nothing_can_be_stored_nothing_is_accepted_and_the_server_is_not_ready(tmp_path: Path) -> None:
    with running_server(tmp_path, *_LISTEN) as server, lamp(server) as peer:
        assert ready(server) == (200, [])
        with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
            intruder.execute("BEGIN IMMEDIATE")
            update(peer, 1)
            log = tmp_path / "test.log"
            _wait_for(log, "storage.failing")
            status, (reason,) = ready(server)
            assert status == 503
            assert reason.startswith("storage failing: database is locked: another program")
            assert peer.raw.empty()
            intruder.execute("ROLLBACK")
        assert answer(peer)["version"] == 1
        _wait_for(log, "storage.recovered")
        assert ready(server) == (200, [])


def _wait_for(log: Path, event: str) -> None:
    """Follow the log until it has an event; `tail` ends when the test does."""
    with subprocess.Popen(["tail", "-n", "+1", "-f", log], stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        try:
            assert any(event in line for line in tail.stdout)
        finally:
            tail.kill()


def test_a_damaged_database_ends_the_start_with_3_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_bytes(b"no database " * 1000)
    listen = ("--listen", "tcp://127.0.0.1:0", "--anonymous")
    code, text = run_to_end("serve", "--data", str(tmp_path), *listen, log=tmp_path / "log")
    assert code == 3
    assert "the database is damaged" in text
    assert "gnomon restore FILE" in text
    assert "Traceback" not in text
    assert not (tmp_path / "ready.json").exists()


def test_damage_that_is_found_later_ends_the_server_with_3(tmp_path: Path) -> None:
    with running_server(tmp_path, *_LISTEN) as server, lamp(server) as peer:
        with closing(sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)) as intruder:
            intruder.execute("PRAGMA writable_schema = ON")
            intruder.execute("UPDATE sqlite_schema SET rootpage = 9999 WHERE name = 'shadow'")
            intruder.execute("PRAGMA schema_version = 999")  # So that the server reads the schema anew.
        update(peer, 1)
        assert server.process.wait(20) == 3
        last_words = (tmp_path / "test.log").read_text().splitlines()[-1]
    assert last_words.startswith(f"gnomon: {tmp_path / DATABASE_FILE}: the database is damaged")


async def test_the_settings_choose_the_adapter(tmp_path: Path, postgresql_url: str) -> None:
    chosen = {
        StorageSettings(durability="memory"): MemoryShadowStore,
        StorageSettings(): SqliteShadowStore,
        StorageSettings(url=postgresql_url): PostgresqlShadowStore,
    }
    for settings, kind in chosen.items():
        async with open_stores(settings, tmp_path) as stores:
            assert isinstance(stores.shadows("default"), kind)
            assert stores.health.failing_since is None


async def test_without_a_database_no_file_is_made_and_nothing_is_watched(tmp_path: Path) -> None:
    async with open_stores(StorageSettings(durability="memory"), tmp_path) as stores:
        await stores.watch()
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  (nothing else runs)


async def test_a_server_that_does_not_answer_is_an_error_of_the_environment(tmp_path: Path) -> None:
    settings = StorageSettings(url=f"postgresql://gnomon@/gnomon?host={tmp_path}")
    with pytest.raises(EnvironmentFailureError):
        async with open_stores(settings, tmp_path):
            pass


# ------------------------------------------------------------------------------------ backup and restore


async def _make_database(path: Path, thing: str) -> None:
    database = await SqliteDatabase.open(path, StorageSettings(), migrations=MIGRATIONS)
    await database.commit(lambda connection: connection.execute("CREATE TABLE mark AS SELECT ?", [thing]))
    await database.close()


def _mark(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        (mark,) = connection.execute("SELECT * FROM mark").fetchone()
    return str(mark)


async def test_a_backup_and_its_restore_say_what_they_did(tmp_path: Path) -> None:
    database, copy, log = tmp_path / DATABASE_FILE, tmp_path / "copy.db", tmp_path / "log"
    await _make_database(database, "first")
    data = ("--data", str(tmp_path))
    code, text = run_to_end("backup", str(copy), *data, "--json", log=log)
    assert (code, json.loads(text)) == (0, {"file": str(copy), "size_bytes": copy.stat().st_size})
    code, text = run_to_end("backup", str(copy), *data, log=log)
    assert (code, "exists already" in text) == (1, True)
    database.unlink()
    await _make_database(database, "second")
    code, text = run_to_end("restore", str(copy), *data, log=log)
    assert code == 0
    assert (_mark(database), _mark(tmp_path / "gnomon.db.before-restore")) == ("first", "second")
    assert "gnomon.db.before-restore" in text
    code, text = run_to_end("backup", str(copy), *data, "--force", log=log)
    assert (code, "checked" in text) == (0, True)


def test_a_running_server_is_copied_but_not_replaced(tmp_path: Path) -> None:
    copy, log = tmp_path / "copy.db", tmp_path / "log"
    data = tmp_path / "data"
    with running_server(data, *_LISTEN) as server, lamp(server) as peer:
        update(peer, 5)
        answer(peer)
        assert run_to_end("backup", str(copy), "--data", str(data), log=log)[0] == 0
        update(peer, 6)
        answer(peer)
        code, text = run_to_end("restore", str(copy), "--data", str(data), log=log)
        assert code == 3
        assert f"in use by the server with pid {server.process.pid}" in text
    assert run_to_end("restore", str(copy), "--data", str(data), "--json", log=log)[0] == 0
    assert json.loads(log.read_text())["before"] == str(data / "gnomon.db.before-restore")
    with running_server(data, *_LISTEN) as server, lamp(server) as peer:
        peer.publish(f"{_TOPIC}/get", b"", qos=1)
        assert answer(peer)["state"] == {"reported": {"n": 5}}


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_a_file_that_is_missing_is_told(tmp_path: Path, command: str) -> None:
    arguments = (command, str(tmp_path / "absent.db"), "--data", str(tmp_path))
    code, text = run_to_end(*arguments, log=tmp_path / "log")
    assert code == 3
    assert "no such" in text
    assert "Traceback" not in text


def test_a_damaged_copy_is_not_restored(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"no database " * 1000)
    code, text = run_to_end("restore", str(copy), "--data", str(tmp_path), log=tmp_path / "log")
    assert code == 3
    assert f"{copy}: the database is damaged" in text
