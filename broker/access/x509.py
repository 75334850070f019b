"""The certificate of a client: bytes to a value, and whether it is in its time.

Knows: DER, Distinguished Names, alternative names, fingerprints.
Does not know: chains and revocation (the TLS layer), what a certificate permits (rules), clocks.
Spec: RFC 5280 §4.1, §4.2.1.1, §4.2.1.6; RFC 4514; v5 §5.4.2; v3.1.1 §5.4.1.
"""

import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ..protocol.reason_codes import ReasonCode
from .ports import AccessRefusedError
from .principal import AlternativeNames, CertificateSubject, ClientCertificate

#: Real client certificates have one to four KiB.
CERTIFICATE_SIZE_MAXIMUM: Final = 64 * 1024


def client_certificate(der: bytes) -> ClientCertificate:
    """Return the certificate that `der` holds. It proves nothing: the TLS layer verified the chain.

    Raises:
        AccessRefusedError: it is too large, or not readable in whole; fails closed.

    Spec: RFC 5280 §4.1.
    """
    if len(der) > CERTIFICATE_SIZE_MAXIMUM:
        raise AccessRefusedError(
            ReasonCode.NOT_AUTHORIZED, f"client certificate is larger than {CERTIFICATE_SIZE_MAXIMUM} bytes"
        )
    try:
        return _read(x509.load_der_x509_certificate(der))
    except Exception as error:  # Whatever a hostile certificate provokes is a refusal.
        raise AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "client certificate cannot be read") from error


def check_validity(certificate: ClientCertificate, now: datetime) -> None:
    """Check that `now`, an aware time, lies in the certificate's validity, both ends included.

    Raises:
        AccessRefusedError: it does not.

    Spec: RFC 5280 §4.1.2.5.
    """
    if now < certificate.not_before:
        raise AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "client certificate is not valid yet")
    if now > certificate.not_after:
        raise AccessRefusedError(ReasonCode.NOT_AUTHORIZED, "client certificate has expired")


def _read(certificate: x509.Certificate) -> ClientCertificate:
    subject = certificate.subject
    extensions = certificate.extensions
    public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ClientCertificate(
        subject=CertificateSubject(
            common_name=_first(subject, NameOID.COMMON_NAME),
            organization=_first(subject, NameOID.ORGANIZATION_NAME),
            organizational_unit=_first(subject, NameOID.ORGANIZATIONAL_UNIT_NAME),
            country=_first(subject, NameOID.COUNTRY_NAME),
            state=_first(subject, NameOID.STATE_OR_PROVINCE_NAME),
            locality=_first(subject, NameOID.LOCALITY_NAME),
            serial_number=_first(subject, NameOID.SERIAL_NUMBER),
            rfc4514=subject.rfc4514_string(),
        ),
        issuer_common_name=_first(certificate.issuer, NameOID.COMMON_NAME),
        serial_number=f"{certificate.serial_number:x}",
        subject_alternative_names=_alternative_names(extensions),
        fingerprint_sha256=certificate.fingerprint(SHA256()).hex(),
        spki_sha256=hashlib.sha256(public_key).hexdigest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        authority_key_id=_authority_key_id(extensions),
    )


def _first(name: x509.Name, oid: x509.ObjectIdentifier) -> str | None:
    for attribute in name.get_attributes_for_oid(oid):
        # Only BIT STRING values come as bytes, and none of the attributes that we read may be one.
        return attribute.value if isinstance(attribute.value, str) else None
    return None


def _alternative_names(extensions: x509.Extensions) -> AlternativeNames:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return AlternativeNames()
    return AlternativeNames(
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        uri=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        email=tuple(names.get_values_for_type(x509.RFC822Name)),
        ip=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def _authority_key_id(extensions: x509.Extensions) -> str | None:
    try:
        identifier = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return None
    return None if identifier is None else identifier.hex()
