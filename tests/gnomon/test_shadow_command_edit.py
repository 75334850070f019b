"""`gnomon shadow edit` with editors that are scripts, against a server."""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gnomon.cli import main
from running_server import ROOT, RunningServer, running_server
from server_site import unique


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("site"), "--listen", "mtls://127.0.0.1:0") as running:
        yield running


class Done(NamedTuple):
    code: int
    out: str
    err: str


class Desk:
    """A server, a thing, and an editor of one's own; drafts lie in a folder of one's own."""

    def __init__(
        self,
        server: RunningServer,
        thing: str,
        folder: Path,
        patch: pytest.MonkeyPatch,
        captured: pytest.CaptureFixture[str],
    ) -> None:
        self.thing = thing
        self.drafts = folder / "drafts"
        self.drafts.mkdir()
        self.editor = folder / "editor"
        self._server = server
        self._seen = folder / "seen"
        self._seen.mkdir()
        self._captured = captured
        patch.setenv("VISUAL", str(self.editor))
        patch.setenv("TMPDIR", str(self.drafts))
        patch.setattr(tempfile, "tempdir", None)  # It remembers.

    def run(self, verb: str, *arguments: str) -> Done:
        with pytest.raises(SystemExit) as caught:
            main(self._command(verb, *arguments))
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, *self._captured.readouterr())

    def shadow(self, verb: str, *arguments: str) -> str:
        done = self.run(verb, *arguments)
        assert done.code == 0, done.err
        return done.out

    def state(self) -> Any:
        return json.loads(self.shadow("get", "--json"))["state"]

    def edit(self, *steps: str, arguments: tuple[str, ...] = ()) -> Done:
        """Edit with an editor that runs one step a time, Python that changes `text`; then it only looks."""
        self._write_editor(steps)
        return self.run("edit", *arguments)

    def edit_on_terminal(self, *steps: str, answers: str) -> Done:
        """The same, with `answers` typed on a terminal."""
        self._write_editor(steps)
        leader, follower = pty.openpty()
        try:
            os.write(leader, answers.encode())
            command = [sys.executable, "-m", "gnomon", *self._command("edit")]
            done = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, stdin=follower, timeout=40, check=False
            )
        finally:
            os.close(leader)
            os.close(follower)
        return Done(done.returncode, done.stdout, done.stderr)

    def seen(self, number: int) -> str:
        """What the editor was given the n-th time, from 1."""
        return (self._seen / str(number)).read_text()

    def draft(self) -> str:
        [path] = self.drafts.glob("gnomon-*.json")
        assert path.stat().st_mode & 0o777 == 0o600
        return path.read_text()

    def _write_editor(self, steps: tuple[str, ...]) -> None:
        others = [sys.executable, "-m", "gnomon", *self._command("set")]
        self.editor.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, subprocess, sys\n"
            "def others(*assignments):\n"
            f"    command = {others!r}\n"
            f"    subprocess.check_output([*command, *assignments], cwd={str(ROOT)!r})\n"
            f"seen = pathlib.Path({str(self._seen)!r})\n"
            "number = len(list(seen.iterdir()))\n"
            "file = pathlib.Path(sys.argv[1])\n"
            "text = before = file.read_text()\n"
            "(seen / str(number + 1)).write_text(text)\n"
            f"steps = {steps!r}\n"
            "if number < len(steps):\n"
            "    exec(steps[number])\n"
            "if text != before:\n"
            "    file.write_text(text)\n"
        )
        self.editor.chmod(0o700)

    def _command(self, verb: str, *arguments: str) -> list[str]:
        return ["shadow", verb, self.thing, "--data", str(self._server.data), *arguments]


