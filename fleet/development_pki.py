"""The development PKI: a certificate authority and its certificates in one folder.

Knows: which files there are, when they are made again, how they are written.
Does not know: what is in a certificate (certificates), MQTT, who listens where.
Spec: RFC 5280 §4.1, §4.2.

The authority's key lies in the folder unencrypted: fit for one's own machine and for tests, not for a fleet.
"""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .certificates import (
    CLIENT_USAGE,
    SERVER_USAGE,
    expires_soon,
    has_hosts,
    is_issued_by,
    make_authority,
    make_leaf,
    new_key,
)
from .errors import NameRefusedError, PKIError

#: Hosts that the server's certificate always names.
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
OPERATOR_UNIT: Final = "operator"
#: A common name has at most 64 characters (RFC 5280 appendix A), a thing name up to 128.
_NAME: Final = re.compile(r"[A-Za-z0-9:_-]{1,64}")
_FILE_SIZE_MAXIMUM: Final = 64 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFiles:
    """PEM files of one identity: certificate, private key, and the authority to trust."""

    certificate: Path
    key: Path
    authority: Path


class DevelopmentPKI:
    """Makes and keeps the certificates under `folder`.

    Every call may be repeated: what still serves is kept, and what is missing, damaged, near its
    end or signed by another authority is made again. The authority itself is never replaced by
    another key without being asked, because others trust it already.

    Spec: RFC 5280 §4.1, §4.2.
    """

    def __init__(self, folder: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        self._authority_key = folder / "ca.key"
        self._now = now

    def ensure_authority(self) -> Path:
        """Make the authority unless it stands, and return its certificate's file.

        Raises:
            PKIError: the folder cannot be written, or holds an authority that cannot be used.
        """
        with self._locked():
            self._open_authority()
        return self.authority

    def ensure_server(self, hosts: Iterable[str] = ()) -> CertificateFiles:
        """Make the server's certificate for loopback and `hosts` (names or addresses) unless it stands.

        Raises:
            PKIError: the folder or the authority cannot be used.
        """
        return self._ensure(
            "server", common_name="localhost", usage=SERVER_USAGE, hosts=(*LOOPBACK_HOSTS, *hosts)
        )

    def ensure_device(self, name: str) -> CertificateFiles:
        """Make a device's certificate, whose common name is the thing name, unless it stands.

        Raises:
            NameRefusedError: the name is no thing name of 64 characters or fewer.
            PKIError: as in `ensure_server`.
        """
        return self._ensure(f"devices/{_checked(name)}", common_name=name, usage=CLIENT_USAGE)

    def ensure_devices(self, names: Iterable[str]) -> list[CertificateFiles]:
        """Make the certificates of many devices unless they stand: what `ensure_device` does, at once.

        The folder is locked and the authority read once. The disk is not waited for: what a power cut
        damages is made again by the next call.

        Raises:
            PKIError: as in `ensure_device`.
        """
        made = []
        with self._locked():
            authority = self._open_authority()
            for name in names:
                files = self._files(f"devices/{_checked(name)}")
                self._ensure_files(
                    files, authority, common_name=name, usage=CLIENT_USAGE, waits_for_disk=False
                )
                made.append(files)
        return made

    def ensure_operator(self, name: str) -> CertificateFiles:
        """Make an operator's certificate (organizational unit `operator`) unless it stands.

        Raises:
            PKIError: as in `ensure_device`.
        """
        stem = f"operators/{_checked(name)}"
        return self._ensure(stem, common_name=name, usage=CLIENT_USAGE, organizational_unit=OPERATOR_UNIT)

    def _ensure(
        self,
        stem: str,
        *,
        common_name: str,
        usage: x509.ObjectIdentifier,
        organizational_unit: str | None = None,
        hosts: tuple[str, ...] = (),
    ) -> CertificateFiles:
        files = self._files(stem)
        with self._locked():
            self._ensure_files(
                files,
                self._open_authority(),
                common_name=common_name,
                usage=usage,
                organizational_unit=organizational_unit,
                hosts=hosts,
            )
        return files

    def _files(self, stem: str) -> CertificateFiles:
        return CertificateFiles(
            certificate=self.folder / f"{stem}.pem", key=self.folder / f"{stem}.key", authority=self.authority
        )

    def _ensure_files(
        self,
        files: CertificateFiles,
        authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey],
        *,
        common_name: str,
        usage: x509.ObjectIdentifier,
        organizational_unit: str | None = None,
        hosts: tuple[str, ...] = (),
        waits_for_disk: bool = True,
    ) -> None:
        issuer, issuer_key = authority
        if self._still_serves(files, issuer, hosts):
            return
        key = new_key()
        certificate = make_leaf(
            key,
            common_name=common_name,
            usage=usage,
            authority=issuer,
            authority_key=issuer_key,
            now=self._now(),
            organizational_unit=organizational_unit,
            hosts=hosts,
        )
        _write_pair(files.certificate, certificate, files.key, key, waits_for_disk=waits_for_disk)

    def _still_serves(
        self, files: CertificateFiles, authority: x509.Certificate, hosts: tuple[str, ...]
    ) -> bool:
        try:
            certificate, key = _read_certificate(files.certificate), _read_key(files.key)
        except (FileNotFoundError, ValueError):
            return False  # Missing or damaged: a leaf is simply made again.
        return (
            certificate.public_key() == key.public_key()
            and is_issued_by(certificate, authority)
            and not expires_soon(certificate, now=self._now())
            and has_hosts(certificate, hosts)
        )

    def _open_authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        """Return the authority, new if there is none, renewed with its own key when it runs out."""
        advice = f"mend it, or remove {self.folder} to start with a new authority"
        key = _load(self._authority_key, _read_key, f"holds no EC private key in PEM; {advice}")
        certificate = _load(self.authority, _read_certificate, f"holds no certificate in PEM; {advice}")
        if certificate is not None and key is None:
            raise PKIError(f"{self._authority_key} is missing beside {self.authority.name}; {advice}")
        if certificate is not None and key is not None:
            if certificate.public_key() != key.public_key():
                raise PKIError(f"{self.authority} does not belong to {self._authority_key.name}; {advice}")
            if not expires_soon(certificate, now=self._now()):
                return certificate, key
        key = key or new_key()
        subject = certificate.subject if certificate else None
        certificate = make_authority(key, subject=subject, now=self._now())
        _write_pair(self.authority, certificate, self._authority_key, key)
        return certificate, key

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder against other processes, and turn every failure of the disk into one sentence."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            place = error.filename or self.folder
            raise PKIError(f"cannot use {place}: {error.strerror}; mend its permissions") from error


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NameRefusedError(
            f"{name!r} is no name for a certificate; use 1 to 64 characters of a-z A-Z 0-9 : _ -"
        )
    return name


