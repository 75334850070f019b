"""X.509 certificates as values: what is in a development certificate, and when it no longer serves.

Knows: extensions, validity, names, when a certificate must be made again.
Does not know: files, folders, clocks (`now` is an argument).
Spec: RFC 5280 §4.1, §4.2; RFC 9525 §6.3.
"""

import ipaddress
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=365)
#: A certificate with less than this left is made again.
RENEW_BEFORE: Final = timedelta(days=30)
#: Peers whose clocks are a little behind still accept a new certificate.
_CLOCK_SKEW: Final = timedelta(minutes=5)
_ORGANIZATION: Final = "Gnomon development"

SERVER_USAGE: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_USAGE: Final = ExtendedKeyUsageOID.CLIENT_AUTH


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new EC P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(
    key: ec.EllipticCurvePrivateKey, *, subject: x509.Name | None, now: datetime
) -> x509.Certificate:
    """Return a self-signed authority certificate that may sign leaves only (path length 0).

    With the `subject` of an older certificate and its key, what that one signed stays valid.

    Spec: RFC 5280 §4.2.1.9.
    """
    subject = subject or _name(f"{_ORGANIZATION} CA {secrets.token_hex(4)}")
    usage = _key_usage(is_authority=True)
    builder = _builder(subject, subject, key, now, now + AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())


def make_leaf(
    key: ec.EllipticCurvePrivateKey,
    *,
    common_name: str,
    usage: x509.ObjectIdentifier,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    organizational_unit: str | None = None,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """Return a certificate for one server or client, signed by the authority.

    Spec: RFC 5280 §4.2.1.3, §4.2.1.6, §4.2.1.12.
    """
    not_after = min(now + LEAF_LIFE, authority.not_valid_after_utc)
    issuer_key_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_name(common_name, organizational_unit), authority.subject, key, now, not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key_id), critical=False
        )
    )
    if names := [general_name(host) for host in hosts]:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def expires_soon(certificate: x509.Certificate, *, now: datetime) -> bool:
    """Whether the certificate is not valid now, or not for much longer."""
    return not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's name and key signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def has_hosts(certificate: x509.Certificate, hosts: Iterable[str]) -> bool:
    """Whether the certificate's Subject Alternative Names hold every host."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        names: frozenset[x509.GeneralName] = frozenset()
    else:
        names = frozenset(extension.value)
    return all(general_name(host) in names for host in hosts)


def general_name(host: str) -> x509.GeneralName:
    """Return the Subject Alternative Name of a host name or IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    not_after: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str, organizational_unit: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION)]
    if organizational_unit is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, organizational_unit))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
