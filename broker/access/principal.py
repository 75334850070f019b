"""Who a client is, once authentication has said so.

Knows: the identity of a certificate and of a client; the questions that may be asked about its rights.
Does not know: how an identity was proven, what the answers are (rules).
Spec: RFC 5280 §4.1.2; v5 §4.12, §5.4.2; v3.1.1 §5.4.1, §5.4.2.
"""

from datetime import datetime
from typing import Final, Protocol

from msgspec import Struct

from ..protocol.packets import TopicFilter, TopicName

#: Begins the identity of whoever proved it by a password.
_USER: Final = "user/"


class CertificateSubject(Struct, frozen=True, kw_only=True):
    """The subject's Distinguished Name: the first value of each attribute, and the whole name as text."""

    common_name: str | None = None
    organization: str | None = None
    organizational_unit: str | None = None
    country: str | None = None
    state: str | None = None
    locality: str | None = None
    serial_number: str | None = None
    rfc4514: str = ""


class AlternativeNames(Struct, frozen=True, kw_only=True):
    """The subjectAltName extension (RFC 5280 §4.2.1.6), in the certificate's order."""

    dns: tuple[str, ...] = ()
    uri: tuple[str, ...] = ()
    email: tuple[str, ...] = ()
    ip: tuple[str, ...] = ()


class ClientCertificate(Struct, frozen=True, kw_only=True):
    """A client's certificate, after the TLS layer has verified its chain. Hex is lower case."""

    subject: CertificateSubject
    issuer_common_name: str | None
    serial_number: str
    subject_alternative_names: AlternativeNames
    fingerprint_sha256: str
    spki_sha256: str
    not_before: datetime
    not_after: datetime
    authority_key_id: str | None


class Permissions(Protocol):
    """What one principal may do. Answers are pure, so the engine may keep them.

    Topics are valid Topic Names and Topic Filters; a filter comes without its `$share/{group}/`.
    """

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        """May it publish to `topic`, with RETAIN set or not?"""

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        """May it subscribe to `topic_filter`? Messages still need `may_receive`."""

    def may_receive(self, topic: TopicName) -> bool:
        """May a message on `topic` be delivered to it?"""

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        """The highest QoS that a subscription to `topic_filter` is granted."""


class Principal(Struct, frozen=True, kw_only=True):
    """An authenticated client (or one that was let in without identity: no certificate, no user name).

    `user_name` is one that somebody verified, never merely what CONNECT said.
    """

    tenant: str
    client_id: str
    user_name: str | None
    certificate: ClientCertificate | None
    thing_name: str | None
    roles: frozenset[str]
    permissions: Permissions

    @property
    def identity(self) -> str | None:
        """Who this is across connections and certificates, None for a client without identity.

        `user/` keeps users apart from things, whose names have no slash, and from any certificate.
        """
        if self.certificate is not None:
            subject = self.certificate.subject
            if subject.common_name and not subject.common_name.startswith(_USER):
                return subject.common_name
            return subject.rfc4514
        return None if self.user_name is None else f"{_USER}{self.user_name}"
