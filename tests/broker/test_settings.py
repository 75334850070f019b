"""Settings of the broker: listener URLs and limits."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from broker.settings import BrokerSettings, LimitSettings, ListenerSettings


def listener(text: str) -> ListenerSettings:
    return ListenerSettings.model_validate(text)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port"),
    [
        ("tcp://127.0.0.1:0", "tcp", "127.0.0.1", 0),
        ("tcp://[::1]:1883", "tcp", "::1", 1883),
        ("mtls://broker.example:8883", "mtls", "broker.example", 8883),
        ("tcp://192.0.2.1:65535", "tcp", "192.0.2.1", 65535),
    ],
)
def test_a_url_names_scheme_host_and_port(url: str, scheme: str, host: str, port: int) -> None:
    parsed = listener(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.url) == (scheme, host, port, url)


def test_the_query_of_a_url_fills_the_fields() -> None:
    parsed = listener(
        "mtls://127.0.0.1:8883?cert=/a/c%2Bd.pem&key=k+1.pem&ca=ca.pem&name=devices&tenant=acme"
    )
    assert parsed == ListenerSettings(
        url="mtls://127.0.0.1:8883",
        certificate=Path("/a/c+d.pem"),
        key=Path("k+1.pem"),
        client_ca=Path("ca.pem"),
        name="devices",
        tenant="acme",
    )


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "'' is not a listener URL"),
        ("127.0.0.1:1883", "is not a listener URL; use tcp://HOST:PORT or mtls://HOST:PORT"),
        ("mqtt://127.0.0.1:1883", "is not a listener URL"),
        ("tcp:127.0.0.1:1883", "is not a listener URL"),
        ("TCP://127.0.0.1:1883", "is not a listener URL"),
        ("tcp://127.0.0.1", "names no port"),
        ("tcp://::1:1883", "IPv6 as"),
        ("tcp://[::1", "IPv6 as"),
        ("tcp://127.0.0.1:65536", "no usable host or port"),
        ("tcp://127.0.0.1:-1", "no usable host or port"),
        ("tcp://127.0.0.1:x", "no usable host or port"),
        ("tcp://:1883", "and nothing more"),
        ("tcp://user@127.0.0.1:1883", "and nothing more"),
        ("tcp://127.0.0.1:1883/", "and nothing more"),
        ("tcp://127.0.0.1:1883#x", "and nothing more"),
        ("tcp://a b:1883", "and nothing more"),
        ("tcp://127.0.0.1:1883?foo=1", "unknown key 'foo'"),
        ("tcp://127.0.0.1:1883?name=", "needs exactly one value"),
        ("tcp://127.0.0.1:1883?name=a&name=b", "needs exactly one value"),
        ("tcp://127.0.0.1:1883?cert=a", "certificate belongs to an mtls:// listener"),
        ("mtls://127.0.0.1:8883?cert=a&key=b", "client_ca is missing"),
        *((f"{later}://127.0.0.1:1", "come with a later release") for later in ("tls", "ws", "wss", "unix")),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_a_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        listener(url)
    assert sentence in str(caught.value)


def test_a_field_may_not_be_given_twice() -> None:
    with pytest.raises(ValidationError, match="given both in the URL and as a key"):
        ListenerSettings.model_validate({"url": "tcp://127.0.0.1:1?name=a", "name": "b"})


def test_listeners_without_a_name_are_named_after_scheme_and_position() -> None:
    urls = ["tcp://127.0.0.1:0", "mtls://127.0.0.1:0", "tcp://127.0.0.1:0?name=inside"]
    settings = BrokerSettings.model_validate({"listeners": urls})
    assert [item.name for item in settings.listeners] == ["tcp-1", "mtls-2", "inside"]


@pytest.mark.parametrize(
    ("urls", "sentence"),
    [
        (["tcp://a:1?name=x", "tcp://b:1?name=x"], "two listeners have the name x"),
        (["tcp://a:1", "mtls://a:1"], "two listeners have the address a:1"),
        ([], "at least 1 item"),
    ],
)
def test_listeners_that_exclude_each_other_are_refused(urls: list[str], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        BrokerSettings.model_validate({"listeners": urls})


def test_the_defaults_are_closed_to_strangers_and_to_other_machines() -> None:
    settings = BrokerSettings()
    assert [item.url for item in settings.listeners] == ["mtls://127.0.0.1:8883"]
    assert not settings.allow_anonymous
    assert settings.require_client_id_is_common_name


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        ("maximum_packet_size", 268_435_460, 268_435_461),
        ("receive_maximum", 65_535, 65_536),
        ("receive_maximum", 1, 0),
        ("topic_alias_maximum", 0, -1),
        ("session_expiry_maximum_s", 0xFFFF_FFFF, 0x1_0000_0000),
        ("connect_timeout_s", 0.1, 0),
        ("drain_s", 86_400, float("inf")),
        ("server_keep_alive_s", None, 0),
    ],
)
def test_limits_hold_exactly_at_their_bounds(limit: str, good: object, bad: object) -> None:
    assert getattr(LimitSettings.model_validate({limit: good}), limit) == good
    with pytest.raises(ValidationError):
        LimitSettings.model_validate({limit: bad})


def test_settings_cannot_change_after_the_start() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        LimitSettings().receive_maximum = 1


@pytest.mark.parametrize("root", ["", "a/b", "#", "+", "$SYS", "$gnomon", "$share", "x" * 65])
def test_a_topics_root_that_means_something_else_is_refused(root: str) -> None:
    with pytest.raises(ValidationError):
        BrokerSettings(topics_root=root)
