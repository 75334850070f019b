"""Listening sockets."""

import os
import socket
import stat
from pathlib import Path

import pytest

from broker.transport.sockets import bind_path, bind_port, close_all, path_identity, remove_path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s.sock")


def test_a_unix_socket_is_for_its_owner_and_group(path: str) -> None:
    with bind_path(path):
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660


def test_a_socket_that_nobody_listens_on_is_replaced(path: str) -> None:
    with bind_path(path) as first:
        first.listen()
    with bind_path(path) as second:
        second.listen()
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)


def test_a_socket_that_somebody_listens_on_stays(path: str) -> None:
    with bind_path(path) as first:
        first.listen()
        with pytest.raises(OSError, match=r"s\.sock: somebody listens there"):
            bind_path(path)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)


def test_a_file_that_is_no_socket_stays(path: str) -> None:
    Path(path).write_text("hello")
    with pytest.raises(OSError, match="is not a socket"):
        bind_path(path)
    assert Path(path).read_text() == "hello"


def test_a_folder_that_does_not_exist_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent/s\.sock"):
        bind_path(str(tmp_path / "absent" / "s.sock"))


def test_only_one_s_own_socket_is_removed(path: str) -> None:
    with bind_path(path):
        mine = path_identity(path)
        os.rename(path, f"{path}.mine")
        with bind_path(path):
            remove_path(path, mine)
            assert Path(path).exists()
            remove_path(path, path_identity(path))
            assert not Path(path).exists()
            remove_path(path, mine)


async def test_a_host_of_several_addresses_has_one_port() -> None:
    sockets = await bind_port("localhost", 0)
    try:
        addresses = {each.getsockname()[0] for each in sockets}
        assert "127.0.0.1" in addresses
        assert len({each.getsockname()[1] for each in sockets}) == 1
    finally:
        close_all(sockets)


async def test_a_port_in_use_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        await bind_port("127.0.0.1", other.getsockname()[1])