def _load(path: Path, read: Callable[[Path], _T], complaint: str) -> _T | None:
    """Read a file of the authority; None if there is none."""
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except ValueError:
        raise PKIError(f"{path} {complaint}") from None


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_FILE_SIZE_MAXIMUM)


def _read_certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(_read_bounded(path))


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an EC private key; anything else is a ValueError."""
    try:
        key = serialization.load_pem_private_key(_read_bounded(path), password=None)
    except (TypeError, UnsupportedAlgorithm) as error:  # TypeError: the key is encrypted.
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC key")  # noqa: TRY004  (a damaged file, not a caller's mistake)
    return key


def _write_pair(
    certificate_path: Path,
    certificate: x509.Certificate,
    key_path: Path,
    key: ec.EllipticCurvePrivateKey,
    *,
    waits_for_disk: bool = True,
) -> None:
    """Write both files; a crash in between leaves a pair that does not match, which is made again."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key_path.parent.mkdir(mode=0o700, exist_ok=True)
    _write_atomic(key_path, pem, mode=0o600, waits_for_disk=waits_for_disk)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    _write_atomic(certificate_path, pem, mode=0o644, waits_for_disk=waits_for_disk)


def _write_atomic(path: Path, content: bytes, *, mode: int, waits_for_disk: bool) -> None:
    """Replace the file in one step; its content is never readable by more than `mode`, even for a moment."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            if waits_for_disk:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
