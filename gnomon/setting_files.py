"""The files that settings name, looked at before anything starts.

Knows: which files a listener needs, how their faults are told, when the development PKI steps in.
Does not know: how TLS is spoken, what the rules say.
Spec: none.
"""

import ssl
from pathlib import Path
from typing import Final, NoReturn

from broker.access import (
    PASSWORD_FILE_SIZE_MAXIMUM,
    PasswordFileError,
    Rule,
    RulesError,
    builtin_rules,
    parse_password_file,
    parse_rules,
)
from broker.settings import BrokerSettings
from fleet import DevelopmentPKI, PKIError

from .errors import ConfigurationError, EnvironmentFailureError

_FILE_SIZE_MAXIMUM: Final = 1024 * 1024
_UNSPECIFIED_HOSTS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  (compared with, never bound to)


def with_development_pki(settings: BrokerSettings, folder: Path) -> BrokerSettings:
    """Give every TLS listener that names no files those of the development PKI in `folder`.

    A wss listener gets no authority: browsers would ask for certificates that nobody has.

    Raises:
        EnvironmentFailureError: the development PKI cannot be made or used.
    """
    needy = [item for item in settings.listeners if item.is_tls and item.certificate is None]
    if not needy:
        return settings
    hosts = sorted({listener.host for listener in needy} - _UNSPECIFIED_HOSTS)
    try:
        files = DevelopmentPKI(folder).ensure_server(hosts)
    except PKIError as error:
        raise EnvironmentFailureError(f"development PKI: {error}") from error
    server = {"certificate": files.certificate, "key": files.key}
    mutual = {**server, "client_ca": files.authority}
    listeners = tuple(
        item.model_copy(update=server if item.is_websocket else mutual) if item in needy else item
        for item in settings.listeners
    )
    return settings.model_copy(update={"listeners": listeners})


def check_listener_files(settings: BrokerSettings) -> None:
    """Check that every certificate, key and authority file can be read and that they fit together.

    Raises:
        ConfigurationError: one sentence with the key, the file and what would be right.
    """
    for position, listener in enumerate(settings.listeners):
        place = f"broker.listeners[{position}]"
        if listener.certificate is not None and listener.key is not None:
            _check_pair(place, listener.certificate, listener.key)
        if listener.client_ca is not None:
            _check_authority(f"{place}.client_ca", listener.client_ca)


def load_rules(settings: BrokerSettings) -> tuple[Rule, ...]:
    """Return the rules of the rules file, or the built-in ones.

    Raises:
        ConfigurationError: one sentence with the file, the rule and what would be right.
    """
    if settings.rules_file is None:
        return builtin_rules(settings.topics_root)
    content = _read("broker.rules_file", settings.rules_file, "a readable TOML file of rules")
    try:
        return parse_rules(content.decode(), source=str(settings.rules_file))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{settings.rules_file}: not UTF-8; save it as UTF-8 text") from None
    except RulesError as error:
        raise ConfigurationError(str(error)) from None


def load_passwords(path: Path | None) -> dict[str, str] | None:
    """Return hash by user name of a password file, None where none is set.

    Raises:
        ConfigurationError: one sentence with the file, the line and what would be right.
    """
    if path is None:
        return None
    wanted = "a file that `gnomon password set` wrote"
    content = _read("broker.password_file", path, wanted, PASSWORD_FILE_SIZE_MAXIMUM)
    try:
        return parse_password_file(content.decode(), source=str(path))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8; save it as UTF-8 text") from None
    except PasswordFileError as error:
        raise ConfigurationError(str(error)) from None


def _check_pair(place: str, certificate: Path, key: Path) -> None:
    _read(f"{place}.certificate", certificate, "a PEM file of the server's certificate chain")
    _read(f"{place}.key", key, "a PEM file of the server's private key")

    def refuse_password() -> NoReturn:  # OpenSSL would ask on the terminal.
        raise ConfigurationError(f"{place}.key: {key}: is encrypted; name a key file without a password")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=refuse_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(
                f"{place}.key: {key}: does not belong to {certificate}; name the key of that certificate"
            ) from None
        raise ConfigurationError(
            f"{place}.certificate: {certificate} and {key}: OpenSSL says {error.reason or 'not PEM'}; "
            "name a PEM certificate and its PEM private key"
        ) from None


def _check_authority(place: str, path: Path) -> None:
    wanted = "a PEM file of the authorities that client certificates must come from"
    _read(place, path, wanted)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigurationError(f"{place}: {path}: holds no certificate; name {wanted}") from None


def _read(place: str, path: Path, wanted: str, size_maximum: int = _FILE_SIZE_MAXIMUM) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(size_maximum + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{place}: {path}: cannot be read: {error.strerror}; name {wanted}"
        ) from None
    if len(content) > size_maximum:
        raise ConfigurationError(f"{place}: {path}: larger than {size_maximum} bytes; name {wanted}")
    return content
