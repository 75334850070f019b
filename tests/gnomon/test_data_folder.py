"""The data folder: one owner, and a ready.json that is true."""

import json
import os
from pathlib import Path

import pytest

from gnomon.data_folder import LOCK_FILE, READY_FILE, DataFolder
from gnomon.errors import EnvironmentFailureError


def test_a_second_owner_is_refused_and_told_the_pid(tmp_path: Path) -> None:
    told = f"in use by the server with pid {os.getpid()};"
    with (
        DataFolder(tmp_path).locked(),
        pytest.raises(EnvironmentFailureError, match=told) as caught,
        DataFolder(tmp_path).locked(),
    ):
        pass
    assert caught.value.exit_code == 3


def test_the_folder_is_free_again_after_its_owner(tmp_path: Path) -> None:
    for _ in range(2):
        with DataFolder(tmp_path / "new").locked():
            assert (tmp_path / "new" / LOCK_FILE).read_text() == f"{os.getpid()}\n"
    assert (tmp_path / "new" / LOCK_FILE).read_text() == ""


def test_a_refused_owner_leaves_the_other_ones_ready_file(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with folder.locked():
        folder.write_ready({"pid": 1})
        with pytest.raises(EnvironmentFailureError), DataFolder(tmp_path).locked():
            pass
        assert json.loads((tmp_path / READY_FILE).read_text()) == {"pid": 1}


def test_ready_is_taken_back_at_the_end_and_stale_ones_at_the_start(tmp_path: Path) -> None:
    (tmp_path / READY_FILE).write_text("{}")
    folder = DataFolder(tmp_path)
    with folder.locked():
        assert not (tmp_path / READY_FILE).exists()
        folder.write_ready({"pid": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK_FILE]


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(EnvironmentFailureError, match="Not a directory; choose a data folder"),
        DataFolder(tmp_path / "file" / "data").locked(),
    ):
        pass
