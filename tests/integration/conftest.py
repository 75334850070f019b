"""Servers as processes, one with mutual TLS and one for anybody; all tests share them."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from running_server import RunningServer, running_server
from server_site import Site, unique


def without_tracebacks(server: RunningServer) -> None:
    log = (server.data / "test.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def mtls_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("mtls")
    config = folder / "gnomon.toml"
    config.write_text("[shadow]\nrequests_per_second_maximum = 0\n")  # Tests ask faster than a thing may.
    arguments = ("--config", str(config), "--listen", "mtls://127.0.0.1:0")
    with running_server(folder, *arguments) as server:
        yield Site(server, "mtls")
    without_tracebacks(server)


@pytest.fixture(scope="session")
def tcp_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    arguments = ("--listen", "tcp://127.0.0.1:0", "--anonymous")
    with running_server(tmp_path_factory.mktemp("tcp"), *arguments) as server:
        yield Site(server, "tcp")
    without_tracebacks(server)


@pytest.fixture
def name() -> str:
    return unique("thing")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened
