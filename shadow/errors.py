"""Errors of the shadow engine, sorted by whose fault they are.

Knows: the code and the text that each refusal carries on the wire.
Does not know: topics, how a refusal is published.
Spec: AWS IoT device shadow service, error messages of the MQTT `rejected` topics.
"""

from typing import ClassVar


class ShadowError(Exception):
    """Root of every error that this package raises on purpose."""


class ShadowStoreError(ShadowError):
    """The store could not read or write; nothing of the batch is durable, and a later try may work."""


class ShadowConflictError(ShadowStoreError):
    """Another process has changed a shadow meanwhile; nothing of the batch is durable."""


class RequestError(ShadowError):
    """A request is refused: `code` and the text go to the `rejected` topic.

    The texts are the service's own. Of what the peer sent they hold names at most, cut short.

    Attributes:
        code: the error code, equal to the HTTP status of the same refusal.
        client_token: the request's token, where it had a readable one; the reply must repeat it.
    """

    code: ClassVar[int]
    text: ClassVar[str]

    def __init__(self, message: str | None = None, *, client_token: str | None = None) -> None:
        super().__init__(message or self.text)
        self.client_token = client_token

    @property
    def message(self) -> str:
        """The text for the peer."""
        return str(self)


class InvalidRequestError(RequestError):
    """The request document breaks a rule."""

    code = 400
    text = "Invalid JSON"


class ShadowNotFoundError(RequestError):
    """The shadow does not exist; for a classic shadow the quoted name is the thing's."""

    code = 404
    text = "No shadow exists"

    def __init__(self, name: str, *, client_token: str | None = None) -> None:
        super().__init__(f"No shadow exists with name: '{name}'", client_token=client_token)


class VersionConflictError(RequestError):
    """The request names another version than the stored one."""

    code = 409
    text = "Version conflict"


class TooLargeError(RequestError):
    """The request, or the document that it would make, exceeds a size limit."""

    code = 413
    text = "The payload exceeds the maximum size allowed"


class UnsupportedEncodingError(RequestError):
    """The payload is not UTF-8."""

    code = 415
    text = "Unsupported documented encoding; supported encoding is UTF-8"  # The odd wording is the service's.


class ThrottledError(RequestError):
    """One connection has too many unanswered requests on one thing."""

    code = 429
    text = "Too many requests in flight"


class InternalFailureError(RequestError):
    """Our own fault: the store failed, or a bug."""

    code = 500
    text = "Internal service failure"
