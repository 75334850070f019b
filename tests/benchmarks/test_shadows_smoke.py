import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks import run
from benchmarks.load.shadows import Row

pytestmark = pytest.mark.timeout(120)

SMALL = ["--runs", "1", "--devices", "4", "--seconds", "0.5", "--memory-seconds", "1.5", "--shadows", "40"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def measured(folder: Path, *arguments: str) -> list[Row]:
    record = folder / "figures.json"
    options = [*SMALL, "--folder", str(folder), "--json", str(record), *arguments]
    assert run.main(["--shadows", *options]) == 0
    results = msgspec.json.decode(record.read_bytes())["results"]
    return msgspec.convert(results, list[Row])


def test_updates_are_measured_with_a_full_window_and_at_a_rate(folder: Path) -> None:
    full, paced = measured(folder, "--part", "updates", "--part", "paced", "--rate", "100")
    assert full.figures["update/s"] > paced.figures["update/s"] == pytest.approx(100, rel=0.2)
    for row in (full, paced):
        assert 0 < row.figures["p50 ms"] <= row.figures["p99 ms"]
        assert row.figures["CPU µs/update"] > 0
        assert row.figures["update/commit"] >= 1


def test_many_shadows_are_made_and_the_memory_is_watched(folder: Path) -> None:
    (row,) = measured(folder, "--part", "many")
    assert row.figures["shadows"] == 40
    assert row.figures["update/s"] > 0
    assert row.figures["most"] >= row.figures["at the end"] > 0


def test_a_get_is_measured_and_commits_nothing(folder: Path) -> None:
    (row,) = measured(folder, "--part", "get")
    assert row.figures["get/s"] > 0
    assert "get/commit" not in row.figures


def test_a_load_that_is_refused_gives_no_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*SMALL, "--folder", str(folder), "--part", "get", "--fields", "2000"]
    assert run.main(["--shadows", *options]) == 1
    assert "not every request was accepted" in capsys.readouterr().out
