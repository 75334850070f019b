"""A certificate becomes a value, or the client is refused."""

import hashlib
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from broker.access import AccessRefusedError, check_validity, client_certificate
from broker.protocol.reason_codes import ReasonCode

NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2027, 1, 1, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())


def _certificate(
    subject: list[tuple[x509.ObjectIdentifier, str]], *extensions: x509.ExtensionType
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plant CA")]))
        .public_key(KEY.public_key())
        .serial_number(0xABCDEF)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, SHA256())


DEVICE = _certificate(
    [
        (NameOID.COMMON_NAME, "pump-7"),
        (NameOID.COMMON_NAME, "second"),
        (NameOID.ORGANIZATION_NAME, "Plant, Inc."),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "press-2"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "operator"),
        (NameOID.COUNTRY_NAME, "AT"),
        (NameOID.STATE_OR_PROVINCE_NAME, "Tirol"),
        (NameOID.LOCALITY_NAME, "Schwaz"),
        (NameOID.SERIAL_NUMBER, "0042"),
    ],
    x509.SubjectAlternativeName(
        [
            x509.DNSName("pump-7.plant"),
            x509.DNSName("pump-7"),
            x509.UniformResourceIdentifier("urn:pump:7"),
            x509.RFC822Name("pump@plant.example"),
            x509.IPAddress(ipaddress.ip_address("10.0.0.7")),
            x509.IPAddress(ipaddress.ip_address("fe80::7")),
        ]
    ),
    x509.AuthorityKeyIdentifier(b"\x01\xff", None, None),
).public_bytes(Encoding.DER)

BARE = _certificate([]).public_bytes(Encoding.DER)


def test_every_field_is_read() -> None:
    certificate = client_certificate(DEVICE)
    subject = certificate.subject
    assert subject.common_name == "pump-7"
    assert subject.organization == "Plant, Inc."
    assert subject.organizational_unit == "press-2", "the first value, so that a second makes no operator"
    assert (subject.country, subject.state, subject.locality) == ("AT", "Tirol", "Schwaz")
    assert subject.serial_number == "0042"
    assert subject.rfc4514.endswith("OU=press-2,O=Plant\\, Inc.,CN=second,CN=pump-7")
    assert certificate.issuer_common_name == "Plant CA"
    assert certificate.serial_number == "abcdef"
    names = certificate.subject_alternative_names
    assert names.dns == ("pump-7.plant", "pump-7")
    assert names.uri == ("urn:pump:7",)
    assert names.email == ("pump@plant.example",)
    assert names.ip == ("10.0.0.7", "fe80::7")
    assert certificate.fingerprint_sha256 == hashlib.sha256(DEVICE).hexdigest()
    spki = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.spki_sha256 == hashlib.sha256(spki).hexdigest()
    assert (certificate.not_before, certificate.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert certificate.authority_key_id == "01ff"


def test_what_a_certificate_lacks_is_absent() -> None:
    certificate = client_certificate(BARE)
    assert certificate.subject.common_name is None
    assert certificate.subject.rfc4514 == ""
    assert certificate.subject_alternative_names.dns == ()
    assert certificate.authority_key_id is None


@pytest.mark.parametrize("der", [b"", b"\x30", BARE[:-1], BARE + b"\0", b"\x30\x80" * 500, bytes(65_537)])
def test_what_is_no_certificate_is_refused(der: bytes) -> None:
    with pytest.raises(AccessRefusedError) as raised:
        client_certificate(der)
    assert raised.value.reason_code is ReasonCode.NOT_AUTHORIZED


def test_a_certificate_beyond_64_kib_is_refused_unread() -> None:
    with pytest.raises(AccessRefusedError, match="larger than 65536 bytes"):
        client_certificate(DEVICE + bytes(65_536))


@given(st.integers(0, len(DEVICE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_certificate(index: int, mask: int) -> None:
    changed = bytearray(DEVICE)
    changed[index] ^= mask
    try:
        certificate = client_certificate(bytes(changed))
    except AccessRefusedError:
        return
    assert certificate.fingerprint_sha256 != client_certificate(DEVICE).fingerprint_sha256


@pytest.mark.parametrize("now", [NOT_BEFORE, NOT_BEFORE + timedelta(days=1), NOT_AFTER])
def test_validity_includes_both_ends(now: datetime) -> None:
    check_validity(client_certificate(DEVICE), now)


@pytest.mark.parametrize(
    ("now", "detail"),
    [
        (NOT_BEFORE - timedelta(seconds=1), "client certificate is not valid yet"),
        (NOT_AFTER + timedelta(seconds=1), "client certificate has expired"),
    ],
)
def test_outside_its_validity_a_certificate_is_refused(now: datetime, detail: str) -> None:
    with pytest.raises(AccessRefusedError) as raised:
        check_validity(client_certificate(DEVICE), now)
    assert raised.value.reason_code is ReasonCode.NOT_AUTHORIZED
    assert raised.value.detail == detail
