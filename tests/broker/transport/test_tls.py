"""The TLS contexts of listeners: what they ask of clients, and when there is a new one."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from broker.settings import ListenerSettings
from broker.transport.tls import ListenerTLS, TLSFilesError, server_context
from fleet import CertificateFiles, DevelopmentPKI


@pytest.fixture
def pki(tmp_path: Path) -> DevelopmentPKI:
    return DevelopmentPKI(tmp_path / "pki")


@pytest.fixture
def files(pki: DevelopmentPKI) -> CertificateFiles:
    return pki.ensure_server()


def listener_tls(files: CertificateFiles, scheme: str = "mtls", **fields: Any) -> ListenerTLS:
    values = {"certificate": files.certificate, "key": files.key, "client_ca": files.authority, **fields}
    settings = ListenerSettings.model_validate({"url": f"{scheme}://127.0.0.1:0", **values})
    return ListenerTLS(settings, name="test")


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends of a connection without a network, its handshake done and its tickets delivered."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = server.wrap_bio(to_server, to_client, server_side=True)
    there = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    unfinished = [there, here]
    for _ in range(10):
        for end in tuple(unfinished):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            unfinished.remove(end)
    assert not unfinished
    here.write(b"x")
    assert there.read(1) == b"x"
    return here, there


def client_context(authority: Path, files: CertificateFiles | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if files is not None:
        context.load_cert_chain(files.certificate, files.key)
    return context


def test_mtls_insists_on_a_certificate(pki: DevelopmentPKI, files: CertificateFiles) -> None:
    server = listener_tls(files).context
    assert shake_hands(server, client_context(files.authority, pki.ensure_device("a")))[0].getpeercert()
    with pytest.raises(ssl.SSLError, match="did not return a certificate"):
        shake_hands(server, client_context(files.authority))


def test_tls_takes_a_certificate_from_those_that_have_one(
    pki: DevelopmentPKI, files: CertificateFiles, tmp_path: Path
) -> None:
    server = listener_tls(files, "tls").context
    assert shake_hands(server, client_context(files.authority, pki.ensure_device("a")))[0].getpeercert()
    assert not shake_hands(server, client_context(files.authority))[0].getpeercert()
    theirs = DevelopmentPKI(tmp_path / "theirs").ensure_device("a")
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        shake_hands(server, client_context(files.authority, theirs))


def test_tls_without_authorities_asks_for_no_certificate(
    pki: DevelopmentPKI, files: CertificateFiles
) -> None:
    server = listener_tls(files, "tls", client_ca=None).context
    assert not shake_hands(server, client_context(files.authority, pki.ensure_device("a")))[0].getpeercert()


@pytest.mark.parametrize(
    ("scheme", "offered", "chosen"),
    [
        ("mtls", ["x-amzn-mqtt-ca"], "x-amzn-mqtt-ca"),
        ("mtls", ["mqtt"], "mqtt"),
        ("mtls", ["h2"], None),
        ("wss", ["h2", "http/1.1"], "http/1.1"),
    ],
)
def test_alpn_chooses_what_is_spoken(
    pki: DevelopmentPKI, files: CertificateFiles, scheme: str, offered: list[str], chosen: str | None
) -> None:
    client = client_context(files.authority, pki.ensure_device("a"))
    client.set_alpn_protocols(offered)
    here, _ = shake_hands(listener_tls(files, scheme).context, client)
    assert here.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("has_tickets", [False, True])
def test_sessions_are_resumed_only_with_tickets(
    pki: DevelopmentPKI, files: CertificateFiles, version: ssl.TLSVersion, has_tickets: bool
) -> None:
    server = listener_tls(files, session_tickets=has_tickets).context
    client = client_context(files.authority, pki.ensure_device("a"))
    client.maximum_version = version
    _, there = shake_hands(server, client)
    here, again = shake_hands(server, client, there.session)
    assert again.session_reused is has_tickets
    assert here.getpeercert(), "a resumed client has its certificate still"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_new_context_resumes_no_session_of_the_old_one(
    pki: DevelopmentPKI, files: CertificateFiles, version: ssl.TLSVersion
) -> None:
    tls = listener_tls(files, session_tickets=True)
    client = client_context(files.authority, pki.ensure_device("a"))
    client.maximum_version = version
    _, there = shake_hands(tls.context, client)
    tls.refresh(is_forced=True)
    assert not shake_hands(tls.context, client, there.session)[1].session_reused


class TestRefresh:
    @pytest.fixture
    def tls(self, files: CertificateFiles) -> ListenerTLS:
        return listener_tls(files)

    @pytest.fixture
    def log(self) -> Iterator[list[Any]]:
        with capture_logs() as events:
            yield events

    def test_files_that_stay_leave_the_context(self, tls: ListenerTLS) -> None:
        before = tls.context
        tls.refresh()
        tls.refresh()
        assert tls.context is before

    def test_changed_files_are_used_at_the_second_look(
        self, tls: ListenerTLS, files: CertificateFiles, log: list[Any]
    ) -> None:
        before = tls.context
        touch(files.authority, 1)
        tls.refresh()
        assert tls.context is before, "the files may still be being written"
        tls.refresh()
        assert tls.context is not before
        assert [event["event"] for event in log] == ["listener.tls_renewed"]

    def test_files_that_still_change_are_waited_for(self, tls: ListenerTLS, files: CertificateFiles) -> None:
        before = tls.context
        for number in range(4):
            touch(files.authority, number)
            tls.refresh()
        assert tls.context is before

    def test_a_bad_file_keeps_the_old_context_and_is_told_once(
        self, tls: ListenerTLS, files: CertificateFiles, log: list[Any]
    ) -> None:
        before = tls.context
        files.authority.write_text("hello")
        for _ in range(5):
            tls.refresh()
        assert tls.context is before
        (told,) = log
        assert (told["event"], told["log_level"]) == ("listener.tls_kept", "error")
        assert str(files.authority) in told["reason"]

    def test_a_mended_file_is_used(self, tls: ListenerTLS, files: CertificateFiles, log: list[Any]) -> None:
        before, good = tls.context, files.key.read_bytes()
        files.key.unlink()
        tls.refresh()
        tls.refresh()
        files.key.write_bytes(good)
        tls.refresh()
        tls.refresh()
        assert tls.context is not before
        assert [event["event"] for event in log] == ["listener.tls_kept", "listener.tls_renewed"]

    def test_force_waits_for_nothing(self, tls: ListenerTLS, log: list[Any]) -> None:
        before = tls.context
        tls.refresh(is_forced=True)
        assert tls.context is not before
        tls.refresh()
        assert len(log) == 1

    def test_an_authority_whose_time_is_over_makes_a_new_context(
        self, tls: ListenerTLS, files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = tls.context
        monkeypatch.setattr("time.time", lambda: 1e11)
        tls.refresh()
        tls.refresh()
        after = tls.context
        assert after is not before
        tls.refresh()
        tls.refresh()
        assert tls.context is after


def touch(path: Path, number: int) -> None:
    """Give the file another time of change."""
    os.utime(path, ns=(number, number))


def test_an_encrypted_key_is_an_error_that_names_the_file(files: CertificateFiles, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(TLSFilesError, match=r"locked\.key"):
        server_context(certificate=files.certificate, key=locked)
