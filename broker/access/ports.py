"""The ports through which the broker asks who a client is.

Knows: the question, the answer, the refusal.
Does not know: any way to decide.
Spec: v5 §3.1.4, §4.12; v3.1.1 §3.1.4, §5.4.1.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

from ..protocol.errors import BrokerError
from ..protocol.reason_codes import ReasonCode
from .principal import ClientCertificate, Permissions, Principal

__all__ = [
    "AccessRefusedError",
    "Authenticator",
    "ConnectRequest",
    "Continue",
    "EnhancedAuthenticator",
    "Permissions",
    "Success",
]


class AccessRefusedError(BrokerError):
    """The client is not let in; CONNACK carries `reason_code` (v5 [MQTT-3.1.4-2]).

    `detail` is for the log, never for the peer, and holds no raw peer bytes.
    """

    def __init__(self, reason_code: ReasonCode, detail: str) -> None:
        super().__init__(detail)
        self.reason_code = reason_code
        self.detail = detail


class ConnectRequest(Struct, frozen=True, kw_only=True):
    """What a CONNECT and its Network Connection say about the client.

    `client_id` is the one in effect: where the client sent none, the one that the Server assigned.
    `certificate` is one whose chain the TLS layer verified; `tenant` comes from the listener.
    """

    client_id: str
    version: int
    user_name: str | None = None
    password: bytes | None = None
    certificate: ClientCertificate | None = None
    listener: str
    tenant: str
    peer_address: str


class Authenticator(Protocol):
    """Decides who a client is. May wait; the broker reads nothing more from the client meanwhile."""

    async def authenticate(self, request: ConnectRequest) -> Principal:
        """Return the principal of `request`.

        Raises:
            AccessRefusedError: the client is not let in.
        """


class Continue(Struct, frozen=True):
    """The exchange goes on: the client gets `data`, and what it sends back goes to `proceed`.

    `proceed` answers and refuses like `EnhancedAuthenticator.start`.
    """

    data: bytes | None
    proceed: "Callable[[bytes | None], Awaitable[Continue | Success]]"


class Success(Struct, frozen=True):
    """The client is `principal`; it gets `data` with the good news."""

    principal: Principal
    data: bytes | None = None


class EnhancedAuthenticator(Protocol):
    """One method of enhanced authentication (v5 §4.12), which alone decides who its clients are.

    May wait like an `Authenticator`. One that runs again while the client is connected must give the same
    tenant, client id and identity, or the connection ends.
    """

    @property
    def method(self) -> str:
        """The Authentication Method that clients name."""

    async def start(self, request: ConnectRequest, data: bytes | None) -> Continue | Success:
        """Begin an exchange with the client's Authentication Data.

        The first one of a connection comes with CONNECT; later ones have no password in `request`.

        Raises:
            AccessRefusedError: the client is not let in, or does not stay.
        """
