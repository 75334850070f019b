"""Files that settings name: told before the start if they cannot be used."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from broker.settings import BrokerSettings
from fleet import CertificateFiles, DevelopmentPKI
from gnomon.errors import ConfigurationError, EnvironmentFailureError
from gnomon.setting_files import check_listener_files, load_rules, with_development_pki


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return DevelopmentPKI(tmp_path / "pki").ensure_server()


def settings(**names: Path) -> BrokerSettings:
    query = "&".join(f"{key}={path}" for key, path in names.items())
    return BrokerSettings.model_validate({"listeners": [f"mtls://127.0.0.1:0?{query}"]})


def refusal(broker_settings: BrokerSettings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_listener_files(broker_settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_fit_together_pass(files: CertificateFiles) -> None:
    check_listener_files(settings(cert=files.certificate, key=files.key, ca=files.authority))


@pytest.mark.parametrize("wrong", ["cert", "key", "ca"])
def test_a_missing_file_is_told(files: CertificateFiles, tmp_path: Path, wrong: str) -> None:
    names = {
        "cert": files.certificate,
        "key": files.key,
        "ca": files.authority,
        wrong: tmp_path / "absent.pem",
    }
    field = {"cert": "certificate", "key": "key", "ca": "client_ca"}[wrong]
    sentence = refusal(settings(**names))
    assert sentence.startswith(f"broker.listeners[0].{field}: {tmp_path}/absent.pem: cannot be read: ")


@pytest.mark.parametrize("wrong", ["cert", "key", "ca"])
def test_a_file_that_is_not_pem_is_told(files: CertificateFiles, tmp_path: Path, wrong: str) -> None:
    other = tmp_path / "other.pem"
    other.write_text("hello")
    names = {"cert": files.certificate, "key": files.key, "ca": files.authority, wrong: other}
    assert str(other) in refusal(settings(**names))


def test_a_key_of_another_certificate_is_told(files: CertificateFiles, tmp_path: Path) -> None:
    key = DevelopmentPKI(tmp_path / "pki").ensure_device("lamp-1").key
    sentence = refusal(settings(cert=files.certificate, key=key, ca=files.authority))
    assert sentence.startswith(f"broker.listeners[0].key: {key}: does not belong to {files.certificate}")


def test_an_encrypted_key_is_told_instead_of_asking_for_its_password(files: CertificateFiles) -> None:
    key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    sentence = refusal(settings(cert=files.certificate, key=files.key, ca=files.authority))
    assert (
        sentence == f"broker.listeners[0].key: {files.key}: is encrypted; name a key file without a password"
    )


def test_only_mtls_listeners_without_files_get_the_development_pki(
    files: CertificateFiles, tmp_path: Path
) -> None:
    own = f"cert={files.certificate}&key={files.key}&ca={files.authority}"
    urls = ["tcp://127.0.0.1:0", f"mtls://127.0.0.1:0?{own}", "mtls://127.0.0.1:0"]
    made = with_development_pki(BrokerSettings.model_validate({"listeners": urls}), tmp_path / "made")
    assert [item.certificate for item in made.listeners] == [
        None,
        files.certificate,
        tmp_path / "made" / "server.pem",
    ]
    check_listener_files(made)


def test_the_development_pki_serves_every_kind_of_tls(tmp_path: Path) -> None:
    urls = ["mtls://127.0.0.1:0", "tls://127.0.0.1:0", "wss://127.0.0.1:0", "ws://127.0.0.1:0", "unix:///s"]
    made = with_development_pki(BrokerSettings.model_validate({"listeners": urls}), tmp_path / "made")
    assert [item.certificate is not None for item in made.listeners] == [True, True, True, False, False]
    assert [item.client_ca is not None for item in made.listeners] == [True, True, False, False, False]
    check_listener_files(made)


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_files_of_a_listener_without_authorities_are_checked_too(
    files: CertificateFiles, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:0?cert={files.certificate}&key={tmp_path}/absent.pem"
    assert "absent.pem: cannot be read" in refusal(BrokerSettings.model_validate({"listeners": [url]}))


def test_without_an_mtls_listener_no_pki_is_made(tmp_path: Path) -> None:
    with_development_pki(
        BrokerSettings.model_validate({"listeners": ["tcp://127.0.0.1:0"]}), tmp_path / "made"
    )
    assert not (tmp_path / "made").exists()


def test_a_broken_development_pki_is_told(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "ca.key").write_text("hello")
    with pytest.raises(EnvironmentFailureError, match=r"ca\.key holds no EC private key"):
        with_development_pki(BrokerSettings(), tmp_path / "made")


def test_without_a_rules_file_the_built_in_rules_hold() -> None:
    assert load_rules(BrokerSettings())


@pytest.mark.parametrize("content", [b"version = 2", b"version =", b"\xff"])
def test_a_wrong_rules_file_is_told_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"rules\.toml: "):
        load_rules(BrokerSettings(rules_file=path))


def test_a_missing_rules_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"broker\.rules_file: .*absent.* cannot be read"):
        load_rules(BrokerSettings(rules_file=tmp_path / "absent"))
