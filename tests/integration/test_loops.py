"""The same program on both event loops."""

from pathlib import Path
from typing import Literal

import pytest

from paho_peer import VERSIONS, Received
from running_server import running_server
from server_site import Site


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_messages_flow_on_either_loop(tmp_path: Path, loop: str) -> None:
    config = tmp_path / "gnomon.toml"
    config.write_text(f'loop = "{loop}"\n')
    schemes: tuple[Literal["mtls"], Literal["tcp"]] = ("mtls", "tcp")
    listeners = [text for scheme in schemes for text in ("--listen", f"{scheme}://127.0.0.1:0")]
    with running_server(tmp_path / "data", "--config", str(config), "--anonymous", *listeners) as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert ("/uvloop/" in mapped) == (loop == "uvloop")
        for scheme in schemes:
            site = Site(server, scheme)
            for version in VERSIONS:
                with site.device("lamp", version) as device, site.operator(version) as operator:
                    operator.subscribe("dt/lamp/#", 2)
                    device.subscribe("cmd/lamp/#", 2)
                    for qos in (0, 1, 2):
                        device.publish("dt/lamp/x", b"up", qos=qos)
                        assert operator.receive() == Received("dt/lamp/x", b"up", qos, False)
                        operator.publish("cmd/lamp/x", bytes(200_000), qos=qos)
                        assert device.receive() == Received("cmd/lamp/x", bytes(200_000), qos, False)
