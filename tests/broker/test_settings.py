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
        ("tls://127.0.0.1:8883", "tls", "127.0.0.1", 8883),
        ("ws://127.0.0.1:0", "ws", "127.0.0.1", 0),
        ("wss://[::1]:443/devices/mqtt", "wss", "::1", 443),
        ("unix:///run/gnomon.sock", "unix", "", 0),
    ],
)
def test_a_url_names_scheme_host_and_port(url: str, scheme: str, host: str, port: int) -> None:
    parsed = listener(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.url) == (scheme, host, port, url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("ws://h:1", "/mqtt"),
        ("ws://h:1/", "/"),
        ("wss://h:1/a/b?name=n", "/a/b"),
        ("unix:///run/gnomon/%41 b.sock", "/run/gnomon/%41 b.sock"),
        ("tcp://h:1", ""),
    ],
)
def test_websockets_and_unix_sockets_have_a_path(url: str, path: str) -> None:
    assert listener(url).path == path


def test_the_free_port_that_was_taken_stands_in_the_url() -> None:
    assert listener("wss://[::1]:0/x").with_port(443).url == "wss://[::1]:443/x"


@pytest.mark.parametrize("scheme", ["tcp", "tls", "mtls", "ws", "wss"])
def test_a_query_asks_for_the_proxy_protocol(scheme: str) -> None:
    assert listener(f"{scheme}://h:1?proxy=v2").proxy_protocol
    assert not listener(f"{scheme}://h:1").proxy_protocol


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_a_server_s_certificate_needs_no_authorities_of_clients(scheme: str) -> None:
    assert listener(f"{scheme}://h:1?cert=c&key=k").client_ca is None
    assert listener(f"{scheme}://h:1?cert=c&key=k&ca=a").client_ca == Path("a")


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
        ("127.0.0.1:1883", "is not a listener URL; use tcp://HOST:PORT, likewise tls, mtls, ws or wss"),
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
        ("tcp://127.0.0.1:1883?cert=a", "certificate belongs to a tls, mtls or wss listener"),
        ("mtls://127.0.0.1:8883?cert=a&key=b", "client_ca is missing"),
        ("tls://127.0.0.1:8883?cert=a", "key is missing"),
        ("wss://127.0.0.1:8883?ca=a", "certificate is missing"),
        ("tls://127.0.0.1:8883/mqtt", "and nothing more"),
        ("ws://127.0.0.1:80/a b", "and nothing more"),
        ("ws://127.0.0.1:80/mqtt#x", "and nothing more"),
        ("tcp://127.0.0.1:1?proxy=v1", "only version 2"),
        ("unix:///run/s.sock?proxy=v2", "a listener with a port"),
        ("unix://run/s.sock", "a path from the root"),
        ("unix:///run/", "a path from the root"),
        ("unix:///run/a\nb", "a path from the root"),
        (f"unix:///{'x' * 107}", "at most 107 bytes"),
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
        (["unix:///a", "unix:///a"], "two listeners have the path /a"),
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
