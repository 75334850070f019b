import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shadow.commands import Delete, Get, Update, parse
from shadow.errors import (
    InvalidRequestError,
    RequestError,
    TooLargeError,
    UnsupportedEncodingError,
)
from shadow.settings import ShadowSettings
from shadow.topics import Operation
from shadow_strategies import states

SETTINGS = ShadowSettings()
TOO_DEEP = "JSON contains too many levels of nesting; maximum is 6"
OPERATIONS = st.sampled_from(Operation)


def update(payload: bytes, settings: ShadowSettings = SETTINGS) -> Update:
    command = parse(Operation.UPDATE, payload, settings)
    assert isinstance(command, Update)
    return command


def refusal(
    payload: bytes, operation: Operation = Operation.UPDATE, settings: ShadowSettings = SETTINGS
) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse(operation, payload, settings)
    return caught.value


def nested(levels: int, opening: str = '{"a":', closing: str = "}") -> bytes:
    """An update whose `desired` has so many levels."""
    return f'{{"state":{{"desired":{{"a":{opening * (levels - 1)}1{closing * (levels - 1)}}}}}}}'.encode()


@given(OPERATIONS, st.binary())
@example(Operation.UPDATE, b"[" * 100_000)
@example(Operation.UPDATE, b'{"state":' * 10_000)
@example(Operation.GET, b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}")
@example(Operation.UPDATE, b'{"state":{"desired":{"a":' + b"9" * 10_000 + b"}}}")
@example(Operation.UPDATE, b'{"state":{"desired":{"\\ud800":1}}}')
@example(Operation.DELETE, b"\xff")
def test_any_bytes_are_a_command_or_a_refusal(operation: Operation, payload: bytes) -> None:
    code = 0
    try:
        parse(operation, payload, SETTINGS)
    except RequestError as error:
        code = error.code
    assert code in (0, 400, 413, 415)


@given(
    OPERATIONS,
    st.dictionaries(
        st.sampled_from(["state", "version", "clientToken", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=70),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["desired", "reported", "x"]), inner, max_size=3)
            ),
        ),
    ),
)
def test_any_json_is_a_command_or_a_refusal(operation: Operation, body: Any) -> None:
    token = body.get("clientToken")
    try:
        assert parse(operation, json.dumps(body).encode(), SETTINGS).client_token == token
    except RequestError as error:
        code, repeated = error.code, error.client_token
        assert code == 400
        assert repeated in (None, token)


@given(states(nulls=True), st.none() | st.integers(0, 2**80), st.none() | st.text(max_size=16))
def test_an_update_is_read_as_sent(state: Any, version: int | None, token: str | None) -> None:
    body = {"state": state, "ignored": [None]}
    if version is not None:
        body["version"] = version
    if token is not None:
        body["clientToken"] = token
    assert update(json.dumps(body, ensure_ascii=False).encode()) == Update(state, version, token)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.0", 1.0),
        ("1e2", 100.0),
        ("18446744073709551616", 2**64),
        ("-9223372036854775809", -(2**63) - 1),
        ("9" * 4300, 10**4300 - 1),
    ],
)
def test_numbers_keep_their_kind_and_their_digits(text: str, value: float) -> None:
    state = update(f'{{"state":{{"desired":{{"n":{text}}}}}}}'.encode()).state
    assert state is not None
    assert state["desired"] is not None
    number = state["desired"]["n"]
    assert (number, type(number)) == (value, type(value))


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e400", "01", "9" * 5000, "'a'", "nul", ""]
)
def test_what_is_no_json_number_or_cannot_be_held_is_invalid(text: str) -> None:
    error = refusal(f'{{"state":{{"desired":{{"n":{text}}}}}}}'.encode())
    assert (error.code, error.message) == (400, "Invalid JSON")


def test_the_last_of_equal_keys_holds() -> None:
    assert update(b'{"state":{"desired":{"a":1,"a":2}},"state":{"reported":{"b":1,"b":2}}}').state == {
        "reported": {"b": 2}
    }


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b'{"state":{"desired":{"a":"\xff"}}}',
        '{"state":{}}'.encode("utf-16"),
        b'{"state":{},"ignored":"\xed\xa0\x80"}',
        b"\xc3",
    ],
)
def test_bytes_that_are_not_utf_8_are_an_unsupported_encoding(payload: bytes) -> None:
    error = refusal(payload)
    assert isinstance(error, UnsupportedEncodingError)
    assert (error.code, error.message) == (
        415,
        "Unsupported documented encoding; supported encoding is UTF-8",
    )


def test_a_byte_order_mark_is_no_json() -> None:
    assert isinstance(refusal(b'\xef\xbb\xbf{"state":{}}'), InvalidRequestError)


