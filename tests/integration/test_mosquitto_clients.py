"""mosquitto_pub and mosquitto_sub over mutual TLS: clients of another house, in another language."""

import queue
import shutil
import subprocess
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import pytest

from paho_peer import take
from server_site import Site

MQTT_VERSIONS = ("mqttv311", "mqttv5")
TIMEOUT_S = 15
#: How mosquitto_pub ends: with the code of the CONNACK,
CONNECT_REFUSED = {"mqttv311": 2, "mqttv5": 0x85}
#: and with "connection lost" where the server has no other word.
PUBLISH_REFUSED = {"mqttv311": 7, "mqttv5": 0}

both_versions = pytest.mark.parametrize("version", MQTT_VERSIONS)
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


def program(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"{name} is missing: install the package mosquitto-clients"
    return path


def as_device(site: Site, name: str, version: str) -> list[str]:
    files = site.pki.ensure_device(name)
    return [*_endpoint(site, version), "-i", name, "--cert", str(files.certificate), "--key", str(files.key)]


def as_operator(site: Site, version: str) -> list[str]:
    files = site.pki.ensure_operator("ada")
    return [*_endpoint(site, version), "--cert", str(files.certificate), "--key", str(files.key)]


def _endpoint(site: Site, version: str) -> list[str]:
    address = ["-h", "localhost", "-p", str(site.port), "-V", version]
    return [*address, "--cafile", str(site.pki.authority)]


def publish(arguments: Sequence[str], *more: str, code: int = 0) -> str:
    """Run mosquitto_pub to its end; what it wrote to standard error."""
    command = [program("mosquitto_pub"), *arguments, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


class Subscriber:
    """mosquitto_sub in the background; it has subscribed when `with` begins."""

    def __init__(self, arguments: Sequence[str], *more: str) -> None:
        line_by_line = [program("stdbuf"), "-oL"]
        form = ["-d", "-F", "MESSAGE %q %r %t %p"]
        self._process = subprocess.Popen(
            [*line_by_line, program("mosquitto_sub"), *arguments, *form, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._messages: queue.Queue[str] = queue.Queue()
        self._suback: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def receive(self) -> str:
        """Wait for the next message: QoS, RETAIN, topic, payload."""
        return take(self._messages, "a message for mosquitto_sub")

    def end(self) -> None:
        """Let it say DISCONNECT, as SIGINT makes it do."""
        self._process.terminate()
        self._process.wait(TIMEOUT_S)

    def kill(self) -> None:
        """Let it go without a word."""
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def __enter__(self) -> Self:
        take(self._suback, "the SUBACK of mosquitto_sub")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.end()
        self._reader.join(TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("MESSAGE "):
                self._messages.put(line.removeprefix("MESSAGE ").rstrip("\n"))
            elif line.startswith("Subscribed "):
                self._suback.put(line)


@pytest.mark.clause("v3.1.1", "MQTT-7.0.0-2")
@every_qos
@both_versions
def test_messages_go_both_ways(mtls_site: Site, name: str, version: str, qos: int) -> None:
    device, operator, level = as_device(mtls_site, name, version), as_operator(mtls_site, version), str(qos)
    with Subscriber(operator, "-t", f"dt/{name}/#", "-q", level) as listening:
        publish(device, "-t", f"dt/{name}/heat", "-m", "21.5", "-q", level)
        assert listening.receive() == f"{qos} 0 dt/{name}/heat 21.5"
    with Subscriber(device, "-t", f"cmd/{name}/#", "-q", level) as listening:
        publish(operator, "-t", f"cmd/{name}/off", "-m", "now", "-q", level)
        assert listening.receive() == f"{qos} 0 cmd/{name}/off now"


@every_qos
@both_versions
def test_many_lines_arrive_in_order(mtls_site: Site, name: str, version: str, qos: int) -> None:
    lines = [f"line {number}" for number in range(200)]
    device, level = as_device(mtls_site, name, version), str(qos)
    with Subscriber(as_operator(mtls_site, version), "-t", f"dt/{name}/#", "-q", level) as listening:
        done = subprocess.run(
            [program("mosquitto_pub"), *device, "-t", f"dt/{name}/x", "-q", level, "-l"],
            input="".join(f"{line}\n" for line in lines),
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0
        assert [listening.receive() for _ in lines] == [f"{qos} 0 dt/{name}/x {line}" for line in lines]


@both_versions
def test_a_retained_message_waits_for_subscribers(mtls_site: Site, name: str, version: str) -> None:
    device, operator = as_device(mtls_site, name, version), as_operator(mtls_site, version)
    publish(operator, "-t", f"cmd/{name}/mode", "-m", "eco", "-q", "1", "-r")
    with Subscriber(device, "-t", f"cmd/{name}/#", "-q", "1") as listening:
        assert listening.receive() == f"1 1 cmd/{name}/mode eco"
    publish(operator, "-t", f"cmd/{name}/mode", "-n", "-q", "1", "-r")
    with Subscriber(device, "-t", f"cmd/{name}/#", "-q", "1") as listening:
        publish(operator, "-t", f"cmd/{name}/end", "-m", "end", "-q", "1")
        assert listening.receive() == f"1 0 cmd/{name}/end end"


@both_versions
def test_the_will_of_a_killed_client_is_published(mtls_site: Site, name: str, version: str) -> None:
    will = ("--will-topic", f"dt/{name}/gone", "--will-payload", "lost", "--will-qos", "1")
    with Subscriber(as_operator(mtls_site, version), "-t", f"dt/{name}/#", "-q", "1") as listening:
        device = as_device(mtls_site, name, version)
        # stdbuf becomes the program that it starts, so the kill meets mosquitto_sub itself.
        with Subscriber(device, "-t", f"cmd/{name}/#", *will) as dying:
            dying.kill()
        assert listening.receive() == f"1 0 dt/{name}/gone lost"


@both_versions
def test_a_session_keeps_messages_while_its_client_is_away(mtls_site: Site, name: str, version: str) -> None:
    expiry = ("-x", "600") if version == "mqttv5" else ()
    device, operator = as_device(mtls_site, name, version), as_operator(mtls_site, version)
    lasting = (*device, "-c", *expiry, "-t", f"cmd/{name}/#", "-q", "2")
    with Subscriber(lasting):
        pass
    for qos in (1, 2):
        publish(operator, "-t", f"cmd/{name}/x", "-m", f"while away {qos}", "-q", str(qos))
    with Subscriber(lasting) as listening:
        got = {listening.receive(), listening.receive()}
    assert got == {f"1 0 cmd/{name}/x while away 1", f"2 0 cmd/{name}/x while away 2"}


@both_versions
def test_a_publish_that_is_refused_is_told(mtls_site: Site, name: str, version: str) -> None:
    """A v5 client reads the reason from its PUBACK; 3.1.1 has no word for it, and the connection ends."""
    told = publish(
        as_device(mtls_site, name, version),
        *("-t", f"dt/not-{name}/x", "-m", "1", "-q", "1"),
        code=PUBLISH_REFUSED[version],
    )
    assert ("Not authorized" if version == "mqttv5" else "connection was lost") in told


@both_versions
def test_a_client_id_of_somebody_else_is_refused(mtls_site: Site, name: str, version: str) -> None:
    files = mtls_site.pki.ensure_device(name)
    identity = ["-i", f"not-{name}", "--cert", str(files.certificate), "--key", str(files.key)]
    told = publish(
        [*_endpoint(mtls_site, version), *identity],
        "-t",
        f"dt/{name}/x",
        "-m",
        "1",
        code=CONNECT_REFUSED[version],
    )
    assert "identifier" in told.lower()
