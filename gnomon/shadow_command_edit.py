"""`gnomon shadow edit`: a shadow in an editor, and back without losing anybody's change.

Knows: the loop of editor, request and conflict; what stands in the editor's file; drafts.
Does not know: MQTT, how options are given.
Spec: AWS IoT device shadow service, optimistic locking.

Only what was changed is sent, with the version that it was changed from. Whatever goes wrong after the
editor, what was written is kept in a file.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import click
from rich.text import Text

from shadow import ShadowKey

from .errors import EnvironmentFailureError, GnomonError
from .shadow_command_client import ShadowClient, ShadowRefusedError
from .shadow_command_text import plain, plain_json
from .shadow_command_values import (
    SECTIONS,
    JsonObject,
    changes,
    has_null,
    merge_patch,
    merged,
    parse_object,
    section,
)
from .shadow_command_views import change_lines, make_console, show_lines

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
#: Times that an editor is opened again on what cannot be read.
_ATTEMPTS: Final = 20
#: Characters of a line that is complained about.
_LINE_MAXIMUM: Final = 200
_COMMENT: Final = "//"


Connect: TypeAlias = Callable[[], AbstractContextManager[ShadowClient]]


class _Base(NamedTuple):
    """What an edit began with; `version` is 0 where there is no shadow."""

    sections: JsonObject
    version: int


class ShadowEditor:
    """One edit.

    Args:
        connect: makes a connection; no connection stands while the editor is open.
        key: the shadow.
        whole: edit both sections, not desired alone.
    """

    def __init__(self, connect: Connect, key: ShadowKey, *, whole: bool) -> None:
        self._connect = connect
        self._key = key
        self._whole = whole
        self._console = make_console(stderr=True)

    def run(self) -> JsonObject | None:
        """Return the body of `update/accepted`, None where nothing was changed.

        Raises:
            ShadowRefusedError: the shadow service says no; at 409 nobody could be asked, or wants to abort.
            GnomonError: the editor's text stayed unreadable, or it was closed without saving.
            EnvironmentFailureError: there is no editor, or no way to the broker.
        """
        base = self._fetch()
        wanted = base.sections
        while True:
            edited = self._edited(base, wanted)
            patch = merge_patch(base.sections, edited)
            if not patch:
                return None
            try:
                sent = self._send(base, edited, patch)
            except (GnomonError, click.Abort, KeyboardInterrupt):
                self._keep(self._text(edited))
                raise
            if not isinstance(sent, _Base):
                return sent
            base, wanted = sent, merged(sent.sections, patch)

    def _send(self, base: _Base, edited: JsonObject, patch: JsonObject) -> JsonObject | _Base:
        """Return the body of `update/accepted`; what there is now, if somebody was faster and we go on."""
        try:
            with self._connect() as client:
                return client.update(patch, version=base.version)
        except ShadowRefusedError as refusal:
            if refusal.code != _CONFLICT:
                raise
            theirs = self._fetch()
            if not self._goes_on(theirs, base, edited):
                raise
            return theirs

    def _fetch(self) -> _Base:
        try:
            with self._connect() as client:
                document = client.get()
        except ShadowRefusedError as refusal:
            if refusal.code != _NOT_FOUND:
                raise
            return _Base({}, 0)
        state = {name: part for name in SECTIONS if (part := section(document["state"], name))}
        return _Base(state, document["version"])

    def _edited(self, base: _Base, wanted: JsonObject) -> JsonObject:
        """Open the editor until its text can be used, and return the sections."""
        body, complaint = self._text(wanted), ""
        failure: GnomonError | None = None
        for _ in range(_ATTEMPTS):
            try:
                text = click.edit(self._heading(base, complaint) + body, extension=".json")
            except click.ClickException as error:
                failure = EnvironmentFailureError(
                    f"{error.message}; check VISUAL and EDITOR; nothing was sent"
                )
                break
            if text is None:  # Closed without saving.
                if wanted is base.sections and not complaint:
                    return wanted
                complaint = complaint or "the editor was closed without saving"
                break
            before, body = body, _without_comments(text)
            try:
                return self._sections(base, body)
            except ValueError as error:
                if complaint and body == before:
                    break
                complaint = plain(str(error))
        if body != self._text(base.sections):
            self._keep(body)
        raise failure or GnomonError(f"{complaint}; nothing was sent")

    def _text(self, sections: JsonObject) -> str:
        return plain_json(sections if self._whole else section(sections, "desired"), indent=2) + "\n"

    def _heading(self, base: _Base, complaint: str) -> str:
        name = self._key.thing_name + (f"/{self._key.shadow_name}" if self._key.shadow_name else "")
        what = "desired and reported" if self._whole else "desired"
        lines = [f"{name}: {what}, version {base.version}. Lines that begin with // are left out."]
        lines += [f"This cannot be used: {complaint}"] if complaint else []
        return "".join(f"{_COMMENT} {line}\n" for line in lines)

    def _sections(self, base: _Base, body: str) -> JsonObject:
        """Return the sections that a text asks for.

        Raises:
            ValueError: one sentence for the editor's user.
        """
        try:
            value = parse_object(body)
        except json.JSONDecodeError as error:
            line = error.doc.split("\n")[error.lineno - 1]
            raise ValueError(f"{error.msg}, at column {error.colno} of: {line[:_LINE_MAXIMUM]}") from None
        if has_null(value):
            raise ValueError("a shadow holds no null; remove the key instead")
        sections = value if self._whole else {**base.sections, "desired": value}
        for name, part in sections.items():
            if name not in SECTIONS or not isinstance(part, dict):
                raise ValueError("there are desired and reported only, both objects")
        return {name: part for name, part in sections.items() if part or name in base.sections}

    def _goes_on(self, theirs: _Base, base: _Base, edited: JsonObject) -> bool:
        """Show both changes, and ask whether to edit again; False where nobody can be asked."""
        show_lines(
            self._console,
            [
                Text(f"the shadow changed meanwhile, from version {base.version} to {theirs.version}:"),
                *change_lines(changes(base.sections, theirs.sections)),
                Text("you changed:"),
                *change_lines(changes(base.sections, edited)),
            ],
        )
        if not sys.stdin.isatty():
            return False
        answer = click.prompt(
            "Edit your change on top of it, or abort?",
            type=click.Choice(["edit", "abort"]),
            default="edit",
            err=True,
        )
        return bool(answer == "edit")

    def _keep(self, text: str) -> None:
        """Write what the user wrote into a file of its own."""
        descriptor, name = tempfile.mkstemp(prefix=f"gnomon-{self._key.thing_name}-", suffix=".json")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as draft:
            draft.write(text)
        show_lines(self._console, [Text(f"your draft is kept in {Path(name)}")])


def _without_comments(text: str) -> str:
    """Return the lines that are not comments; no string of JSON goes over a line's end."""
    kept = (line for line in text.split("\n") if not line.lstrip().startswith(_COMMENT))
    return "\n".join(kept).strip() + "\n"