@pytest.mark.parametrize(
    "payload", [b"", b" ", b"null", b"[]", b'"state"', b"{", b'{"state":{}}x', b'{"state":{}}\0']
)
def test_an_update_without_a_json_object_is_invalid(payload: bytes) -> None:
    error = refusal(payload)
    assert (error.code, error.message) == (400, "Invalid JSON")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # Each row breaks its own rule and all later ones: the first broken rule is named.
        ('"clientToken":1,"version":-1', "Invalid clientToken"),
        ('"version":-1', "Missing required node: state"),
        ('"state":[],"version":-1', "State node must be an object"),
        ('"state":{"x":1,"desired":1},"version":-1', "State contains an invalid node: 'x'"),
        ('"state":{"reported":1,"desired":[]},"version":-1', "Desired node must be an object"),
        ('"state":{"reported":false,"desired":{"a":[null]}},"version":-1', "Reported node must be an object"),
        ('"state":{"desired":{"a":[null]},"reported":{"a":[[[[[[[[1]]]]]]]]}},"version":-1', TOO_DEEP),
        ('"state":{"desired":{"a":[{"b":null}]}},"version":-1', "Invalid JSON"),
        ('"state":{},"version":-1', "Invalid version"),
    ],
)
def test_rules_are_checked_in_order(body: str, message: str) -> None:
    error = refusal(f"{{{body}}}".encode())
    assert (error.code, error.message) == (400, message)


@pytest.mark.parametrize("version", ["-1", "1.0", "true", "null", '"1"', "[]"])
def test_a_version_is_an_integer_from_zero(version: str) -> None:
    error = refusal(f'{{"state":{{}},"version":{version},"clientToken":"t"}}'.encode())
    assert (error.message, error.client_token) == ("Invalid version", "t")


@pytest.mark.parametrize("token", ["1", "null", "[]", f'"{"é" * 32}x"', '"' + "x" * 65 + '"'])
@pytest.mark.parametrize("operation", Operation)
def test_a_bad_client_token_is_refused_and_not_repeated(operation: Operation, token: str) -> None:
    error = refusal(f'{{"state":{{}},"clientToken":{token}}}'.encode(), operation)
    assert (error.code, error.message, error.client_token) == (400, "Invalid clientToken", None)


@pytest.mark.parametrize("token", ["", "x" * 64, "é" * 32])
def test_a_client_token_may_have_64_bytes(token: str) -> None:
    assert update(json.dumps({"state": {}, "clientToken": token}).encode()).client_token == token


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_depth_is_exact_at_the_limit(opening: str, closing: str) -> None:
    for limit in (1, 8):
        settings = ShadowSettings(depth_maximum=limit)
        update(nested(limit, opening, closing), settings)
        assert refusal(nested(limit + 1, opening, closing), settings=settings).message == TOO_DEEP


def test_request_size_is_exact_at_the_limit() -> None:
    settings = ShadowSettings(document_size_maximum=50, request_size_maximum=100)
    payload = b'{"state":{}}'.ljust(100)
    assert update(payload, settings) == Update({})
    for operation in Operation:
        error = refusal(payload + b" ", operation, settings)
        assert isinstance(error, TooLargeError)
        assert error.code == 413


@pytest.mark.parametrize("array", ["[null]", "[[null]]", '[{"a":null}]', '[{"a":{"b":[1,null]}}]'])
def test_null_anywhere_below_an_array_is_refused(array: str) -> None:
    assert refusal(f'{{"state":{{"reported":{{"x":{{"y":{array}}}}}}}}}'.encode()).message == "Invalid JSON"


def test_a_text_null_is_no_null() -> None:
    assert update(b'{"state":{"desired":{"a":["null"],"null":{"b":null}}}}').state == {
        "desired": {"a": ["null"], "null": {"b": None}}
    }


def test_a_delta_is_refused_unless_the_setting_drops_it() -> None:
    payload = b'{"state":{"reported":{"a":1},"delta":{"a":1}}}'
    assert refusal(payload).message == "State contains an invalid node: 'delta'"
    assert update(payload, ShadowSettings(drop_delta=True)).state == {"reported": {"a": 1}}


def test_the_name_of_an_unknown_node_is_cut_short() -> None:
    assert refusal(json.dumps({"state": {"x" * 1000: 1}}).encode()).message.endswith(f": '{'x' * 64}'")


@pytest.mark.parametrize(
    ("payload", "token"), [(b"", None), (b"{}", None), (b'{"clientToken":"t","state":1}', "t")]
)
def test_get_and_delete_take_only_a_token(payload: bytes, token: str | None) -> None:
    assert parse(Operation.GET, payload, SETTINGS) == Get(token)
    assert parse(Operation.DELETE, payload, SETTINGS) == Delete(token)


@pytest.mark.parametrize("payload", [b"x", b"[]", b"\xff", b"[" * 2000])
def test_any_other_body_is_ignored_by_delete_and_refused_by_get(payload: bytes) -> None:
    assert parse(Operation.DELETE, payload, SETTINGS) == Delete()
    assert refusal(payload, Operation.GET).code in (400, 415)
