"""Word to the service manager."""

import socket
from pathlib import Path

import pytest

from gnomon.service_manager import notify


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_service_manager_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_abstract: bool
) -> None:
    path = f"@gnomon-test-{tmp_path.name}" if is_abstract else str(tmp_path / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path.replace("@", "\0") if is_abstract else path)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")
        notify("STOPPING=1")
        assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STOPPING=1"]


@pytest.mark.parametrize("path", ["", "/nowhere/at/all", "vsock:2:1", "@nobody-listens", "/" + "long" * 100])
def test_a_service_manager_that_is_not_there_is_no_failure(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("READY=1")
