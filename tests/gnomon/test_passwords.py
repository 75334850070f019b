"""The password file as it is changed, and the threads that check passwords."""

import asyncio
import io
import json
import os
import stat
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher

from broker.access import AccessRefusedError, is_password, parse_password_file
from broker.protocol.reason_codes import ReasonCode
from gnomon import passwords
from gnomon.cli import main
from gnomon.errors import ConfigurationError, GnomonError
from gnomon.passwords import PasswordWorkers, delete_user, set_password
from gnomon.setting_files import load_passwords

HASH = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("secret")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["password", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    content = io.BytesIO()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=content))
    return content


def fill(piped: io.BytesIO, content: bytes) -> None:
    piped.seek(0)
    piped.truncate()
    piped.write(content)
    piped.seek(0)


def test_users_are_set_changed_and_deleted(
    tmp_path: Path, piped: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "users"
    for user, content in (("alice", b"one\n"), ("bob", b"two"), ("alice", b" three \r\n")):
        fill(piped, content)
        assert run("set", user, "--file", str(file), "--stdin") == 0
    hashes = parse_password_file(file.read_text(), source="f")
    assert is_password(hashes["alice"], b" three ")
    assert is_password(hashes["bob"], b"two")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    capsys.readouterr()
    assert run("delete", "alice", "--file", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"user": "alice", "file": str(file), "result": "deleted"}
    assert load_passwords(file) == {"bob": hashes["bob"]}
    assert run("delete", "alice", "--file", str(file)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["users"]


@pytest.mark.parametrize(
    ("user", "content"),
    [("alice", b""), ("alice", b"\nx"), ("alice", b"x" * 65_536), ("a:b", b"x"), ("", b"x"), ("#a", b"x")],
)
def test_what_cannot_be_a_user_or_a_password_ends_with_2_and_changes_nothing(
    tmp_path: Path, piped: io.BytesIO, user: str, content: bytes
) -> None:
    fill(piped, content)
    assert run("set", user, "--file", str(tmp_path / "users"), "--stdin") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_ends_with_3(
    tmp_path: Path, piped: io.BytesIO, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(piped, b"x\n")
    assert run("set", "alice", "--file", str(tmp_path / "absent" / "users"), "--stdin") == 3
    assert "cannot be changed: No such file" in capsys.readouterr().err


def test_a_file_that_is_no_password_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("something else\n")
    with pytest.raises(ConfigurationError, match="line 1: must be user:hash"):
        set_password(file, "alice", b"x")
    with pytest.raises(ConfigurationError, match="line 1: must be user:hash"):
        delete_user(file, "alice")
    assert file.read_text() == "something else\n"


def test_a_change_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "users"
    set_password(file, "alice", b"x")
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GnomonError, match="No space left"):
        set_password(file, "bob", b"y")
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


def test_a_link_stays_a_link_and_comments_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "users", tmp_path / "users"
    real.write_text("# ours\n")
    link.symlink_to(real)
    set_password(link, "alice", b"x")
    assert link.is_symlink()
    assert real.read_text().startswith("# ours\nalice:$argon2id$v=19$m=19456,t=2,p=1$")


def test_changes_at_one_time_do_not_lose_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_MEMORY_KIB", 8)
    file = tmp_path / "users"
    threads = [
        threading.Thread(target=set_password, args=(file, f"user-{number}", b"x")) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load_passwords(file) or {}) == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"alice", "line 1: must be user:hash"),
        (b"\xff:x", "not UTF-8"),
        (None, "cannot be read: No such file or directory; name a file that `gnomon password set` wrote"),
    ],
)
def test_config_check_looks_into_the_password_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    config, users = tmp_path / "gnomon.toml", tmp_path / "users"
    config.write_text(f'[broker]\npassword_file = "{users}"\n')
    if content is not None:
        users.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        main(["config", "check", "--config", str(config)])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


async def test_passwords_are_checked_on_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set[str]()

    def check(password_hash: str, password: bytes) -> bool:
        names.add(threading.current_thread().name.rpartition("_")[0])
        return is_password(password_hash, password)

    monkeypatch.setattr(passwords, "is_password", check)
    workers = PasswordWorkers(workers=2, waiting_maximum=10)
    try:
        assert await workers.verify(HASH, b"secret")
        assert not await workers.verify(HASH, b"wrong")
    finally:
        workers.close()
    assert names == {"gnomon-password"}


async def test_too_many_checks_are_refused_and_none_is_counted_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_free = threading.Event()
    monkeypatch.setattr(passwords, "is_password", lambda *_: is_free.wait(10))
    workers = PasswordWorkers(workers=1, waiting_maximum=2)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(workers.verify(HASH, b"1"), name="running")
            given_up = group.create_task(workers.verify(HASH, b"2"), name="given up")
            await asyncio.sleep(0)
            with pytest.raises(AccessRefusedError) as caught:
                await workers.verify(HASH, b"3")
            assert caught.value.reason_code is ReasonCode.SERVER_BUSY
            given_up.cancel()
            await asyncio.wait([given_up])
            waiting = group.create_task(workers.verify(HASH, b"4"), name="waiting")
            is_free.set()
        assert running.result()
        assert waiting.result()
    finally:
        is_free.set()
        workers.close()
