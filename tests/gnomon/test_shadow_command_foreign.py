"""`gnomon shadow` beside mosquitto: with `gnomon services`, with nobody, and with somebody who lies."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bus_site import disconnect
from fleet import DevelopmentPKI
from gnomon.cli import main
from mosquitto import Mosquitto, running_mosquitto
from paho_peer import PahoPeer
from running_server import ROOT, start_gnomon

_ROOT = ("--root", "aws")


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    with running_mosquitto(tmp_path / "mosquitto") as broker:
        yield broker


@pytest.fixture
def url(mosquitto: Mosquitto) -> str:
    return f"mqtt://127.0.0.1:{mosquitto.port}"


@pytest.fixture
def services(url: str, tmp_path: Path) -> Iterator[None]:
    process = start_gnomon("services", "--broker", url, "--root", "aws", log=tmp_path / "log")
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["shadow", *arguments])
        assert isinstance(caught.value.code, int)
        return (caught.value.code, *capsys.readouterr())

    return run


Run = Callable[..., tuple[int, str, str]]


def set_until_served(run: Run, url: str) -> None:
    """The services need a moment to subscribe; until then the command says that nobody answers."""
    code, err = 3, ""
    for _ in range(20):
        code, _, err = run("set", "lamp", "a=1", "--url", url, *_ROOT, "--timeout", "0.5")
        if code != 3:
            break
    assert code == 0, err


@pytest.mark.usefixtures("services")
def test_the_topics_suffice_beside_another_broker(run: Run, url: str) -> None:
    set_until_served(run, url)
    watch = [sys.executable, "-m", "gnomon", "shadow", "watch", "lamp", "--url", url, *_ROOT]
    with subprocess.Popen(watch, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("watching lamp")
        code, out, _ = run("set", "lamp", "--reported", "a=1", "--url", url, *_ROOT, "--json")
        version = json.loads(out)["version"]
        assert process.stdout.readline().endswith(f"changed, version {version}\n")
        assert process.stdout.readline() == "  + reported.a = 1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    code, out, _ = run("get", "lamp", "--url", url, *_ROOT, "--json")
    assert (code, json.loads(out)["state"]) == (0, {"desired": {"a": 1}, "reported": {"a": 1}})
    assert run("delete", "lamp", "--url", url, *_ROOT)[0] == 0
    code, _, err = run("get", "lamp", "--url", url, *_ROOT)
    assert (code, err) == (1, "gnomon: No shadow exists with name: 'lamp' (404)\n")


def test_where_nobody_serves_shadows_it_says_what_to_check(run: Run, url: str) -> None:
    code, out, err = run("get", "lamp", "--url", url, *_ROOT, "--timeout", "0.3")
    assert (code, out) == (3, "")
    assert "nobody answered on aws/things/lamp/shadow/get/...; check that a shadow service runs there" in err


def test_mutual_tls_and_who_is_refused(run: Run, tmp_path: Path) -> None:
    pki = DevelopmentPKI(tmp_path / "pki")
    server, client = pki.ensure_server(), pki.ensure_operator("ada")
    lines = (
        f"cafile {server.authority}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        "require_certificate true",
        "allow_anonymous true",
    )
    with running_mosquitto(tmp_path / "mosquitto", *lines) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}?ca={client.authority}"
        with_certificate = f"{url}&cert={client.certificate}&key={client.key}"
        code, _, err = run("get", "lamp", "--url", with_certificate, "--timeout", "0.3")
        assert (code, "nobody answered" in err) == (3, True)
        code, _, err = run("get", "lamp", "--url", url, "--timeout", "5")
        assert code == 3
        assert "certificate" in err


def test_a_password_is_sent_and_a_broker_that_refuses_it_ends_it_with_1(run: Run, tmp_path: Path) -> None:
    with running_mosquitto(tmp_path / "mosquitto", "allow_anonymous false") as broker:
        password = tmp_path / "password"
        password.write_text("secret\n")
        url = f"mqtt://127.0.0.1:{broker.port}?user=ada&password_file={password}"
        code, _, err = run("get", "lamp", "--url", url)
        assert (code, "refuses the connection: Not authorized" in err) == (1, True)


class Liar:
    """Serves one `get` with whatever a test likes."""

    def __init__(self, port: int, payload: Callable[[str], bytes]) -> None:
        self._payload = payload
        self._peer = PahoPeer(port, "liar", "5")
        self._peer.connect()
        self._peer.subscribe("aws/things/+/shadow/get")
        self._peer._paho.on_message = self._answer

    def close(self) -> None:
        disconnect(self._peer)

    def _answer(self, client: Any, _data: object, message: Any) -> None:
        token = json.loads(message.payload)["clientToken"]
        client.publish("aws/things/lamp/shadow/get/accepted", b'{"clientToken": "another"}', qos=1)
        client.publish("aws/things/lamp/shadow/get/accepted", self._payload(token), qos=1)


def lie(state: str) -> Callable[[str], bytes]:
    return lambda token: f'{{"state": {state}, "version": 1, "clientToken": "{token}"}}'.encode()


@pytest.mark.parametrize(
    ("payload", "code", "told"),
    [
        (lie('{"desired": {"a": "\\u001b]0;x\\u0007"}, "reported": 7}'), 0, r"\u001b]0;x\u0007"),
        (lie("7"), 3, "is no shadow service"),
        (lie('{"desired": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}"), 3, "nobody answered"),
        (lambda _token: b"\xff", 3, "nobody answered"),
        (lambda _token: b"[" * 100_000, 3, "nobody answered"),
    ],
    ids=["escapes", "no state", "deep", "no text", "deep and broken"],
)
def test_a_lying_service_harms_nobody(
    run: Run, mosquitto: Mosquitto, url: str, payload: Callable[[str], bytes], code: int, told: str
) -> None:
    liar = Liar(mosquitto.port, payload)
    try:
        got, out, err = run("get", "lamp", "--url", url, *_ROOT, "--timeout", "1", "--metadata")
    finally:
        liar.close()
    assert got == code, err
    assert told in out + err
    assert (out + err).replace("\n", "").isprintable()
