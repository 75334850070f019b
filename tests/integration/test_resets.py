"""Peers that reset the connection while the server sends its last words: nothing of them stays."""

import socket
from pathlib import Path

import pytest

from running_server import running_server

#: CONNECT of 3.1.1 with client id "t"; a second one on the same connection ends it, behind the CONNACK.
CONNECT = bytes.fromhex("100d00044d5154540402003c000174")
TIMEOUT_S = 20.0


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_reset_behind_the_last_frame_leaves_nothing(tmp_path: Path, loop: str, kind: str) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(f'loop = "{loop}"\n')
    path = tmp_path / "s.sock"
    url = f"unix://{path}" if kind == "unix" else "tcp://127.0.0.1:0"
    with running_server(tmp_path, "--config", str(config), "--anonymous", "--listen", url) as server:
        address = str(path) if kind == "unix" else ("127.0.0.1", server.port("tcp"))
        for _ in range(300):
            with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as peer:
                peer.connect(address)
                # Closed with a CONNACK that nobody has read, which makes it a reset.
                peer.sendall(CONNECT + CONNECT)
        server.process.terminate()
        assert server.process.wait(TIMEOUT_S) == 0
    log = (tmp_path / "test.log").read_text()
    assert "Traceback" not in log, log
    assert "drain_incomplete" not in log, log
