"""The attributes of a client that rules may ask for and insert into topics.

Knows: their names, and where each value comes from.
Does not know: rules, topics, how an identity was proven.
Spec: RFC 5280 §4.1.2; v5 §5.4.2; v3.1.1 §5.4.1.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from .principal import ClientCertificate

#: Values by attribute name; an attribute that the client lacks is absent. Several values keep their order.
Attributes = Mapping[str, tuple[str, ...]]

PRESENT: Final = "present"
ABSENT: Final = "absent"

_CERTIFICATE_FIELDS: Final[Mapping[str, Callable[[ClientCertificate], Iterable[str | None]]]] = {
    "cert.common_name": lambda certificate: [certificate.subject.common_name],
    "cert.organization": lambda certificate: [certificate.subject.organization],
    "cert.organizational_unit": lambda certificate: [certificate.subject.organizational_unit],
    "cert.country": lambda certificate: [certificate.subject.country],
    "cert.state": lambda certificate: [certificate.subject.state],
    "cert.locality": lambda certificate: [certificate.subject.locality],
    "cert.subject_serial_number": lambda certificate: [certificate.subject.serial_number],
    "cert.subject": lambda certificate: [certificate.subject.rfc4514],
    "cert.issuer_common_name": lambda certificate: [certificate.issuer_common_name],
    "cert.serial_number": lambda certificate: [certificate.serial_number],
    "cert.fingerprint_sha256": lambda certificate: [certificate.fingerprint_sha256],
    "cert.spki_sha256": lambda certificate: [certificate.spki_sha256],
    "cert.authority_key_id": lambda certificate: [certificate.authority_key_id],
    "cert.dns": lambda certificate: certificate.subject_alternative_names.dns,
    "cert.uri": lambda certificate: certificate.subject_alternative_names.uri,
    "cert.email": lambda certificate: certificate.subject_alternative_names.email,
    "cert.ip": lambda certificate: certificate.subject_alternative_names.ip,
}

#: What `${...}` may name. Where an attribute has several values the first is inserted.
PLACEHOLDERS: Final = frozenset(
    {"client_id", "user_name", "tenant", "thing_name", "listener", *_CERTIFICATE_FIELDS}
)
#: What `when` may ask for. Where an attribute has several values one of them must fit.
CONDITIONS: Final = PLACEHOLDERS | {"role", "certificate"}


def client_attributes(
    *,
    client_id: str,
    tenant: str,
    listener: str,
    user_name: str | None,
    thing_name: str | None,
    roles: frozenset[str],
    certificate: ClientCertificate | None,
) -> Attributes:
    """Return the attributes of one client. Empty values count as absent."""
    values: dict[str, Iterable[str | None]] = {
        "client_id": [client_id],
        "tenant": [tenant],
        "listener": [listener],
        "user_name": [user_name],
        "thing_name": [thing_name],
        "role": roles,
        "certificate": [ABSENT if certificate is None else PRESENT],
    }
    if certificate is not None:
        values.update((name, field(certificate)) for name, field in _CERTIFICATE_FIELDS.items())
    present = ((name, tuple(filter(None, some))) for name, some in values.items())
    return {name: some for name, some in present if some}
