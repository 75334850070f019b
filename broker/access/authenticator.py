"""Authentication by client certificate or password, authorization by rules.

Knows: which certificate makes a device, which an operator; when anonymous clients are let in.
Does not know: chains and revocation (the TLS layer), how a password is checked, files, clocks (`now`
is injected).
Spec: v5 §3.1.4, §5.4.1, §5.4.2; v3.1.1 §3.1.4, §5.4.1, §5.4.2.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ..protocol.reason_codes import ReasonCode
from .attributes import client_attributes
from .password_file import PasswordUsers
from .ports import AccessRefusedError, ConnectRequest
from .principal import ClientCertificate, Principal
from .reserved import DEFAULT_ROOT, ReservedTopics, is_thing_name
from .rules import Rule, RulePermissions
from .x509 import check_validity

OPERATOR_ROLE: Final = "operator"

_OPERATOR_UNIT: Final = "operator"
_NO_ROLES: Final[frozenset[str]] = frozenset()
_OPERATOR_ROLES: Final = frozenset({OPERATOR_ROLE})


class RulesAuthenticator:
    """An `Authenticator` that trusts a certificate; without one a password; without that nobody, or anybody.

    The Common Name of a certificate names a thing, unless its Organizational Unit makes it an operator's.
    Beside a certificate, and where there is no password file, user names and passwords are ignored:
    device SDKs send metrics there. A user name without a password proves nothing, and is no attempt to.

    Args:
        rules: what principals may do.
        passwords: the users of the password file, None where there is none.
        allow_anonymous: let clients in that prove nothing, and everybody use all topics but guarded ones.
        require_client_id_is_common_name: refuse devices whose Client Identifier is not their Common Name.
        now: the wall clock, as aware times.
        topics_root: the contract's reserved root.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        *,
        allow_anonymous: bool,
        require_client_id_is_common_name: bool,
        now: Callable[[], datetime],
        topics_root: str = DEFAULT_ROOT,
        passwords: PasswordUsers | None = None,
    ) -> None:
        self._rules = rules
        self._passwords = passwords
        self._allow_anonymous = allow_anonymous
        self._require_client_id_is_common_name = require_client_id_is_common_name
        self._now = now
        self._reserved = ReservedTopics(topics_root)

    def reload(self, rules: Sequence[Rule]) -> None:
        """Use `rules` for those who authenticate from now on; earlier principals keep their permissions."""
        self._rules = rules

    async def authenticate(self, request: ConnectRequest) -> Principal:
        """Return the principal of `request`.

        Raises:
            AccessRefusedError: the certificate is out of its time, the Client Identifier is not the
                device's, the password is wrong, or there is neither of them where one is needed.
        """
        certificate = request.certificate
        if certificate is not None:
            check_validity(certificate, self._now())
            if certificate.subject.organizational_unit == _OPERATOR_UNIT:
                return self.principal(request, roles=_OPERATOR_ROLES)
            return self.principal(request, thing_name=self._thing_name(certificate, request.client_id))
        user_name, password = request.user_name, request.password
        if self._passwords is not None and user_name is not None and password is not None:
            await self._passwords.check(user_name, password)
            return self.principal(request, user_name=user_name)
        if self._allow_anonymous:
            return self.principal(request)
        raise AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "the client has no certificate and no password")

    def principal(
        self,
        request: ConnectRequest,
        *,
        user_name: str | None = None,
        thing_name: str | None = None,
        roles: frozenset[str] = _NO_ROLES,
    ) -> Principal:
        """Return who `request` is from, with what the rules let such a client do.

        For methods of enhanced authentication too: they give what they have verified.
        """
        attributes = client_attributes(
            client_id=request.client_id,
            tenant=request.tenant,
            listener=request.listener,
            user_name=user_name,
            thing_name=thing_name,
            roles=roles,
            certificate=request.certificate,
        )
        return Principal(
            tenant=request.tenant,
            client_id=request.client_id,
            user_name=user_name,
            certificate=request.certificate,
            thing_name=thing_name,
            roles=roles,
            permissions=RulePermissions(
                self._rules, attributes, reserved=self._reserved, is_open=self._allow_anonymous
            ),
        )

    def _thing_name(self, certificate: ClientCertificate, client_id: str) -> str | None:
        common_name = certificate.subject.common_name
        if self._require_client_id_is_common_name and client_id != common_name:
            raise AccessRefusedError(
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                "the Client Identifier is not the Common Name of the device's certificate",
            )
        return common_name if common_name is not None and is_thing_name(common_name) else None
