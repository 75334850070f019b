"""awsiotsdk, AWS's second SDK for Python, unmodified, in both versions over mutual TLS.

It sends a user name without a password, `?SDK=...`, and a Keep Alive of 1200 s; at 3.1.1 its Session is
kept unless one says otherwise. `IotShadowClientV2` finds the answer to a request by its client token only.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from awsiot import V2ServiceException, iotshadow

from awsiot_peer import Connection, EventShadow, Shadow, connected, kept
from paho_peer import TIMEOUT_S, VERSIONS, Version, take
from sdk_site import cut, operate, session_of
from server_site import Site

every_version = pytest.mark.parametrize("version", VERSIONS)
every_shadow = pytest.mark.parametrize("shadow_name", [None, "config"], ids=["classic", "named"])


@pytest.fixture
def device(mtls_site: Site, name: str, version: Version) -> Iterator[Connection]:
    with connected(mtls_site, name, version) as connection:
        yield connection


@every_version
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_defaults_of_the_sdk_connect(mtls_site: Site, name: str, version: Version, host: str) -> None:
    with connected(mtls_site, name, version, endpoint=host):
        session = session_of(mtls_site, name)
    assert (session["thing_name"], session["keep_alive_s"]) == (name, 1200)
    assert (session["protocol_version"], session["expiry_interval_s"]) == (
        (5, 0) if version == "5" else (4, None)
    )


@every_version
@every_shadow
def test_a_shadow_lives_from_404_to_404(device: Connection, name: str, shadow_name: str | None) -> None:
    shadow = Shadow(device, name, shadow_name)
    with pytest.raises(V2ServiceException) as absent:
        shadow.get()
    refusal = absent.value.modeled_error
    assert (refusal.code, refusal.message) == (404, f"No shadow exists with name: '{shadow_name or name}'")
    assert refusal.client_token

    asked = shadow.update(desired={"led": "on", "level": 3, "deep": {"a": [1, 2]}})
    assert (asked.version, asked.state.reported) == (1, None)
    assert asked.state.desired == {"led": "on", "level": 3, "deep": {"a": [1, 2]}}
    assert asked.metadata.desired["led"] == {"timestamp": int(asked.timestamp.timestamp())}

    told = shadow.update(reported={"led": "on", "level": 2}, version=1)
    assert (told.version, told.state.desired, told.state.reported) == (2, None, {"led": "on", "level": 2})

    whole = shadow.get()
    assert whole.version == 2
    assert whole.state.desired == asked.state.desired
    assert whole.state.reported == told.state.reported
    assert whole.state.delta == {"level": 3, "deep": {"a": [1, 2]}}
    assert whole.metadata.desired["led"] == asked.metadata.desired["led"]

    deleted = shadow.delete()
    assert deleted.version == 2
    with pytest.raises(V2ServiceException) as gone:
        shadow.delete()
    assert gone.value.modeled_error.code == 404
    assert shadow.update(reported={"led": "off"}).version > 2


@every_version
@every_shadow
def test_a_stale_version_conflicts_and_changes_nothing(
    device: Connection, name: str, shadow_name: str | None
) -> None:
    shadow = Shadow(device, name, shadow_name)
    shadow.update(reported={"n": 1})
    shadow.update(reported={"n": 2}, version=1)
    for version in (1, 3):
        with pytest.raises(V2ServiceException) as conflict:
            shadow.update(reported={"n": 3}, version=version)
        refusal = conflict.value.modeled_error
        assert (refusal.code, refusal.message) == (409, "Version conflict")
    assert (shadow.get().version, shadow.get().state.reported) == (2, {"n": 2})


@every_version
def test_null_removes_a_key_and_a_section(device: Connection, name: str) -> None:
    shadow = Shadow(device, name)
    shadow.update(desired={"a": 1, "b": 2}, reported={"a": 1})
    assert shadow.update(desired={"a": None}).state.desired == {"a": None}
    assert shadow.get().state.desired == {"b": 2}
    shadow.update(desired=None, desired_is_nullable=True)
    assert (shadow.get().state.desired, shadow.get().state.reported) == (None, {"a": 1})


@every_version
@every_shadow
def test_streams_tell_of_each_difference_and_of_each_change(
    mtls_site: Site, device: Connection, name: str, shadow_name: str | None
) -> None:
    shadow = Shadow(device, name, shadow_name)
    deltas, changes = shadow.listen("delta_updated"), shadow.listen("updated")
    operate(mtls_site, name, {"desired": {"led": "on"}}, shadow_name)
    shadow.update(reported={"other": True})
    shadow.update(reported={"led": "on"})
    operate(mtls_site, name, {"desired": {"led": "off"}}, shadow_name)

    got = [take(deltas, "a delta") for _ in range(3)]
    assert [(delta.version, delta.state) for delta in got] == [
        (1, {"led": "on"}),
        (2, {"led": "on"}),
        (4, {"led": "off"}),
    ]
    assert set(got[0].metadata) == {"led"}
    first, *rest = [take(changes, "a change") for _ in range(4)]
    assert (first.previous, first.current.version) == (None, 1)
    assert [(change.previous.version, change.current.version) for change in rest] == [(1, 2), (2, 3), (3, 4)]
    assert rest[-1].previous.state.desired == {"led": "on"}
    assert rest[-1].current.state.desired == {"led": "off"}
    assert rest[-1].current.state.reported == {"other": True, "led": "on"}
    assert (deltas.empty(), changes.empty()) == (True, True)


@every_version
def test_each_of_several_requests_in_flight_gets_its_own_answer(device: Connection, name: str) -> None:
    shadow = Shadow(device, name)
    # At 3.1.1 the SDK may never send what it is asked while it still subscribes, so let it subscribe first.
    shadow.update(reported={})
    waiting = {
        number: shadow.ask("update", state=iotshadow.ShadowState(reported={f"n{number}": number}))
        for number in range(10)
    }
    answers = {number: answer.result(TIMEOUT_S) for number, answer in waiting.items()}
    for number, answer in answers.items():
        assert answer.state.reported == {f"n{number}": number}
    assert sorted(answer.version for answer in answers.values()) == list(range(2, 12))
    assert shadow.get().state.reported == {f"n{number}": number for number in range(10)}


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({}, 400, "Missing required node: state"),
        ({"state": {"desired": "on"}}, 400, "Desired node must be an object"),
        ({"state": {"reported": [1]}}, 400, "Reported node must be an object"),
        ({"state": {"desired": {"a": [1, None]}}}, 400, "Invalid JSON"),
        ({"state": {"desired": {"a": 1}}, "version": -1}, 400, "Invalid version"),
        ({"state": {"desired": {"a": "x" * 8192}}}, 413, "The payload exceeds the maximum size allowed"),
        (
            {"state": {"desired": json.loads('{"a":' * 9 + "1" + "}" * 9)}},
            400,
            "JSON contains too many levels of nesting; maximum is 6",
        ),
    ],
    ids=["no-state", "desired-text", "reported-array", "null-in-array", "version", "size", "depth"],
)
@every_version
def test_a_refused_update_is_a_modeled_error(
    device: Connection, name: str, fields: dict[str, Any], code: int, message: str
) -> None:
    shadow = Shadow(device, name)
    fields = dict(fields)
    if "state" in fields:
        fields["state"] = iotshadow.ShadowState(**fields["state"])
    with pytest.raises(V2ServiceException) as refused:
        shadow.ask("update", **fields).result(TIMEOUT_S)
    assert (refused.value.modeled_error.code, refused.value.modeled_error.message) == (code, message)
    with pytest.raises(V2ServiceException) as absent:
        shadow.get()
    assert absent.value.modeled_error.code == 404


@every_version
def test_what_is_no_json_is_refused_without_a_token(device: Connection, name: str) -> None:
    shadow = EventShadow(device, name)
    shadow.listen("update/accepted", "update/rejected")
    state = iotshadow.ShadowState(desired={"level": float("nan")})  # The SDK writes NaN, which is no JSON.
    shadow.publish("update", state=state, client_token="mine")
    event, refusal = shadow.next()
    assert (event, refusal.code, refusal.message) == ("update/rejected", 400, "Invalid JSON")
    assert refusal.client_token is None


@every_version
@every_shadow
def test_events_come_in_the_order_delta_documents_accepted(
    device: Connection, name: str, shadow_name: str | None
) -> None:
    shadow = EventShadow(device, name, shadow_name)
    shadow.listen("update/accepted", "update/rejected", "delta", "documents")
    shadow.listen("get/accepted", "get/rejected", "delete/accepted", "delete/rejected")

    shadow.publish("get", client_token="t0")
    event, refusal = shadow.next()
    assert (event, refusal.code, refusal.client_token) == ("get/rejected", 404, "t0")
    shadow.publish("update", state=iotshadow.ShadowState(desired={"led": "on"}), client_token="t1")
    events = [shadow.next() for _ in range(3)]
    assert [event for event, _ in events] == ["delta", "documents", "update/accepted"]
    delta, documents, accepted = (told for _, told in events)
    assert (delta.version, documents.current.version, accepted.version) == (1, 1, 1)
    assert (delta.client_token, accepted.client_token) == ("t1", "t1")  # The SDK's documents have none.
    assert (delta.state, documents.current.state.desired) == ({"led": "on"}, {"led": "on"})

    reported = iotshadow.ShadowState(reported={"led": "on"})
    shadow.publish("update", state=reported, client_token="t2", version=1)
    assert [shadow.next()[0], shadow.next()[0]] == ["documents", "update/accepted"]
    shadow.publish("update", state=reported, client_token="t3", version=1)
    event, refusal = shadow.next()
    assert (event, refusal.code, refusal.client_token) == ("update/rejected", 409, "t3")

    shadow.publish("get", client_token="t4")
    event, document = shadow.next()
    assert (event, document.version, document.client_token) == ("get/accepted", 2, "t4")
    assert (document.state.desired, document.state.delta) == ({"led": "on"}, None)
    shadow.publish("delete", client_token="t5")
    event, deleted = shadow.next()
    assert (event, deleted.version, deleted.client_token) == ("delete/accepted", 2, "t5")
    shadow.publish("delete", client_token="t6")
    event, refusal = shadow.next()
    assert (event, refusal.code, refusal.client_token) == ("delete/rejected", 404, "t6")


@every_version
def test_deltas_wait_for_a_device_that_is_away(mtls_site: Site, name: str, version: Version) -> None:
    device = Connection(mtls_site, name, version, **kept(version))
    assert not device.connect()
    shadow = EventShadow(device, name)
    shadow.listen("delta")
    device.disconnect()
    operate(mtls_site, name, {"desired": {"led": "on"}})
    assert device.connect()
    event, delta = shadow.next()
    assert (event, delta.version, delta.state) == ("delta", 1, {"led": "on"})
    device.disconnect()


@every_version
def test_deltas_wait_for_a_device_that_starts_anew(mtls_site: Site, name: str, version: Version) -> None:
    before = Connection(mtls_site, name, version, **kept(version))
    before.connect()
    EventShadow(before, name).listen("delta")
    before.disconnect()
    operate(mtls_site, name, {"desired": {"led": "on"}})
    after = Connection(mtls_site, name, version, **kept(version))
    assert after.connect()
    topic, payload = take(after.others, "the delta")
    assert topic == f"$aws/things/{name}/shadow/update/delta"
    assert (json.loads(payload)["version"], json.loads(payload)["state"]) == (1, {"led": "on"})
    after.disconnect()


@every_version
def test_a_device_whose_connection_is_cut_comes_back_and_hears_on(
    mtls_site: Site, name: str, version: Version
) -> None:
    quickly = {"reconnect_min_timeout_secs": 1}
    if version == "5":
        quickly = {"min_reconnect_delay_ms": 100, "max_reconnect_delay_ms": 200}
    with connected(mtls_site, name, version, **kept(version), **quickly) as device:
        shadow = EventShadow(device, name)
        shadow.listen("delta")
        cut(mtls_site, name)
        operate(mtls_site, name, {"desired": {"led": "on"}})
        assert take(device.connects, "the connection after the cut")
        event, delta = shadow.next()
        assert (event, delta.version) == ("delta", 1)
        assert Shadow(device, name).get().state.delta == {"led": "on"}


@every_version
def test_the_shadow_of_another_thing_is_out_of_reach(mtls_site: Site, device: Connection, name: str) -> None:
    other = f"{name}-other"
    operate(mtls_site, other, {"desired": {"secret": 1}})
    with pytest.raises(V2ServiceException) as refused:
        Shadow(device, other).get()
    assert refused.value.modeled_error is None
    assert Shadow(device, name).update(reported={"n": 1}).version == 1


@every_version
def test_operators_use_the_sdk_too(mtls_site: Site, device: Connection, name: str) -> None:
    shadow = Shadow(device, name)
    deltas = shadow.listen("delta_updated")
    files = mtls_site.pki.ensure_operator("ada")
    with connected(mtls_site, f"ada-{name}", "5", files=files) as operator:
        assert Shadow(operator, name).update(desired={"led": "on"}).version == 1
        assert take(deltas, "the delta").state == {"led": "on"}
