"""The `[http]` section: which URLs it takes, and what it says to others."""

import pytest

from gnomon.errors import ConfigurationError
from gnomon.http_settings import HTTPSettings, http_address
from gnomon.settings import load_settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("http://[::1]:0/", ("::1", 0)),
        ("HTTP://LocalHost:80", ("localhost", 80)),
    ],
)
def test_a_url_names_host_and_port(url: str, address: tuple[str, int]) -> None:
    settings = HTTPSettings(url=url)
    assert settings.url is not None
    assert http_address(settings.url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:9464",
        "https://127.0.0.1:9464",
        "http://127.0.0.1",
        "http://:9464",
        "http://127.0.0.1:x",
        "http://127.0.0.1:65536",
        "http://[::1:9464",
        "http://127.0.0.1:9464/metrics",
        "http://127.0.0.1:9464?a=b",
        "http://127.0.0.1:9464#a",
        "http://ada:secret@127.0.0.1:9464",
    ],
)
def test_another_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(None, {"http": {"url": url}})
    assert str(caught.value).startswith("command line: http.url: ")
    assert str(caught.value).endswith("use a URL such as http://127.0.0.1:9464")


def test_there_is_no_listener_by_default() -> None:
    assert load_settings().http.url is None
