import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.commands import Command, Delete, Get, Update
from shadow.document import Document, Stored, Tombstone, encode, mirror, new_document
from shadow.engine import Decision, apply, decide, reject, tell
from shadow.errors import (
    InternalFailureError,
    RequestError,
    ShadowNotFoundError,
    TooLargeError,
    VersionConflictError,
)
from shadow.settings import ShadowSettings
from shadow.topics import Operation, Reply, ShadowKey
from shadow_strategies import states

NOW = 1_700_000_000
HOURS_48 = 48 * 3600
KEY = ShadowKey("thing-1")
SETTINGS = ShadowSettings()


def decided(
    stored: Stored | None, command: Command, *, now: int = NOW, settings: ShadowSettings = SETTINGS
) -> Decision:
    return decide(KEY, stored, command, now=now, settings=settings)


def document_of(state: dict[str, Any], version: int = 3) -> Document:
    state = {name: section for name, section in state.items() if section}
    return new_document(state, mirror(state, {"timestamp": 1}), version, encoded_state=encode(state))


def updated(stored: Stored | None, state: Any) -> Document:
    change = decided(stored, Update(state)).change
    assert isinstance(change, Document)
    return change


documents = st.builds(document_of, states(), st.integers(1, 1000))
stored_values = st.none() | documents | st.builds(Tombstone, st.integers(1, 1000), st.just(NOW))
commands = st.builds(Update, states(nulls=True)) | st.builds(Get) | st.builds(Delete)


@given(stored_values, states(nulls=True))
def test_every_accepted_update_adds_one_to_the_version(stored: Stored | None, state: Any) -> None:
    assert updated(stored, state).version == (stored.version if stored else 0) + 1


@given(stored_values, states(nulls=True))
def test_the_same_update_twice_leaves_the_same_state(stored: Stored | None, state: Any) -> None:
    once = updated(stored, state)
    twice = updated(once, state)
    assert encode(twice.state) == encode(once.state)
    assert twice.version == once.version + 1


@given(stored_values, states(nulls=True))
def test_reporting_the_delta_leaves_none(stored: Stored | None, state: Any) -> None:
    decision = decided(stored, Update(state))
    if not decision.differing:
        return
    assert isinstance(decision.change, Document)
    delta = json.loads(decision.messages[0].payload)["state"]
    assert len(delta) == decision.differing
    followed = decided(decision.change, Update({"reported": delta}))
    assert followed.differing == 0
    assert [message.reply for message in followed.messages] == [
        Reply.UPDATE_DOCUMENTS,
        Reply.UPDATE_ACCEPTED,
    ]


@given(documents)
def test_telling_again_is_the_delta_of_the_last_update_without_its_token(document: Document) -> None:
    decision = decided(document, Update({}))
    assert isinstance(decision.change, Document)
    again = tell(decision.change, now=NOW)
    if again is None:
        assert decision.differing == 0
    else:
        assert again == decision.messages[0]


@given(stored_values, states(nulls=True))
def test_an_update_keeps_its_patch(stored: Stored | None, state: Any) -> None:
    decision = decided(stored, Update(state))
    assert decision.patch == encode(state)
    assert apply(stored, json.loads(decision.patch), now=NOW) == decision.change


@given(stored_values, commands)
def test_decide_changes_none_of_its_arguments(stored: Stored | None, command: Command) -> None:
    before = copy.deepcopy((stored, command))
    with contextlib.suppress(ShadowNotFoundError):
        decided(stored, command)
    assert (stored, command) == before


@given(stored_values, states(nulls=True))
def test_the_messages_of_an_update_agree_with_the_document(stored: Stored | None, state: Any) -> None:
    decision = decided(stored, Update(state, client_token="t"))
    change = decision.change
    assert isinstance(change, Document)
    current = json.loads(change.encoded)
    bodies = {message.reply: json.loads(message.payload) for message in decision.messages}
    order = [Reply.UPDATE_DELTA, Reply.UPDATE_DOCUMENTS, Reply.UPDATE_ACCEPTED]
    delta = decided(change, Get()).messages[0].payload
    lacking = json.loads(delta)["state"].get("delta")

    assert list(bodies) == (order if lacking else order[1:])
    assert current == {"state": change.state, "metadata": change.metadata, "version": change.version}
    assert all(change.state.values())
    assert bodies[Reply.UPDATE_DOCUMENTS] == {
        "previous": json.loads(stored.encoded) if isinstance(stored, Document) else None,
        "current": current,
        "timestamp": NOW,
        "clientToken": "t",
    }
    assert bodies[Reply.UPDATE_ACCEPTED]["state"] == state
    assert bodies[Reply.UPDATE_ACCEPTED]["version"] == change.version
    if lacking:
        assert bodies[Reply.UPDATE_DELTA]["state"] == lacking
        assert bodies[Reply.UPDATE_DELTA]["version"] == change.version


