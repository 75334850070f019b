"""Requests to a shadow, from payload to typed value.

Knows: the form of the request documents, its limits, and the order in which it is checked.
Does not know: the stored document, topics, replies.
Spec: AWS IoT device shadow service, request documents and error messages.
"""

from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .document import JsonValue, Patch
from .errors import InvalidRequestError, RequestError, TooLargeError, UnsupportedEncodingError
from .settings import ShadowSettings
from .topics import Operation

_TOO_DEEP: Final = (
    "JSON contains too many levels of nesting; maximum is 6"  # The service's text; the limit moved.
)
_NODE_NAME_MAXIMUM: Final = 64


class Get(Struct, frozen=True, gc=False):
    """Ask for the document."""

    client_token: str | None = None


class Update(Struct, frozen=True, gc=False):
    """Change the document.

    Attributes:
        state: the sections as sent, nulls included.
        version: the optimistic lock; None updates whatever is there.
        client_token: copied into every message that this request causes.
    """

    state: Patch
    version: int | None = None
    client_token: str | None = None


class Delete(Struct, frozen=True, gc=False):
    """Remove the shadow."""

    client_token: str | None = None


Command: TypeAlias = Get | Update | Delete


class _Request(Struct, rename="camel"):
    """The keys that mean something; msgspec reads past all others, and the last of equal keys holds."""

    state: Any = UNSET
    version: Any = UNSET
    client_token: Any = UNSET


class _Token(Struct, rename="camel"):
    client_token: Any = UNSET


_decode: Final = msgspec.json.Decoder(_Request).decode
_decode_token: Final = msgspec.json.Decoder(_Token).decode


def parse(operation: Operation, payload: bytes, settings: ShadowSettings) -> Command:
    """Read the payload of a request.

    Raises:
        RequestError: the request is refused. It carries the `clientToken` if that was readable.
    """
    if len(payload) > settings.request_size_maximum:
        raise TooLargeError
    match operation:
        case Operation.UPDATE:
            return _parse_update(payload, settings)
        case Operation.GET:
            return Get(_client_token(_read(payload), settings) if payload else None)
        case Operation.DELETE:
            return Delete(_client_token(_read_leniently(payload), settings))


def read_client_token(payload: bytes, settings: ShadowSettings) -> str | None:
    """Return the `clientToken` of a request that is refused unread, where it is readable."""
    if len(payload) > settings.request_size_maximum:
        return None
    try:
        token = _decode_token(payload).client_token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(token, str) and len(token.encode()) <= settings.client_token_size_maximum:
        return token
    return None


def _parse_update(payload: bytes, settings: ShadowSettings) -> Update:
    request = _read(payload)
    client_token = _client_token(request, settings)
    try:
        state = _state(request, settings)
        if b"null" in payload and _has_array_null(state):  # JSON spells a null in no other way.
            raise InvalidRequestError
        return Update(state, _version(request.version), client_token)
    except RequestError as error:
        error.client_token = client_token
        raise


def _read(payload: bytes) -> _Request:
    if not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise UnsupportedEncodingError from None
    try:
        return _decode(payload)
    except msgspec.DecodeError:  # Not JSON, no object, or a number that neither int nor float can hold.
        raise InvalidRequestError from None
    except RecursionError:
        raise InvalidRequestError(_TOO_DEEP) from None


def _read_leniently(payload: bytes) -> _Request:
    """The body of a delete is ignored, but for its token."""
    try:
        return _read(payload)
    except RequestError:
        return _Request()


def _client_token(request: _Request, settings: ShadowSettings) -> str | None:
    token = request.client_token
    if token is UNSET:
        return None
    if not isinstance(token, str) or len(token.encode()) > settings.client_token_size_maximum:
        raise InvalidRequestError("Invalid clientToken")
    return token


def _version(version: object) -> int | None:
    if isinstance(version, UnsetType):
        return None
    if type(version) is not int or version < 0:  # True is an int of Python, not of JSON.
        raise InvalidRequestError("Invalid version")
    return version


def _state(request: _Request, settings: ShadowSettings) -> Patch:
    state = request.state
    if state is UNSET:
        raise InvalidRequestError("Missing required node: state")
    if state is None:
        return None
    if not isinstance(state, dict):
        raise InvalidRequestError("State node must be an object")
    if settings.drop_delta:
        state.pop("delta", None)
    for node in state:
        if node not in ("desired", "reported"):
            raise InvalidRequestError(f"State contains an invalid node: '{node[:_NODE_NAME_MAXIMUM]}'")
    for node, text in (("desired", "Desired"), ("reported", "Reported")):
        section = state.get(node)
        if section is not None and not isinstance(section, dict):
            raise InvalidRequestError(f"{text} node must be an object")
    for section in state.values():
        _check_depth(section, settings.depth_maximum)
    return state


def _check_depth(value: JsonValue, levels: int) -> None:
    if isinstance(value, (dict, list)):
        if levels == 0:
            raise InvalidRequestError(_TOO_DEEP)
        for child in value.values() if isinstance(value, dict) else value:
            _check_depth(child, levels - 1)


def _has_array_null(value: object, *, in_array: bool = False) -> bool:
    """Whether there is a null anywhere below an array: an array is a value, so it could not mean removal."""
    if value is None:
        return in_array
    if isinstance(value, dict):
        return any(_has_array_null(child, in_array=in_array) for child in value.values())
    return isinstance(value, list) and any(_has_array_null(child, in_array=True) for child in value)