@pytest.fixture
def desk(
    server: RunningServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Desk:
    return Desk(server, unique("lamp"), tmp_path, monkeypatch, capsys)


def test_only_what_was_changed_is_sent(desk: Desk) -> None:
    desk.shadow("set", "a=1", "b.c=2", "b.d=3", 'name="über"')
    code, out, err = desk.edit("""text = text.replace('"c": 2', '"c": [4]').replace('"a": 1,', "")""")
    assert (code, out) == (0, f"{desk.thing}: version 2\n"), err
    assert desk.state()["desired"] == {"b": {"c": [4], "d": 3}, "name": "über"}
    [entry] = json.loads(desk.shadow("history", "--limit", "1", "--json"))["entries"]
    assert entry["state"] == {"desired": {"a": None, "b": {"c": [4]}}}
    assert desk.seen(1).startswith(f"// {desk.thing}: desired, version 1. ")
    assert "über" in desk.seen(1)
    assert list(desk.drafts.iterdir()) == []


def test_what_is_not_changed_is_not_sent(desk: Desk) -> None:
    desk.shadow("set", "a=1")
    for step in ("", "text += '\\n\\n'", "text = '{\"a\":1.0}'"):
        code, out, _ = desk.edit("", "", step)
        assert (code, out) == (0, f"{desk.thing}: no change\n")
    assert json.loads(desk.shadow("get", "--json"))["version"] == 1


def test_a_shadow_that_does_not_exist_is_made(desk: Desk) -> None:
    code, out, _ = desk.edit("""text = '{"a": 1}'""", arguments=("--json",))
    assert (code, json.loads(out)["version"]) == (0, 1)
    desk.shadow("delete")
    code, out, _ = desk.edit("", """text = '{"a": 2}'""", arguments=("--json",))
    assert (code, json.loads(out)["version"]) == (0, 3)
    assert desk.state()["desired"] == {"a": 2}


def test_both_sections_can_be_edited(desk: Desk) -> None:
    desk.shadow("set", "a=1")
    desk.shadow("set", "b=2", "--reported")
    code, _, err = desk.edit("""text = '{"desired": {"c": 3}}'""", arguments=("--whole",))
    assert code == 0, err
    assert desk.state()["desired"] == {"c": 3}
    assert "reported" not in desk.state()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1,, }', "at column 9 of: "),
        ('{"a": null}', "holds no null"),
        ('{"a": 1, "a": 2}', 'the key "a" is there twice'),
        ("[1]", "not a JSON object"),
        ('{"a": "\x1b[2J"}', r"\x1b[2J"),
    ],
)
def test_what_cannot_be_used_is_opened_again_with_the_reason(desk: Desk, text: str, told: str) -> None:
    code, _, err = desk.edit(f"text = {text!r}", """text = '{"a": 5}'""")
    assert code == 0, err
    assert told in desk.seen(2)
    *heading, body = desk.seen(2).splitlines()
    assert body == text
    assert all(line.startswith("// ") and line.isprintable() for line in heading)
    assert desk.state()["desired"] == {"a": 5}


def test_what_stays_unusable_is_kept_as_a_draft(desk: Desk) -> None:
    code, _, err = desk.edit("text = '{'")
    assert code == 1
    assert f"your draft is kept in {desk.drafts}" in err
    assert "gnomon: Expecting property name" in err
    assert desk.draft() == "{\n"


def test_a_conflict_without_a_terminal_shows_both_changes_and_keeps_the_draft(desk: Desk) -> None:
    desk.shadow("set", 'a="mine"', 'b="theirs"')
    code, out, err = desk.edit("""others('b="new"'); text = text.replace("mine", "better")""")
    assert (code, out) == (1, "")
    assert "from version 1 to 2" in err
    assert '~ desired.b = "theirs" → "new"' in err
    assert '~ desired.a = "mine" → "better"' in err
    assert "Version conflict (409)" in err
    assert json.loads(desk.draft()) == {"a": "better", "b": "theirs"}
    assert desk.state()["desired"] == {"a": "mine", "b": "new"}


def test_after_a_conflict_the_edit_goes_on_on_top_of_the_other(desk: Desk) -> None:
    desk.shadow("set", "a=1", "b=1")
    code, out, err = desk.edit_on_terminal(
        """others('b=2'); text = text.replace('"a": 1', '"a": 3')""", "text += ' '", answers="edit\n"
    )
    assert (code, out) == (0, f"{desk.thing}: version 3\n"), err
    assert '"a": 3,\n  "b": 2' in desk.seen(2)
    assert desk.state()["desired"] == {"a": 3, "b": 2}
    assert list(desk.drafts.iterdir()) == []


@pytest.mark.parametrize("answers", ["abort\n", "edit\n"], ids=["abort", "close without saving"])
def test_after_a_conflict_one_can_stop(desk: Desk, answers: str) -> None:
    desk.shadow("set", "a=1", "b=1")
    code, _, err = desk.edit_on_terminal(
        """others('b=2'); text = text.replace('"a": 1', '"a": 3')""", answers=answers
    )
    assert code == 1
    assert json.loads(desk.draft())["a"] == 3, err
    assert desk.state()["desired"] == {"a": 1, "b": 2}


def test_a_refusal_keeps_the_draft(desk: Desk) -> None:
    code, _, err = desk.edit("""text = '{"a": "' + "x" * 9000 + '"}'""")
    assert code == 1
    assert "(413)" in err
    assert len(desk.draft()) > 9000


def test_without_an_editor_it_ends_with_3(desk: Desk) -> None:
    code, _, err = desk.run("edit")
    assert code == 3
    assert re.fullmatch(r"gnomon: .*/editor: .*; check VISUAL and EDITOR; nothing was sent\n", err)
    assert list(desk.drafts.iterdir()) == []
