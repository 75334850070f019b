"""Simulated devices and operators against a real server, over mutual TLS."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleet import CertificateFiles, DevelopmentPKI
from running_server import RunningServer, running_server
from simulators import Endpoint, SimulatedClient, SimulatedDevice, SimulatedOperator, Version

VERSIONS: list[Version] = ["3.1.1", "5"]
TIMEOUT_S = 15.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server"), "--listen", "mtls://127.0.0.1:0") as running:
        yield running


@pytest.fixture
def pki(server: RunningServer) -> DevelopmentPKI:
    return DevelopmentPKI(server.data / "pki")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def endpoint(server: RunningServer, files: CertificateFiles, *, host: str = "localhost") -> Endpoint:
    return Endpoint(
        host=host, port=server.port(), authority=files.authority, certificate=files.certificate, key=files.key
    )


def until(holds: Callable[[], bool]) -> None:
    """Wait for what threads of a foreign library bring about."""
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def start_operator(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> SimulatedOperator:
    operator = SimulatedOperator(
        f"ada-{version}", endpoint(server, pki.ensure_operator("ada")), version=version
    )
    stack.callback(operator.stop)
    operator.start()
    assert operator.wait_ready(TIMEOUT_S), operator.failure
    return operator


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_follows_an_edit_and_reports(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> None:
    name = f"follows-{version.replace('.', '-')}"
    operator = start_operator(server, pki, stack, version)
    device = SimulatedDevice(
        name,
        endpoint(server, pki.ensure_device(name)),
        reported={"power": False, "level": 1},
        version=version,
    )
    stack.callback(device.stop)
    device.start()
    assert device.wait_ready(TIMEOUT_S), device.failure
    until(lambda: operator.view(name).reported == {"power": False, "level": 1})
    operator.edit(name, {"power": True, "times": [1, 2]})
    until(lambda: operator.has_converged(name))
    view = operator.view(name)
    assert view.reported == {"power": True, "level": 1, "times": [1, 2]}
    assert view.round_trip_s is not None
    assert view.round_trip_s > 0
    assert device.state().reported == view.reported


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_finds_edits_that_were_made_while_it_was_away(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> None:
    name = f"away-{version.replace('.', '-')}"
    operator = start_operator(server, pki, stack, version)
    where = endpoint(server, pki.ensure_device(name), host="127.0.0.1")
    first = SimulatedDevice(name, where, reported={"level": 1}, version=version)
    stack.callback(first.stop)
    first.start()
    until(lambda: operator.view(name).reported == {"level": 1})
    first.stop()
    operator.edit(name, {"level": 2})
    operator.edit(name, {"level": 3})
    until(lambda: operator.view(name).desired == {"level": 3})
    assert not operator.has_converged(name)
    again = SimulatedDevice(name, where, reported=first.state().reported, version=version)
    stack.callback(again.stop)
    again.start()
    until(lambda: operator.has_converged(name))
    until(lambda: again.state().reported == {"level": 3})


def test_a_slow_device_takes_what_comes_meanwhile_in_one_step(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack
) -> None:
    operator = start_operator(server, pki, stack, "5")
    device = SimulatedDevice(
        "slow", endpoint(server, pki.ensure_device("slow")), reported={"a": 0}, reaction_s=0.3
    )
    stack.callback(device.stop)
    device.start()
    until(lambda: operator.view("slow").reported == {"a": 0})
    for level in (1, 2, 3):
        operator.edit("slow", {"a": level})
    until(lambda: operator.has_converged("slow"))
    assert device.state().reported == {"a": 3}
    assert device.state().deltas_applied == 1


def test_a_change_by_hand_is_reported_and_brings_the_delta_back(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack
) -> None:
    operator = start_operator(server, pki, stack, "5")
    device = SimulatedDevice("hand", endpoint(server, pki.ensure_device("hand")), reported={"a": 0})
    stack.callback(device.stop)
    device.start()
    until(lambda: operator.view("hand").version == 1)
    operator.edit("hand", {"a": 1})
    until(lambda: operator.has_converged("hand"))
    device.change({"a": 7, "b": 1})
    until(lambda: operator.view("hand").reported == {"a": 1, "b": 1})


def test_a_stale_delta_is_left_alone(server: RunningServer, pki: DevelopmentPKI) -> None:
    device = SimulatedDevice("stale", endpoint(server, pki.ensure_device("stale")), reported={"a": 0})
    topic = "$aws/things/stale/shadow/update/delta"
    for version, wanted in ((5, 5), (5, 6), (4, 4)):
        device._receive(topic, b'{"version": %d, "state": {"a": %d}}' % (version, wanted))
    state = device.state()
    assert (state.reported, state.version, state.deltas_applied, state.deltas_stale) == ({"a": 5}, 5, 1, 2)


def start_client(
    where: Endpoint,
    client_id: str,
    *topic_filters: str,
    stack: ExitStack,
    version: Version,
    attempts: int = 1,
) -> SimulatedClient:
    client = SimulatedClient(
        client_id,
        where,
        topic_filters=topic_filters,
        on_ready=lambda: None,
        on_message=lambda topic, payload: None,
        version=version,
        failures_maximum=attempts,
    )
    stack.callback(client.stop)
    client.start()
    return client


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_gives_up_when_nobody_listens(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> None:
    files = pki.ensure_device("alone")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    where = Endpoint(
        host="127.0.0.1", port=port, authority=files.authority, certificate=files.certificate, key=files.key
    )
    client = start_client(where, "alone", "a", stack=stack, version=version)
    assert not client.wait_ready(TIMEOUT_S)
    assert client.failure == f"no connection to 127.0.0.1:{port} (attempts: 1)"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_under_another_name_is_refused(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> None:
    where = endpoint(server, pki.ensure_device("somebody"))
    client = start_client(where, "somebody-else", "cmd/somebody/#", stack=stack, version=version, attempts=2)
    assert not client.wait_ready(TIMEOUT_S)
    assert client.failure == "the server refused: Client identifier not valid (attempts: 2)"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_to_another_things_shadow_is_refused(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, version: Version
) -> None:
    where = endpoint(server, pki.ensure_device("nosy"))
    wanted = "$aws/things/other/shadow/get/accepted"
    client = start_client(where, "nosy", "cmd/nosy/#", wanted, stack=stack, version=version)
    assert not client.wait_ready(TIMEOUT_S)
    assert client.failure == f"the server refused the subscription to {wanted}"


def test_a_certificate_of_another_authority_is_refused(
    server: RunningServer, pki: DevelopmentPKI, stack: ExitStack, tmp_path: Path
) -> None:
    ours, theirs = pki.ensure_device("fake"), DevelopmentPKI(tmp_path / "pki").ensure_device("fake")
    where = Endpoint(
        host="localhost",
        port=server.port(),
        authority=ours.authority,
        certificate=theirs.certificate,
        key=theirs.key,
    )
    client = start_client(where, "fake", "cmd/fake/#", stack=stack, version="5")
    assert not client.wait_ready(TIMEOUT_S)
    assert client.failure is not None
