"""`gnomon shadow` against a server, over mutual TLS."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gnomon.cli import main
from running_server import ROOT, running_server
from server_site import Site, unique

HOSTILE = "\x1b[2J\x9b1m\u202e[red]x[/red]"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    config = folder / "gnomon.toml"
    config.write_text("[shadow]\nrequests_per_second_maximum = 0\n")  # Tests ask faster than a thing may.
    with running_server(folder, "--config", str(config), "--listen", "mtls://127.0.0.1:0") as server:
        yield Site(server, "mtls")
    assert "Traceback" not in (server.data / "test.log").read_text()


@pytest.fixture
def thing() -> str:
    return unique("lamp")


class Shell:
    """Runs `gnomon shadow` in this process: the exit code, standard output and error."""

    def __init__(self, site: Site, captured: pytest.CaptureFixture[str]) -> None:
        self._data = str(site.server.data)
        self._captured = captured

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["shadow", *arguments, "--data", self._data])
        out, err = self._captured.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    def text(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, err
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.text(*arguments, "--json"))


@pytest.fixture
def shell(site: Site, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(site, capsys)


def test_what_is_set_is_got_and_what_differs_is_marked(shell: Shell, thing: str) -> None:
    assert shell.text("set", thing, "power=true", 'desired.light."a b"=[1, "x"]') == f"{thing}: version 1\n"
    assert shell.json("set", thing, "power=true", "reported.x={}", "--reported")["version"] == 2
    document = shell.json("get", thing)
    assert document["state"]["desired"] == {"power": True, "light": {"a b": [1, "x"]}}
    assert document["state"]["reported"] == {"power": True, "x": {}}
    assert "clientToken" not in document
    title, head, *rows = shell.text("get", thing, "--metadata").splitlines()
    assert title == f"{thing}, version 2"
    assert head.split("  ")[0] == "key"
    assert {row.split()[0]: "≠" in row for row in rows} == {"power": False, 'light."a': True, "x": False}
    assert re.search(r"\d s ago +\d s ago", rows[0])


def test_keys_and_whole_sections_are_unset(shell: Shell, thing: str) -> None:
    shell.text("set", thing, "a=1", "b.c=2", "b.d=3")
    shell.text("unset", thing, "a", "b.c")
    assert shell.json("get", thing)["state"]["desired"] == {"b": {"d": 3}}
    shell.text("unset", thing, "desired")
    assert shell.json("get", thing)["state"] == {}


def test_another_version_is_refused_with_1(shell: Shell, thing: str) -> None:
    shell.text("set", thing, "a=1", "--expected-version", "0")
    code, out, err = shell.run("unset", thing, "a", "--expected-version", "7")
    assert (code, out, err) == (1, "", "gnomon: Version conflict (409)\n")


def test_a_deleted_shadow_is_gone(shell: Shell, thing: str) -> None:
    shell.text("set", thing, "a=1", "--shadow", "fw")
    assert shell.json("list", thing)["shadows"] == ["fw"]
    assert shell.text("delete", thing, "--shadow", "fw") == f"{thing}, shadow fw: deleted, version 1\n"
    code, _, err = shell.run("get", thing, "--shadow", "fw")
    assert (code, err) == (1, "gnomon: No shadow exists with name: 'fw' (404)\n")


def test_things_and_shadows_are_listed_page_by_page(shell: Shell, thing: str) -> None:
    for name in ("fw", "net", "$sys"):
        shell.text("set", thing, "a=1", "--shadow", name)
    first = shell.json("list", thing, "--limit", "2")
    assert first == {"shadows": ["$sys", "fw"], "cursor": "fw"}
    assert shell.json("list", thing, "--after", "fw") == {"shadows": ["net"], "cursor": None}
    assert thing in shell.json("list", "--after", thing[:-1])["things"]
    assert shell.text("list", thing, "--limit", "1").endswith("more: --after $sys\n")


def test_history_tells_who_changed_what_and_documents_are_shown_as_they_were(
    shell: Shell, thing: str
) -> None:
    shell.text("set", thing, "a=1", "b=2")
    shell.text("unset", thing, "b")
    shell.text("delete", thing)
    entries = shell.json("history", thing)["entries"]
    assert [entry["version"] for entry in entries] == [3, 2, 1]
    assert [entry["operation"] for entry in entries] == ["delete", "update", "update"]
    assert entries[1]["state"] == {"desired": {"b": None}}
    assert {entry["author"]["identity"] for entry in entries} == {"gnomon-cli"}
    table = shell.text("history", thing, "--limit", "2")
    assert "deleted" in table
    assert "- desired.b" in table
    assert "more: --before 2" in table
    assert "desired.a = 1" in shell.text("history", thing, "--before", "2")
    assert shell.json("get", thing, "--as-of", "1")["state"] == {"desired": {"a": 1, "b": 2}}
    assert shell.text("get", thing, "--as-of", "2").startswith(f"{thing}, version 2\n")
    assert shell.run("get", thing, "--as-of", "3")[0] == 1


def test_a_long_history_takes_several_requests(shell: Shell, thing: str, site: Site) -> None:
    topic = f"$aws/things/{thing}/shadow/update"
    with site.device(thing, "5") as device:
        device.subscribe(f"{topic}/accepted")
        for number in range(1, 131):
            device.publish(topic, json.dumps({"state": {"reported": {"n": number}}}).encode(), qos=1)
            device.receive()
    history = shell.json("history", thing, "--limit", "120")
    assert [entry["version"] for entry in history["entries"]] == list(range(130, 10, -1))
    assert history["before_version"] == 11
    assert history["entries"][0]["author"]["client_id"] == thing


def test_drift_shows_what_does_not_follow(shell: Shell, thing: str) -> None:
    shell.text("set", thing, "a=1", "b=2")
    [drift] = [
        each for each in shell.json("drift", "--limit", "500")["shadows"] if each["thing_name"] == thing
    ]
    assert (drift["shadow_name"], drift["keys"]) == (None, 2)
    assert thing in shell.text("drift")
    shell.text("set", thing, "a=1", "b=2", "--reported")
    assert thing not in shell.text("drift")


def test_what_a_stranger_wrote_is_shown_and_not_obeyed(shell: Shell, thing: str, site: Site) -> None:
    with site.device(thing, "5") as device:
        topic = f"$aws/things/{thing}/shadow/update"
        device.subscribe(f"{topic}/accepted")
        body = {"state": {"reported": {HOSTILE: HOSTILE, "n": [HOSTILE]}}, "clientToken": HOSTILE}
        device.publish(topic, json.dumps(body).encode(), qos=1)
        device.receive()
    outputs = [shell.text("get", thing, "--metadata"), shell.text("history", thing)]
    raw = shell.text("get", thing, "--json")
    for output in (*outputs, raw):
        assert output.replace("\n", "").isprintable()
        assert "[red]" in output
    assert r"\x1b[2J" in outputs[1]
    assert json.loads(raw)["state"]["reported"][HOSTILE] == HOSTILE


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "a/b"],
        ["get", "a+"],
        ["get", "a" * 129],
        ["get", "lamp", "--shadow", "a/b"],
        ["get", "lamp", "--root", "a/b"],
        ["get", "lamp", "--as-of", "0"],
        ["set", "lamp"],
        ["set", "lamp", "a"],
        ["set", "lamp", "a=red"],
        ["set", "lamp", "desired=1"],
        ["set", "lamp", "reported.a=1"],
        ["set", "lamp", "desired.a=1", "--reported"],
        ["set", "lamp", "a=1", "a=2"],
        ["unset", "lamp", "a..b"],
        ["get", "lamp", "--url", "http://broker"],
        ["get", "lamp", "--url", "mtls://broker:8883"],
        ["get", "lamp", "--url", "mqtt://broker?cert=a"],
        ["history", "lamp", "--url", "mqtts://broker"],
        ["get", "lamp", "--timeout", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(shell: Shell, arguments: Sequence[str]) -> None:
    code, out, err = shell.run(*arguments)
    assert (code, out) == (2, "")
    assert "rror: " in err or err.startswith("gnomon: --url: ")


@pytest.mark.parametrize("ending", ["", "?ca=/nowhere", "?cert=/no&key=/no"])
def test_a_way_that_leads_nowhere_ends_with_3(shell: Shell, ending: str) -> None:
    code, _, err = shell.run("get", "lamp", "--url", f"mqtts://127.0.0.1:1{ending}")
    assert code == 3
    assert "Traceback" not in err


def test_a_device_reaches_its_own_shadow_and_no_other(shell: Shell, thing: str, site: Site) -> None:
    files = site.pki.ensure_device(thing)
    query = f"cert={files.certificate}&key={files.key}&ca={files.authority}"
    url = f"mqtts://127.0.0.1:{site.port}?{query}&client_id={thing}"
    assert shell.json("set", thing, "a=1", "--url", url)["version"] == 1
    code, _, err = shell.run("get", unique("other"), "--url", url)
    assert code == 1
    assert "does not let us subscribe" in err
    code, _, err = shell.run("get", thing, "--url", f"mtls://127.0.0.1:{site.port}?{query}")
    assert (code, "refuses the connection" in err) == (1, True)


def test_a_root_that_nobody_may_use_is_refused(shell: Shell) -> None:
    code, _, err = shell.run("get", "lamp", "--root", "aws")
    assert code == 1
    assert "aws/things/lamp/shadow/get/accepted" in err


def watching(site: Site, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gnomon", "shadow", "watch", *arguments, "--data", str(site.server.data)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


def line_reader(process: subprocess.Popen[str]) -> Callable[[], str]:
    assert process.stdout is not None
    return process.stdout.readline


def test_watch_shows_deltas_changes_refusals_and_the_end_until_ctrl_c(
    shell: Shell, thing: str, site: Site
) -> None:
    with watching(site, thing) as process:
        line = line_reader(process)
        assert line() == f"watching {thing}; Ctrl-C ends\n"
        shell.text("set", thing, 'color="red"')
        assert line().endswith("delta, version 1\n")
        assert line() == '  Δ color = "red"\n'
        assert line().endswith("changed, version 1\n")
        assert line() == '  + desired.color = "red"\n'
        shell.text("set", thing, 'color="blue"', "--reported")
        shell.text("set", thing, 'color="blue"')
        shell.text("unset", thing, "color")
        lines = [line() for _ in range(8)]
        assert lines[1::2] == [
            '  Δ color = "red"\n',
            '  + reported.color = "blue"\n',
            '  ~ desired.color = "red" → "blue"\n',
            '  - desired.color = "blue"\n',
        ]
        shell.run("set", thing, "a=1", "--expected-version", "99")
        assert line().endswith("update refused: Version conflict (409)\n")
        shell.text("delete", thing)
        assert line().endswith("deleted, version 4\n")
        ended(process)


def test_watch_prints_an_object_a_line(shell: Shell, thing: str, site: Site) -> None:
    with watching(site, thing, "--json", "--shadow", "fw") as process:
        line = line_reader(process)
        assert json.loads(line()) == {"watching": thing, "shadow": "fw"}
        shell.text("set", thing, "a=1")  # Another shadow.
        shell.text("set", thing, "--shadow", "fw", json.dumps(HOSTILE) + "=1")
        delta, documents = line(), line()
        assert delta.rstrip("\n").isprintable()
        assert json.loads(delta)["body"]["state"] == {HOSTILE: 1}
        assert json.loads(documents)["topic"] == "update/documents"
        ended(process)


def test_watch_ends_with_3_when_the_server_goes(tmp_path: Path) -> None:
    with running_server(tmp_path, "--listen", "mtls://127.0.0.1:0") as server:
        with watching(Site(server, "mtls"), "lamp") as process:
            line_reader(process)()
            server.process.terminate()
            _, err = process.communicate(timeout=20)
        assert process.returncode == 3
        assert "was lost" in err