@given(documents)
def test_a_get_changes_nothing_and_shows_the_document(document: Document) -> None:
    decision = decided(document, Get("t"))
    assert decision.change is None
    (message,) = decision.messages
    body = json.loads(message.payload)
    body["state"].pop("delta", None)
    assert (message.reply, body) == (
        Reply.GET_ACCEPTED,
        json.loads(document.encoded) | {"timestamp": NOW, "clientToken": "t"},
    )


def test_the_version_never_restarts_within_48_hours_of_a_delete() -> None:
    document = document_of({"desired": {"a": 1}}, version=4)
    tombstone = decided(document, Delete()).change
    assert tombstone == Tombstone(5, NOW)
    for later, version in ((0, 6), (HOURS_48 - 1, 6), (HOURS_48, 1)):
        change = decided(tombstone, Update({}), now=NOW + later).change
        assert isinstance(change, Document)
        assert change.version == version


@pytest.mark.parametrize("stored", [None, Tombstone(5, NOW)])
def test_what_does_not_exist_has_version_zero_and_no_previous(stored: Stored | None) -> None:
    with pytest.raises(VersionConflictError):
        decided(stored, Update({}, version=5))
    documents = decided(stored, Update({}, version=0)).messages[0]
    assert json.loads(documents.payload)["previous"] is None


@pytest.mark.parametrize("version", [0, 2, 4, 2**70])
def test_any_other_version_conflicts(version: int) -> None:
    with pytest.raises(VersionConflictError) as caught:
        decided(document_of({}, version=3), Update({}, version=version, client_token="t"))
    assert caught.value.client_token == "t"


@pytest.mark.parametrize("command", [Get("t"), Delete("t")])
@pytest.mark.parametrize("stored", [None, Tombstone(5, NOW)])
@pytest.mark.parametrize(("key", "name"), [(KEY, "thing-1"), (ShadowKey("thing-1", "fw"), "fw")])
def test_what_does_not_exist_is_not_found_by_its_name(
    command: Command, stored: Stored | None, key: ShadowKey, name: str
) -> None:
    with pytest.raises(ShadowNotFoundError) as caught:
        decide(key, stored, command, now=NOW, settings=SETTINGS)
    assert (caught.value.message, caught.value.client_token) == (f"No shadow exists with name: '{name}'", "t")


def test_document_size_is_exact_at_the_limit() -> None:
    text = "é" * 20
    size = len(encode({"desired": {"a": 1}, "reported": {"b": text}}))
    document = document_of({"desired": {"a": 1}})
    patch = Update({"reported": {"b": text}}, client_token="t")
    decided(document, patch, settings=ShadowSettings(document_size_maximum=size))
    with pytest.raises(TooLargeError) as caught:
        decided(document, patch, settings=ShadowSettings(document_size_maximum=size - 1))
    assert caught.value.client_token == "t"


@pytest.mark.parametrize("text", ["x" * 100, "null" * 25])
def test_a_patch_above_the_limit_is_refused_whether_it_is_seen_early_or_late(text: str) -> None:
    settings = ShadowSettings(document_size_maximum=90)
    with pytest.raises(TooLargeError):
        decided(None, Update({"desired": {"a": text}}), settings=settings)
    with pytest.raises(VersionConflictError):
        decided(None, Update({"desired": {"a": text}}, version=3), settings=settings)


def test_a_patch_above_the_limit_may_remove() -> None:
    keys: dict[str, Any] = {str(number): None for number in range(100)}
    settings = ShadowSettings(document_size_maximum=90)
    assert updated(None, {"desired": keys}).state == {}
    assert decided(None, Update({"desired": keys}), settings=settings).change is not None


def test_a_document_at_its_limit_may_shrink() -> None:
    settings = ShadowSettings(document_size_maximum=30)
    document = document_of({"desired": {"a": "x" * 100}})
    assert decided(document, Update({"desired": {"a": None}}), settings=settings).change is not None


def test_new_documents_share_what_did_not_change() -> None:
    document = document_of({"desired": {"kept": {"a": [1]}, "set": 1}, "reported": {"b": 1}})
    change = updated(document, {"desired": {"set": 2}})
    assert change.state["desired"]["kept"] is document.state["desired"]["kept"]
    assert change.state["reported"] is document.state["reported"]


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize(
    ("error", "body"),
    [
        (InternalFailureError(), {"code": 500, "message": "Internal service failure"}),
        (
            VersionConflictError(client_token=""),
            {"code": 409, "message": "Version conflict", "clientToken": ""},
        ),
    ],
)
def test_a_refusal_names_code_and_text(operation: Operation, error: RequestError, body: Any) -> None:
    message = reject(operation, error)
    assert (message.reply, json.loads(message.payload)) == (Reply(f"{operation.value}/rejected"), body)
