"""What is in the database after the process, or the machine, died at any instant."""

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Migrations
from storage_site import insert, migrations, opened

_TESTS = Path(__file__).parents[1]
_WAL_HEADER = 32
_FRAME = 24 + 4096
_COMMITS = 6
_ROWS = 700


class Crashed(NamedTuple):
    """Files as a crash leaves them, and the size of the WAL after each commit."""

    folder: Path
    known: Migrations
    sizes: list[int]

    def restart(self, wal: bytes) -> list[int]:
        """Return what is stored after a start with such a WAL."""
        with tempfile.TemporaryDirectory(dir=self.folder) as case:
            path = Path(case, "test.db")
            shutil.copyfile(self.folder / "dead.db", path)
            Path(f"{path}-wal").write_bytes(wal)
            return asyncio.run(_numbers(path, self.known))

    def expected(self, intact_bytes: int) -> list[int]:
        """Every transaction whose frames are whole, and nothing of those after them."""
        return list(range(sum(size <= intact_bytes for size in self.sizes) * _ROWS))

    @property
    def wal(self) -> bytes:
        """The WAL as it was."""
        return (self.folder / "dead.db-wal").read_bytes()


async def _numbers(path: Path, known: Migrations) -> list[int]:
    async with opened(path, known=[known]) as database:
        return [value for (value,) in await database.fetch("SELECT value FROM number ORDER BY value")]


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Crashed:
    folder = tmp_path_factory.mktemp("crashed")
    crashed = Crashed(folder, migrations(folder), [])

    async def run() -> None:
        async with opened(folder / "live.db", known=[crashed.known]) as database:
            for commit in range(_COMMITS):
                values = range(commit * _ROWS, (commit + 1) * _ROWS)
                await database.commit(partial(insert, values=values))
                crashed.sizes.append((folder / "live.db-wal").stat().st_size)
            for suffix in ("", "-wal"):
                shutil.copyfile(f"{folder}/live.db{suffix}", f"{folder}/dead.db{suffix}")

    asyncio.run(run())
    assert len(set(crashed.sizes)) == _COMMITS
    return crashed


def test_the_whole_wal_gives_everything(crashed: Crashed) -> None:
    assert crashed.restart(crashed.wal) == list(range(_COMMITS * _ROWS))


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(1, id="last byte"),
        pytest.param(4096, id="page of the last frame"),
        pytest.param(4096 + 12, id="header of the last frame"),
        pytest.param(_FRAME, id="last frame"),
        pytest.param(_FRAME + 2048, id="frame before the last"),
    ],
)
def test_a_wal_that_is_cut_in_its_last_transaction_loses_that_one_only(crashed: Crashed, cut: int) -> None:
    wal = crashed.wal[:-cut]
    assert crashed.restart(wal) == list(range((_COMMITS - 1) * _ROWS))


@settings(max_examples=25)
@given(data=st.data())
def test_a_wal_that_ends_anywhere_gives_every_transaction_before_the_end(
    crashed: Crashed, data: st.DataObject
) -> None:
    wal = crashed.wal
    frames = (len(wal) - _WAL_HEADER) // _FRAME
    boundaries = st.integers(0, frames).map(lambda frame: _WAL_HEADER + frame * _FRAME)
    end = data.draw(st.integers(0, len(wal)) | boundaries)
    assert crashed.restart(wal[:end]) == crashed.expected(end)


@settings(max_examples=25)
@given(data=st.data())
def test_a_scribbled_frame_ends_the_wal_before_its_transaction(crashed: Crashed, data: st.DataObject) -> None:
    wal = bytearray(crashed.wal)
    start = data.draw(st.integers(_WAL_HEADER, len(wal) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=8192))
    end = min(len(wal), start + len(noise))
    changed = next((at for at in range(start, end) if wal[at] != noise[at - start]), len(wal))
    wal[start:end] = noise[: end - start]
    frame_start = _WAL_HEADER + (changed - _WAL_HEADER) // _FRAME * _FRAME
    assert crashed.restart(bytes(wal)) == crashed.expected(frame_start)


def test_garbage_after_the_last_frame_is_no_transaction(crashed: Crashed) -> None:
    assert crashed.restart(crashed.wal + os.urandom(3 * _FRAME)) == list(range(_COMMITS * _ROWS))


def test_a_wal_without_its_shared_memory_is_enough(crashed: Crashed) -> None:
    assert crashed.restart(crashed.wal)[-1] == _COMMITS * _ROWS - 1


def test_a_process_killed_in_the_middle_of_commits_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    known = migrations(tmp_path)
    acknowledged = 0
    for _ in range(4):
        acknowledged = max(acknowledged, _kill_a_writer(path, known, after=random.randint(1, 3000)))
        numbers = asyncio.run(_numbers(path, known))
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= acknowledged


def _kill_a_writer(path: Path, known: Migrations, *, after: int) -> int:
    """Run a writer until it has acknowledged so many numbers, kill it, and return the last of them."""
    lines = 0
    last = b"0"
    with subprocess.Popen(
        [sys.executable, _TESTS / "storage_writer.py", path, known.package, path.parent],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{_TESTS.parent}:{_TESTS}"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip().isdigit():
                last, lines = line, lines + 1
            if lines == after:
                process.kill()
        assert process.wait() == -9
    return int(last)
