"""Administration from end to end: the command line and other clients against a server."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from paho_peer import PahoPeer
from running_server import ROOT
from server_site import Site, unique

ADMINISTRATIVE_ACTION, NOT_AUTHORIZED = 0x98, 0x87
REPLIES = "$gnomon/admin/v1/reply/"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gnomon", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=40, check=False
    )


def admin(site: Site, *arguments: str) -> Any:
    done = run(*arguments, "--json", "--data", str(site.server.data))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def traced(operator: PahoPeer, **what: Any) -> str:
    """Start a trace; its name."""
    own = f"{REPLIES}{operator.client_id}/1"
    operator.subscribe(own)
    ask(operator, "trace/start", what, own)
    name: str = answer(operator)["trace"]
    return name


def told(operator: PahoPeer, trace: str) -> list[dict[str, Any]]:
    """Stop the trace; its events."""
    ask(operator, "trace/stop", {"trace": trace}, f"{REPLIES}{operator.client_id}/1")
    events: list[dict[str, Any]] = []
    while "over" not in (body := answer(operator)):
        events += body.get("events", ())
    assert body["over"] == "stopped"
    return events


def ask(peer: PahoPeer, verb: str, body: dict[str, Any], response_topic: str) -> int:
    properties = {"ResponseTopic": response_topic, "CorrelationData": b"1"}
    return peer.publish(f"$gnomon/admin/v1/{verb}", json.dumps(body).encode(), qos=1, properties=properties)


def answer(peer: PahoPeer) -> Any:
    return json.loads(peer.receive().payload)


def test_sessions_are_listed_shown_and_kicked_with_the_reason(mtls_site: Site) -> None:
    name = unique("lamp")
    with mtls_site.device(name, "5", properties={"SessionExpiryInterval": 100}) as device:
        device.subscribe(f"cmd/{name}/#")
        after = name[:-1]
        listed = admin(mtls_site, "session", "list", "--limit", "1000", "--after", after)
        [info] = [info for info in listed["sessions"] if info["client_id"] == name]
        assert (info["identity"], info["is_connected"], info["protocol_version"]) == (name, True, 5)
        shown = admin(mtls_site, "session", "show", name)
        assert [each["topic_filter"] for each in shown["subscriptions"]] == [f"cmd/{name}/#"]
        kicked = admin(mtls_site, "session", "kick", name)
        assert kicked == {"client_id": name, "was_connected": True, "session_ended": False}
        assert device.disconnected() == ADMINISTRATIVE_ACTION
    assert admin(mtls_site, "session", "kick", name, "--end")["session_ended"]
    refused = run("session", "show", name, "--data", str(mtls_site.server.data))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("gnomon: there is no session")


def test_the_url_leads_to_the_server_and_text_is_for_people(mtls_site: Site) -> None:
    files = mtls_site.pki.ensure_operator("ada")
    url = f"mtls://127.0.0.1:{mtls_site.port}?cert={files.certificate}&key={files.key}&ca={files.authority}"
    with mtls_site.device(unique("lamp"), "3.1.1") as device:
        done = run("session", "list", "--url", url, "--limit", "1000000")
        assert done.returncode == 0, done.stderr
        assert device.client_id in done.stdout
        assert "client id" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["session", "list", "--data", "/nonexistent"], 3),
        (["session", "list", "--url", "mtls://127.0.0.1:1?cert=/no&key=/no&ca=/no"], 3),
        (["session", "list", "--url", "tcp://127.0.0.1:1"], 2),
        (["session", "list", "--url", "bogus"], 2),
        (["session", "list", "--limit", "0"], 2),
        (["trace"], 2),
        (["trace", "--client", "c", "--topic", "t"], 2),
        (["trace", "--client", "c", "--seconds", "301"], 2),
    ],
)
def test_exit_codes_tell_usage_from_environment(arguments: Sequence[str], code: int) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_certificate_without_the_role_is_refused(mtls_site: Site) -> None:
    files = mtls_site.pki.ensure_device(unique("lamp"))
    url = f"mtls://127.0.0.1:{mtls_site.port}?cert={files.certificate}&key={files.key}&ca={files.authority}"
    done = run("session", "list", "--url", url)
    assert (done.returncode, done.stderr.partition(":")[0]) == (1, "gnomon")


def test_a_trace_of_a_client_tells_both_directions_and_no_payload(mtls_site: Site) -> None:
    name = unique("lamp")
    with mtls_site.operator("5") as ada, mtls_site.operator("5") as bob:
        trace = traced(ada, client_id=name)
        with mtls_site.device(name, "5") as device:
            device.subscribe(f"cmd/{name}/#")
            device.publish(f"dt/{name}/x", b"5ecret", qos=1)
            bob.publish(f"cmd/{name}/go", b"5ecret", qos=1)
            device.receive()
        bob.subscribe(f"dt/{name}/#")  # By its answer the server knows of the device's end.
        events = told(ada, trace)
    assert "5ecret" not in json.dumps(events)
    assert {(event["is_from_client"], event["packet"]) for event in events} >= {
        (True, "CONNECT"),
        (False, "CONNACK"),
        (True, "SUBSCRIBE"),
        (False, "SUBACK"),
        (True, "PUBLISH"),
        (False, "PUBACK"),
        (False, "PUBLISH"),
    }
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))


def test_a_trace_of_a_topic_tells_publisher_and_receivers(mtls_site: Site) -> None:
    name = unique("lamp")
    with (
        mtls_site.operator("5") as ada,
        mtls_site.operator("5") as bob,
        mtls_site.device(name, "5") as device,
    ):
        bob.subscribe(f"dt/{name}/#")
        trace = traced(ada, topic_filter=f"dt/{name}/#")
        device.publish(f"dt/{name}/x", b"5ecret", qos=1)
        bob.receive()
        [event] = told(ada, trace)
    assert (event["publisher"], event["topic"], event["qos"]) == (name, f"dt/{name}/x", 1)
    assert (event["payload_bytes"], event["receivers"]) == (6, 1)


def test_an_operator_who_traces_itself_is_told_nothing_of_that(mtls_site: Site) -> None:
    with mtls_site.operator("5") as ada:
        first = traced(ada, client_id=ada.client_id)
        second = traced(ada, topic_filter="$gnomon/#")
        ada.publish("cmd/nobody")
        ask(ada, "trace/stop", {"trace": second}, f"{REPLIES}{ada.client_id}/1")
        events = told(ada, first)
    assert not [event for event in events if str(event.get("topic")).startswith(REPLIES)]
    assert len(events) < 50


def test_the_command_line_traces_until_the_time_is_over(mtls_site: Site) -> None:
    done = run(
        "trace", "--topic", "dt/none", "--seconds", "1", "--json", "--data", str(mtls_site.server.data)
    )
    assert done.returncode == 0, done.stderr
    first, last = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["seconds"], last["over"], first["trace"]) == (1, "time", last["trace"])


def test_ctrl_c_ends_the_trace_in_the_server_too(mtls_site: Site) -> None:
    name = unique("lamp")
    arguments = command("trace", "--client", name, "--data", str(mtls_site.server.data))
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"following {name} for 60 s\n"
        with mtls_site.device(name, "3.1.1"):
            assert "-> CONNECT" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.stdout.read().endswith("over: stopped\n")
            assert process.wait(20) == 0
    log = (mtls_site.server.data / "test.log").read_text()
    assert '"verb": "trace/stop"' in log


def test_a_device_can_neither_ask_nor_listen(mtls_site: Site) -> None:
    name = unique("lamp")
    with mtls_site.device(name, "5") as device:
        assert device.subscribe(f"{REPLIES}{name}/1") == NOT_AUTHORIZED
        assert ask(device, "session/list", {}, f"{REPLIES}{name}/1") == NOT_AUTHORIZED


def test_answers_are_the_requesters_alone(mtls_site: Site) -> None:
    with mtls_site.operator("5") as ada, mtls_site.operator("5") as bob:
        own = f"{REPLIES}{ada.client_id}/1"
        for topic_filter in (own, f"{REPLIES}#", f"{REPLIES}+/1", f"$share/g/{own}", "$gnomon/#"):
            assert bob.subscribe(topic_filter) == NOT_AUTHORIZED
        ada.subscribe(own)
        ask(bob, "session/list", {}, own)  # Refused: it is not bob's.
        ask(ada, "session/show", {"client_id": ada.client_id}, f"{REPLIES}{bob.client_id}/1")
        ask(ada, "session/show", {"client_id": bob.client_id}, own)
        assert answer(ada)["session"]["client_id"] == bob.client_id
        assert bob.raw.empty()
        ask(ada, "session/bogus", {}, own)
        assert answer(ada)["code"] == "UnknownRequest"
