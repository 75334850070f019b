import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.load.generator import Endpoint, Generator
from benchmarks.load.peers import HOST, PEERS, Certificates, RunningPeer, make_certificates
from benchmarks.load.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with tempfile.TemporaryDirectory() as folder:
        yield make_certificates(Path(folder))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[RunningPeer]:
    with (
        tempfile.TemporaryDirectory() as folder,
        PEERS["gnomon"].running(Path(folder) / "data", certificates) as running,
    ):
        yield running


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(name="fanin-qos0", kind="fanin", clients=3, messages=3000),
        Scenario(name="fanin-qos1", kind="fanin", clients=3, messages=1500, qos=1),
        Scenario(name="fanin-qos2", kind="fanin", clients=3, messages=900, qos=2),
        Scenario(name="fanout-qos1", kind="fanout", clients=5, messages=300, qos=1),
        Scenario(name="pairs-qos1", kind="pairs", clients=4, messages=1200, qos=1),
        Scenario(name="paced-qos0", kind="paced", clients=100, messages=50, rate=2.0),
    ],
    ids=lambda scenario: scenario.name,
)
def test_every_message_is_delivered_once_and_in_order(server: RunningPeer, scenario: Scenario) -> None:
    endpoint = Endpoint(host=HOST, port=server.port)
    delivery, spent = Generator().measure(scenario, endpoint, server.pid)
    assert delivery.is_exact
    assert delivery.delivered == delivery.expected == scenario.deliveries(scenario.per_publisher)
    assert spent.cpu_s > 0
    assert delivery.seconds > 0
    assert delivery.p50_us is not None
    assert delivery.p99_us is not None
    assert 0 < delivery.p50_us <= delivery.p99_us


def test_connections_over_mutual_tls_are_counted(server: RunningPeer, certificates: Certificates) -> None:
    assert server.tls_port is not None
    scenario = Scenario(name="conns-mtls", kind="conns", clients=10, is_mutual_tls=True)
    endpoint = Endpoint(host=HOST, port=server.tls_port, tls=certificates.client)
    delivery, spent = Generator().measure(scenario, endpoint, server.pid)
    assert delivery.delivered == delivery.expected == 10
    assert spent.cpu_s > 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scaled_scenario_stays_one_that_can_be_run(name: str) -> None:
    scaled = SCENARIOS[name].scaled(0.0001)
    assert scaled.clients >= 1
    assert scaled.counts_connections or scaled.per_publisher >= 1
    assert SCENARIOS[name].scaled(1.0) == SCENARIOS[name]
