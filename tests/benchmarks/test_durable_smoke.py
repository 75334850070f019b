import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.load import durable
from benchmarks.load.durable import Row, main, summarized

pytestmark = pytest.mark.timeout(120)

SMALL = [
    "--runs",
    "1",
    "--sessions",
    "4",
    "--messages",
    "400",
    "--pairs",
    "4",
    "--seconds",
    "0.5",
    "--rate",
    "200",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def measured(folder: Path, *arguments: str) -> list[Row]:
    record = folder / "figures.json"
    assert main([*SMALL, "--folder", str(folder), "--json", str(record), *arguments]) == 0
    results = msgspec.json.decode(record.read_bytes())["results"]
    return msgspec.convert(results, list[Row])


def test_what_goes_into_offline_sessions_is_written_once_and_comes_out(folder: Path) -> None:
    into, out = measured(folder, "--part", "offline")
    assert into.figures["rows/message"] == pytest.approx(1, abs=0.5)
    assert min(into.figures["messages/s"], out.figures["messages/s"]) > 0
    assert min(into.figures["cores"], out.figures["cores"]) > 0


def test_pairs_are_measured_with_and_without_durability(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "SETUP_S", 1.5)
    monkeypatch.setattr(durable, "WARM_UP_S", 0.2)
    memory, fsync = measured(folder, "--part", "paced")
    assert "rows/message" not in memory.figures
    assert fsync.figures["rows/message"] >= 0
    for row in (memory, fsync):
        assert row.figures["messages/s"] == pytest.approx(200, rel=0.3)
        assert row.figures["latency p99 ms"] > 0
        assert row.figures["puback p99 ms"] > 0


def test_a_restart_is_timed_and_a_session_of_it_gets_its_messages(folder: Path) -> None:
    (row,) = measured(folder, "--part", "restart", "--stored-messages", "50", "--stored-sessions", "10")
    assert row.figures["ready s"] > 0
    assert row.figures["first session ms"] > 0


def test_runs_of_one_measurement_become_their_median() -> None:
    runs = [Row(what="w", setting="s", figures={"cores": value}) for value in (1.0, 9.0, 2.0)]
    other = Row(what="w", setting="t", figures={"cores": 5.0})
    assert summarized([*runs, other]) == [Row(what="w", setting="s", figures={"cores": 2.0}), other]
