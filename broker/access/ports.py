"""The port through which the broker asks who a client is.

Knows: the question, the answer, the refusal.
Does not know: any way to decide.
Spec: v5 §3.1.4, §4.12; v3.1.1 §3.1.4, §5.4.1.
"""

from typing import Protocol

from msgspec import Struct

from ..protocol.errors import BrokerError
from ..protocol.reason_codes import ReasonCode
from .principal import ClientCertificate, Permissions, Principal

__all__ = ["AccessRefusedError", "Authenticator", "ConnectRequest", "Permissions"]


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
