"""The development PKI: what it makes, keeps and makes again."""

import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from fleet import CertificateFiles, DevelopmentPKI, NameRefusedError, PKIError
from fleet.certificates import AUTHORITY_LIFE, LEAF_LIFE

DAY = timedelta(days=1)


class Clock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pki(tmp_path: Path, clock: Clock) -> DevelopmentPKI:
    return DevelopmentPKI(tmp_path / "pki", now=clock)


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def name_of(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str | bytes]:
    return [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]


def handshake(server: CertificateFiles, client: CertificateFiles, *, host: str) -> dict[str, object]:
    """Run a mutual TLS handshake in memory and return the client's certificate as the server sees it."""
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.authority)
    server_context.load_cert_chain(server.certificate, server.key)
    server_context.verify_mode = ssl.CERT_REQUIRED
    client_context = ssl.create_default_context(cafile=client.authority)
    client_context.load_cert_chain(client.certificate, client.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client_context.wrap_bio(to_client, to_server, server_hostname=host),
        server_context.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(8):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    certificate = sides[1].getpeercert()
    assert certificate is not None
    return dict(certificate)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_device_and_the_server_trust_each_other_over_mutual_tls(pki: DevelopmentPKI, host: str) -> None:
    seen = handshake(pki.ensure_server(), pki.ensure_device("lamp-1"), host=host)
    assert (("commonName", "lamp-1"),) in seen["subject"]  # type: ignore[operator]  # typeshed: a plain object


def test_the_strict_verifier_accepts_the_server_certificate(pki: DevelopmentPKI, clock: Clock) -> None:
    files = pki.ensure_server()
    store = Store([load(files.authority)])
    verifier = PolicyBuilder().store(store).time(clock.now).build_server_verifier(x509.DNSName("localhost"))
    assert len(verifier.verify(load(files.certificate), [])) == 2


def test_the_authority_may_sign_leaves_only(pki: DevelopmentPKI) -> None:
    authority = load(pki.ensure_authority())
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert usage.value.crl_sign
    assert not usage.value.digital_signature


def test_leaves_are_no_authorities_and_name_the_key_that_signed_them(pki: DevelopmentPKI) -> None:
    leaf = load(pki.ensure_device("lamp-1").certificate)
    authority_key_id = load(pki.authority).extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    key_id = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert constraints.critical
    assert not constraints.value.ca
    assert key_id == authority_key_id.digest


def test_each_role_has_its_extended_key_usage_and_names(pki: DevelopmentPKI) -> None:
    server, device, operator = (
        load(files.certificate)
        for files in (pki.ensure_server(), pki.ensure_device("lamp-1"), pki.ensure_operator("ada"))
    )
    usages = [
        list(each.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for each in (server, device, operator)
    ]
    client_auth = [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert usages == [[ExtendedKeyUsageOID.SERVER_AUTH], client_auth, client_auth]
    assert name_of(device, NameOID.COMMON_NAME) == ["lamp-1"]
    assert name_of(device, NameOID.ORGANIZATIONAL_UNIT_NAME) == []
    assert name_of(operator, NameOID.COMMON_NAME) == ["ada"]
    assert name_of(operator, NameOID.ORGANIZATIONAL_UNIT_NAME) == ["operator"]


def test_keys_and_their_folders_are_private(pki: DevelopmentPKI) -> None:
    files = [pki.ensure_server().key, pki.ensure_device("lamp-1").key, pki.folder / "ca.key"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600] * 3
    assert stat.S_IMODE(pki.folder.stat().st_mode) == 0o700


def test_a_second_call_changes_nothing(pki: DevelopmentPKI) -> None:
    def contents() -> dict[Path, bytes]:
        pki.ensure_server()
        pki.ensure_device("lamp-1")
        pki.ensure_operator("ada")
        return {file: file.read_bytes() for file in pki.folder.rglob("*") if file.is_file()}

    first = contents()
    assert contents() == first
    stems = ("ca", "server", "devices/lamp-1", "operators/ada")
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("pem", "key")} | {".lock"}
    assert {str(file.relative_to(pki.folder)) for file in first} == expected


def test_a_leaf_near_its_end_is_made_again(pki: DevelopmentPKI, clock: Clock) -> None:
    before = pki.ensure_device("lamp-1").certificate.read_bytes()
    clock.now += LEAF_LIFE - 31 * DAY
    assert pki.ensure_device("lamp-1").certificate.read_bytes() == before
    clock.now += 2 * DAY
    assert pki.ensure_device("lamp-1").certificate.read_bytes() != before


def test_a_renewed_authority_keeps_its_key_so_that_old_leaves_stay_good(
    pki: DevelopmentPKI, clock: Clock
) -> None:
    before = load(pki.ensure_authority())
    clock.now += AUTHORITY_LIFE - 60 * DAY
    leaf = load(pki.ensure_device("lamp-1").certificate)
    clock.now += 40 * DAY
    after = load(pki.ensure_authority())
    assert after.serial_number != before.serial_number
    leaf.verify_directly_issued_by(after)


def test_no_leaf_outlives_its_authority(pki: DevelopmentPKI, clock: Clock) -> None:
    authority = load(pki.ensure_authority())
    clock.now += AUTHORITY_LIFE - 60 * DAY
    assert load(pki.ensure_device("lamp-1").certificate).not_valid_after_utc == authority.not_valid_after_utc


def test_a_server_certificate_without_a_wanted_host_is_made_again(pki: DevelopmentPKI) -> None:
    before = pki.ensure_server().certificate.read_bytes()
    files = pki.ensure_server(["broker.example", "192.0.2.7"])
    names = load(files.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert files.certificate.read_bytes() != before
    assert {"localhost", "broker.example"} <= set(names.get_values_for_type(x509.DNSName))
    assert "192.0.2.7" in {str(address) for address in names.get_values_for_type(x509.IPAddress)}


@pytest.mark.parametrize("damage", ["certificate", "key", "other key"])
def test_a_damaged_leaf_is_made_again(pki: DevelopmentPKI, damage: str) -> None:
    files, other = pki.ensure_device("lamp-1"), pki.ensure_device("lamp-2")
    match damage:
        case "certificate":
            files.certificate.write_text("-----BEGIN CERTIFICATE-----\nnot base64")
        case "key":
            files.key.write_bytes(b"\0")
        case _:
            files.key.write_bytes(other.key.read_bytes())
    assert handshake(pki.ensure_server(), pki.ensure_device("lamp-1"), host="localhost")


def test_a_leaf_of_another_authority_is_made_again(pki: DevelopmentPKI, tmp_path: Path) -> None:
    ours, theirs = pki.ensure_device("lamp-1"), DevelopmentPKI(tmp_path / "other").ensure_device("lamp-1")
    ours.certificate.write_bytes(theirs.certificate.read_bytes())
    ours.key.write_bytes(theirs.key.read_bytes())
    assert handshake(pki.ensure_server(), pki.ensure_device("lamp-1"), host="localhost")


@pytest.mark.parametrize("missing", ["ca.key", "ca.pem"])
def test_an_authority_without_its_key_is_never_replaced_silently(pki: DevelopmentPKI, missing: str) -> None:
    key = load(pki.ensure_authority()).public_key()
    (pki.folder / missing).unlink()
    if missing == "ca.pem":
        assert load(pki.ensure_authority()).public_key() == key
        return
    with pytest.raises(PKIError, match=r"ca\.key is missing beside ca\.pem; mend it, or remove"):
        pki.ensure_authority()


def _rsa_key() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", _rsa_key()], ids=["empty", "garbage", "rsa"])
def test_a_damaged_authority_stops_with_a_sentence(pki: DevelopmentPKI, content: bytes) -> None:
    pki.ensure_authority()
    (pki.folder / "ca.key").write_bytes(content)
    with pytest.raises(PKIError, match=r"ca\.key holds no EC private key in PEM; mend it, or remove"):
        pki.ensure_server()


def test_an_authority_with_a_foreign_key_stops_with_a_sentence(pki: DevelopmentPKI, tmp_path: Path) -> None:
    pki.ensure_authority()
    DevelopmentPKI(tmp_path / "other").ensure_authority()
    (pki.folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(PKIError, match=r"ca\.pem does not belong to ca\.key"):
        pki.ensure_device("lamp-1")


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65, "a b", "a\n", "é", "$aws", "a\0"])
def test_a_name_that_is_no_thing_name_is_refused(pki: DevelopmentPKI, name: str) -> None:
    with pytest.raises(PKIError, match="use 1 to 64 characters"):
        pki.ensure_device(name)
    with pytest.raises(PKIError, match="use 1 to 64 characters"):
        pki.ensure_operator(name)
    assert not pki.folder.exists()


def test_a_folder_that_cannot_be_made_stops_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PKIError, match=r"cannot use .*file.*: Not a directory"):
        DevelopmentPKI(tmp_path / "file" / "pki").ensure_authority()


def test_many_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    names = [f"lamp-{number}" for number in range(8)]
    made: dict[str, CertificateFiles] = {}

    def make(name: str) -> None:
        made[name] = DevelopmentPKI(tmp_path / "pki").ensure_device(name)

    threads = [threading.Thread(target=make, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    authority = load(tmp_path / "pki" / "ca.pem")
    assert sorted(made) == names
    for files in made.values():
        load(files.certificate).verify_directly_issued_by(authority)


def test_many_devices_get_what_one_gets_and_keep_it(pki: DevelopmentPKI) -> None:
    single = pki.ensure_device("one")
    before = single.certificate.read_bytes()
    made = pki.ensure_devices(["one", "two", "three"])
    assert made[0] == single
    assert single.certificate.read_bytes() == before
    for name, files in zip(("one", "two", "three"), made, strict=True):
        assert name_of(load(files.certificate), NameOID.COMMON_NAME) == [name]
        handshake(pki.ensure_server(), files, host="localhost")
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    made[1].key.write_bytes(b"")
    assert pki.ensure_devices(["two"]) == [made[1]]
    handshake(pki.ensure_server(), made[1], host="localhost")


def test_one_name_that_cannot_be_used_is_refused_among_many(pki: DevelopmentPKI) -> None:
    with pytest.raises(NameRefusedError, match="use 1 to 64 characters"):
        pki.ensure_devices(["one", "a/b"])
