"""mqtt.js, the client of browsers and of Node.js, in both versions over TCP, mutual TLS, ws and wss."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import DevelopmentPKI
from mqttjs_peer import MqttJs, MqttJsError, MqttJsMessage, MqttJsPeer, mqttjs
from running_server import RunningServer, running_server
from server_site import unique

KINDS = ("tcp", "mtls", "ws", "wss")
#: mqtt.js's names of the schemes.
SCHEMES = {"tcp": "mqtt", "mtls": "mqtts", "ws": "ws", "wss": "wss"}
LEVELS = {"3.1.1": 4, "5": 5}
NOT_AUTHORIZED = 0x87
SESSION_TAKEN_OVER = 0x8E

every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    data = tmp_path_factory.mktemp("mqttjs")
    listen = [argument for kind in KINDS for argument in ("--listen", f"{kind}://127.0.0.1:0?name={kind}")]
    with running_server(data, "--anonymous", *listen) as running:
        yield running
    log = (data / "test.log").read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def process() -> Iterator[MqttJs]:
    with mqttjs() as running:
        yield running


class Site:
    """Where clients of one kind and version come from; whoever is still there is let go at the end."""

    def __init__(self, server: RunningServer, process: MqttJs, kind: str, version: str) -> None:
        self.version = version
        self._process = process
        self._pki = DevelopmentPKI(server.data / "pki")
        listeners = server.ready["listeners"]
        address = next(item["url"] for item in listeners if item["name"] == kind).partition("://")[2]
        port = address.partition("/")[0].rpartition(":")[2]
        self._kind = kind
        self._url = f"{SCHEMES[kind]}://localhost:{port}" + ("/mqtt" if kind in ("ws", "wss") else "")

    def device(self, name: str, **options: Any) -> MqttJsPeer:
        """A client that is not connected yet; `kept` makes its Session outlive the connection."""
        return self._peer(name, self._pki.ensure_device(name) if self._kind == "mtls" else None, options)

    def operator(self, **options: Any) -> MqttJsPeer:
        """A client that is not connected yet."""
        files = self._pki.ensure_operator("ada") if self._kind == "mtls" else None
        return self._peer(unique("ada"), files, options)

    def _peer(self, client_id: str, files: Any, options: dict[str, Any]) -> MqttJsPeer:
        options["protocolVersion"] = LEVELS[self.version]
        if options.pop("kept", False):
            options["clean"] = False
            if self.version == "5":
                options["properties"] = {"sessionExpiryInterval": 600}
        if self._kind in ("mtls", "wss"):
            options["ca"] = self._pki.authority.read_bytes()
        if files is not None:
            options["cert"], options["key"] = files.certificate.read_bytes(), files.key.read_bytes()
        return MqttJsPeer(self._process, client_id, self._url, options)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LEVELS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(server: RunningServer, process: MqttJs, kind: str, version: str) -> Site:
    return Site(server, process, kind, version)


def connected(peer: MqttJsPeer) -> MqttJsPeer:
    peer.connect()
    return peer


@every_qos
def test_messages_reach_the_operator_and_the_device_in_order(site: Site, name: str, qos: int) -> None:
    device, operator = connected(site.device(name)), connected(site.operator())
    assert operator.subscribe(f"dt/{name}/#", qos) == qos
    assert device.subscribe(f"cmd/{name}/+", qos) == qos
    payloads = [b"", b"\x00\xff", b"x" * 126, b"y" * 70_000]
    for payload in payloads:
        device.publish(f"dt/{name}/heat", payload, qos)
        operator.publish(f"cmd/{name}/off", payload, qos)
    for payload in payloads:
        assert operator.receive()[:4] == (f"dt/{name}/heat", payload, qos, False)
        assert device.receive()[:4] == (f"cmd/{name}/off", payload, qos, False)
    device.end()
    operator.end()


def test_a_retained_message_waits_for_subscribers_until_it_is_removed(site: Site, name: str) -> None:
    topic = f"cmd/{name}/mode"
    device, operator = connected(site.device(name)), connected(site.operator())
    operator.publish(topic, b"eco", 1, retain=True)
    device.subscribe(topic, 1)
    assert device.receive()[:4] == (topic, b"eco", 1, True)
    operator.publish(topic, b"", 1, retain=True)
    assert device.receive()[:4] == (topic, b"", 1, False)
    device.unsubscribe(topic)
    device.subscribe(topic, 1)
    operator.publish(topic, b"end", 1)
    assert device.receive()[:4] == (topic, b"end", 1, False)
    device.end()
    operator.end()


def test_the_will_of_a_killed_client_is_published_and_disconnect_takes_it_along(
    site: Site, name: str
) -> None:
    will = {"topic": f"dt/{name}/gone", "payload": b"lost", "qos": 1, "retain": False}
    operator = connected(site.operator())
    operator.subscribe(f"dt/{name}/#", 1)
    connected(site.device(name, will=will)).end()
    connected(site.device(name, will={**will, "payload": b"killed"})).kill()
    assert operator.receive()[:4] == (f"dt/{name}/gone", b"killed", 1, False)
    operator.end()


@pytest.mark.parametrize("is_killed", [False, True], ids=["ended", "killed"])
def test_a_session_keeps_messages_while_its_client_is_away(site: Site, name: str, is_killed: bool) -> None:
    operator = connected(site.operator())
    device = site.device(name, kept=True)
    assert not device.connect()["sessionPresent"]
    device.subscribe(f"cmd/{name}/#", 2)
    device.kill() if is_killed else device.end()
    for number in range(10):
        operator.publish(f"cmd/{name}/x", b"%d" % number, 1 + number // 5)
    again = site.device(name, kept=True)
    assert again.connect()["sessionPresent"]
    got = [again.receive() for _ in range(10)]
    assert [(one.payload, one.qos) for one in got] == [(b"%d" % n, 1 + n // 5) for n in range(10)]
    operator.publish(f"cmd/{name}/x", b"live", 1)
    assert again.receive().payload == b"live"
    again.end()
    operator.end()


@pytest.mark.parametrize("version", ["5"], indirect=True)
def test_v5_properties_travel_unchanged(site: Site, name: str) -> None:
    properties = {
        "payloadFormatIndicator": True,
        "contentType": "application/json; größe=7",
        "responseTopic": f"cmd/{name}/answer",
        "correlationData": bytes(range(256)),
        "userProperties": {"a": ["1", "2"], "ü": "3"},
    }
    device, operator = connected(site.device(name)), connected(site.operator())
    operator.subscribe(f"dt/{name}/x", 1, properties={"subscriptionIdentifier": 268_435_455})
    device.publish(f"dt/{name}/x", b"{}", 1, properties=properties)
    message = operator.receive()
    assert message.properties == {**properties, "subscriptionIdentifier": 268_435_455}
    device.end()
    operator.end()


@pytest.mark.parametrize("version", ["5"], indirect=True)
def test_v5_subscription_options_hold(site: Site, name: str) -> None:
    topic = f"dt/{name}/x"
    client, other = connected(site.operator()), connected(site.device(name))
    other.publish(topic, b"kept", 1)
    client.subscribe(topic, 1, nl=True, rap=True, rh=2)
    other.publish(topic, b"retained", 1, retain=True)
    message = client.receive()
    assert (message.payload, message.is_retained) == (b"retained", True)
    other.publish(topic, b"", 1, retain=True)
    client.end()
    other.end()


@pytest.mark.parametrize("version", ["5"], indirect=True)
def test_v5_reason_codes_are_told(site: Site, name: str) -> None:
    device = connected(site.device(name))
    for qos in (1, 2):
        with pytest.raises(MqttJsError) as refusal:
            device.publish("$SYS/broker/uptime", b"1", qos)
        assert refusal.value.code == NOT_AUTHORIZED
    with pytest.raises(MqttJsError, match="Not authorized"):
        device.subscribe("$gnomon/#")
    other = connected(site.device(name))
    assert device.disconnected() == SESSION_TAKEN_OVER
    other.end()


@pytest.mark.parametrize("version", ["5"], indirect=True)
def test_v5_topic_aliases_work_both_ways(site: Site, name: str) -> None:
    aliases = {
        "properties": {"topicAliasMaximum": 5},
        "autoUseTopicAlias": True,
        "autoAssignTopicAlias": True,
    }
    device, operator = connected(site.device(name, **aliases)), connected(site.operator(**aliases))
    operator.subscribe(f"dt/{name}/#", 1)
    for number in range(20):
        device.publish(f"dt/{name}/{number % 7}", b"%d" % number, number % 3)
    got: list[MqttJsMessage] = [operator.receive() for _ in range(20)]
    assert [(one.topic, one.payload) for one in got] == [(f"dt/{name}/{n % 7}", b"%d" % n) for n in range(20)]
    device.end()
    operator.end()


@pytest.mark.parametrize("kind", ["mtls"], indirect=True)
def test_a_client_id_of_somebody_else_is_refused(site: Site, name: str) -> None:
    files_of_another = site.device(name, clientId=f"not-{name}")
    with pytest.raises(MqttJsError, match="dentifier"):
        files_of_another.connect()


def test_the_npm_lock_names_no_place_to_download_from() -> None:
    lock = json.loads((Path(__file__).parent / "mqttjs" / "package-lock.json").read_text())
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages
    assert not [package for package in packages if "resolved" in package or "integrity" not in package]
