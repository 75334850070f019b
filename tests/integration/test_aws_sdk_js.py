"""AWS's SDKs for JavaScript, unmodified, over mutual TLS: the second in both versions, and the first."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_process import NodeError, NodeProcess, node_process
from sdk_site import operate, session_of
from server_site import Site

FOLDER = Path(__file__).parent / "aws-sdk-js"
KINDS = ("v2-3.1.1", "v2-5")

_numbers = itertools.count(1)

every_kind = pytest.mark.parametrize("kind", KINDS)
every_shadow = pytest.mark.parametrize("shadow_name", [None, "config"], ids=["classic", "named"])


@pytest.fixture(scope="module")
def process() -> Iterator[NodeProcess]:
    with node_process(FOLDER) as running:
        yield running


class Device:
    """One device, connected."""

    def __init__(self, site: Site, process: NodeProcess, kind: str, name: str, **options: Any) -> None:
        self.name = name
        self._process = process
        self._client = f"client-{next(_numbers)}"
        files = site.pki.ensure_device(name)
        self.was_session_present: bool = self.ask(
            "connect",
            kind=kind,
            name=name,
            port=site.port,
            files={
                "certificate": str(files.certificate),
                "key": str(files.key),
                "authority": str(files.authority),
            },
            **{"host": "localhost", "kept": False, **options},
        )

    def ask(self, what: str, **arguments: Any) -> Any:
        return self._process.ask(self._client, what, **arguments)

    def send(self, what: str, **arguments: Any) -> int:
        return self._process.send(self._client, what, **arguments)

    def settle(self, number: int) -> Any:
        return self._process.settle(number)

    def next(self, event: str) -> Any:
        return self._process.next_event(self._client, event)

    def has(self, event: str) -> bool:
        return self._process.has_event(self._client, event)

    def disconnect(self) -> None:
        self.ask("disconnect")


class Shadow:
    """One shadow of a device, as the second SDK names things."""

    def __init__(self, device: Device, thing_name: str, shadow_name: str | None = None) -> None:
        self.device = device
        self._names = {"thingName": thing_name}
        self._kind = "Shadow"
        if shadow_name is not None:
            self._names["shadowName"] = shadow_name
            self._kind = "NamedShadow"

    def send(self, operation: str, **fields: Any) -> int:
        """Start a request of IotShadowClientv2."""
        request = {**self._names, **fields}
        return self.device.send("request", method=f"{operation}{self._kind}", request=request)

    def ask(self, operation: str, **fields: Any) -> Any:
        """Wait for the answer to a request of IotShadowClientv2."""
        return self.device.settle(self.send(operation, **fields))

    def refusal(self, operation: str, **fields: Any) -> tuple[int, str]:
        with pytest.raises(NodeError) as refused:
            self.ask(operation, **fields)
        assert refused.value.details["clientToken"]
        return refused.value.details["code"], refused.value.details["message"]

    def listen(self, event: str) -> None:
        """Open the stream `DeltaUpdated` or `Updated` of IotShadowClientv2."""
        method = f"create{self._kind}{event}Stream"
        state = self.device.ask("listen", method=method, request=self._names, event=event)
        assert state == 0  # established

    def subscribe(self, method: str, event: str) -> None:
        """Subscribe with the older IotShadowClient; `{}` in the method is the kind of shadow."""
        self.device.ask(
            "subscribe",
            method=f"subscribeTo{method.format(self._kind)}",
            request=self._names,
            event=event,
        )

    def publish(self, operation: str, **fields: Any) -> None:
        """Publish a request with the older IotShadowClient."""
        request = {**self._names, **fields}
        self.device.ask("publish", method=f"publish{operation}{self._kind}", request=request)


@pytest.fixture
def device(mtls_site: Site, process: NodeProcess, kind: str, name: str) -> Iterator[Device]:
    connected = Device(mtls_site, process, kind, name)
    yield connected
    connected.disconnect()


@pytest.mark.parametrize(
    ("kind", "keep_alive_s", "expiry_interval_s"),
    [("v2-3.1.1", 1200, None), ("v2-5", 1200, 0), ("v1", 300, 0)],
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_defaults_of_the_sdk_connect(
    mtls_site: Site,
    process: NodeProcess,
    name: str,
    kind: str,
    host: str,
    keep_alive_s: int,
    expiry_interval_s: int | None,
) -> None:
    device = Device(mtls_site, process, kind, name, host=host)
    session = session_of(mtls_site, name)
    device.disconnect()
    assert (session["thing_name"], session["keep_alive_s"]) == (name, keep_alive_s)
    assert session["expiry_interval_s"] == expiry_interval_s  # None: the Session is kept.


@every_kind
@every_shadow
def test_a_shadow_lives_from_404_to_404(device: Device, name: str, shadow_name: str | None) -> None:
    shadow = Shadow(device, name, shadow_name)
    assert shadow.refusal("get") == (404, f"No shadow exists with name: '{shadow_name or name}'")
    asked = shadow.ask("update", state={"desired": {"led": "on", "level": 3}})
    assert (asked["version"], asked["state"]) == (1, {"desired": {"led": "on", "level": 3}})
    assert asked["clientToken"]
    shadow.ask("update", state={"reported": {"led": "on"}}, version=1)
    assert shadow.refusal("update", state={"reported": {}}, version=1) == (409, "Version conflict")
    whole = shadow.ask("get")
    assert (whole["version"], whole["state"]) == (
        2,
        {"desired": {"led": "on", "level": 3}, "reported": {"led": "on"}, "delta": {"level": 3}},
    )
    assert whole["metadata"]["desired"] == asked["metadata"]["desired"]
    assert shadow.ask("delete")["version"] == 2
    assert shadow.refusal("delete")[0] == 404
    assert shadow.ask("update", state={"reported": {"led": "off"}})["version"] > 2


@every_kind
@every_shadow
def test_streams_tell_of_each_difference_and_of_each_change(
    device: Device, name: str, shadow_name: str | None
) -> None:
    shadow = Shadow(device, name, shadow_name)
    shadow.listen("DeltaUpdated")
    shadow.listen("Updated")
    shadow.ask("update", state={"desired": {"led": "on"}})
    shadow.ask("update", state={"reported": {"led": "on"}})
    shadow.ask("update", state={"desired": {"led": "off"}})
    deltas = [device.next("DeltaUpdated") for _ in range(2)]
    assert [(delta["version"], delta["state"]) for delta in deltas] == [
        (1, {"led": "on"}),
        (3, {"led": "off"}),
    ]
    changes = [device.next("Updated") for _ in range(3)]
    assert [change["current"]["version"] for change in changes] == [1, 2, 3]
    assert changes[0].get("previous") is None
    assert changes[2]["previous"]["state"] == {"desired": {"led": "on"}, "reported": {"led": "on"}}
    assert not device.has("DeltaUpdated")


@every_kind
def test_each_of_several_requests_in_flight_gets_its_own_answer(device: Device, name: str) -> None:
    shadow = Shadow(device, name)
    # At 3.1.1 the SDK may never send what it is asked while it still subscribes, so let it subscribe first.
    shadow.ask("update", state={"reported": {}})
    sent = {number: shadow.send("update", state={"reported": {f"n{number}": number}}) for number in range(10)}
    answers = {number: device.settle(command) for number, command in sent.items()}
    for number, answer in answers.items():
        assert answer["state"] == {"reported": {f"n{number}": number}}
    assert sorted(answer["version"] for answer in answers.values()) == list(range(2, 12))


@every_kind
def test_a_refused_update_is_a_modeled_error(device: Device, name: str) -> None:
    shadow = Shadow(device, name)
    nulls = {"desired": {"a": [1, None]}}
    assert shadow.refusal("update", state=nulls) == (400, "Invalid JSON")
    deep = {"desired": json.loads('{"a":' * 9 + "1" + "}" * 9)}
    assert shadow.refusal("update", state=deep)[0] == 400
    large = {"reported": {"a": "x" * 8192}}
    assert shadow.refusal("update", state=large) == (413, "The payload exceeds the maximum size allowed")
    assert shadow.refusal("get")[0] == 404


@every_kind
@every_shadow
def test_the_older_client_hears_events_of_its_own_requests(
    device: Device, name: str, shadow_name: str | None
) -> None:
    shadow = Shadow(device, name, shadow_name)
    # In which order they came the SDK does not tell: at 3.1.1 each subscription has a queue of its own.
    shadow.subscribe("{}DeltaUpdatedEvents", "delta")
    shadow.subscribe("Update{}Accepted", "accepted")
    shadow.subscribe("Update{}Rejected", "rejected")
    shadow.publish("Update", state={"desired": {"led": "on"}}, clientToken="t1")
    delta, accepted = device.next("delta"), device.next("accepted")
    assert (delta["state"], delta["version"], delta["clientToken"]) == ({"led": "on"}, 1, "t1")
    assert (accepted["state"], accepted["version"], accepted["clientToken"]) == (
        {"desired": {"led": "on"}},
        1,
        "t1",
    )
    shadow.publish("Update", state={"desired": {"led": "off"}}, clientToken="t2", version=9)
    refusal = device.next("rejected")
    assert (refusal["code"], refusal["clientToken"]) == (409, "t2")


@every_kind
def test_deltas_wait_for_a_device_that_is_away(
    mtls_site: Site, process: NodeProcess, kind: str, name: str
) -> None:
    before = Device(mtls_site, process, kind, name, kept=True, host="127.0.0.1")
    assert not before.was_session_present
    Shadow(before, name).subscribe("{}DeltaUpdatedEvents", "delta")
    before.disconnect()
    operate(mtls_site, name, {"desired": {"led": "on"}})
    after = Device(mtls_site, process, kind, name, kept=True, host="127.0.0.1")
    assert after.was_session_present
    assert after.next("message") == f"$aws/things/{name}/shadow/update/delta"
    after.disconnect()


@pytest.mark.parametrize("kind", ["v1"])
def test_the_first_sdk_follows_a_shadow_from_404_to_404(mtls_site: Site, device: Device, name: str) -> None:
    def ask(method: str, request: Any = None) -> Any:
        token = device.ask("request", method=method, request=request)
        answer = device.next("status")
        assert answer.pop("token") == token is not None
        return answer

    absent = ask("get")
    assert (absent["status"], absent["code"]) == ("rejected", 404)
    answer = ask("update", {"state": {"desired": {"led": "on"}}})
    assert (answer["status"], answer["version"]) == ("accepted", 1)
    assert device.next("delta")["state"] == {"led": "on"}
    operate(mtls_site, name, {"desired": {"led": "off"}})
    assert device.next("delta")["version"] == 2
    foreign = device.next("foreign")
    assert (foreign["operation"], foreign["state"]) == ("update", {"desired": {"led": "off"}})
    # The SDK sends the last version that it heard of as its optimistic lock.
    answer = ask("update", {"state": {"reported": {"led": "off"}}})
    assert (answer["status"], answer["version"]) == ("accepted", 3)
    document = ask("get")
    assert document["state"] == {"desired": {"led": "off"}, "reported": {"led": "off"}}
    assert ask("delete")["version"] == 3
    assert ask("delete")["code"] == 404


def test_deltas_wait_for_a_device_of_the_first_sdk(mtls_site: Site, process: NodeProcess, name: str) -> None:
    before = Device(mtls_site, process, "v1", name, kept=True)
    assert not before.was_session_present
    before.disconnect()
    operate(mtls_site, name, {"desired": {"led": "on"}})
    after = Device(mtls_site, process, "v1", name, kept=True)
    assert after.was_session_present
    delta = after.next("delta")
    assert (delta["version"], delta["state"]) == (1, {"led": "on"})
    after.disconnect()


def test_the_npm_lock_names_no_place_to_download_from() -> None:
    lock = json.loads((FOLDER / "package-lock.json").read_text())
    packages = [package for path, package in lock["packages"].items() if path]
    assert packages
    assert not [package for package in packages if "resolved" in package or "integrity" not in package]
