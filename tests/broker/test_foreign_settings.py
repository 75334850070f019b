"""The `[foreign_broker]` section: URLs and what belongs together."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from broker.foreign_settings import ForeignBusSettings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", (False, "broker", 1883, "mqtt://broker:1883")),
        ("mqtts://broker", (True, "broker", 8883, "mqtts://broker:8883")),
        ("mqtts://10.0.0.1:443", (True, "10.0.0.1", 443, "mqtts://10.0.0.1:443")),
        ("mqtt://[::1]:1", (False, "::1", 1, "mqtt://[::1]:1")),
    ],
)
def test_a_url_says_how_and_where(url: str, expected: tuple[bool, str, int, str]) -> None:
    settings = ForeignBusSettings(url=url)
    assert (settings.is_tls, settings.host, settings.port, settings.url) == expected


def test_the_query_of_a_url_fills_the_other_keys() -> None:
    settings = ForeignBusSettings(
        url="mqtts://b?cert=c.pem&key=a%26b.key&ca=ca.pem&user=ada&password_file=p&client_id=one"
    )
    assert settings.certificate == Path("c.pem")
    assert settings.key == Path("a&b.key")
    assert settings.server_ca == Path("ca.pem")
    assert (settings.user_name, settings.password_file, settings.client_id) == ("ada", Path("p"), "one")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"url": "tcp://b"}, "not a broker URL"),
        ({"url": "b:1883"}, "not a broker URL"),
        ({"url": "mqtt://"}, "not a broker URL"),
        ({"url": "mqtt://b/path"}, "not a broker URL"),
        ({"url": "mqtt://b:0"}, "not a broker URL"),
        ({"url": "mqtt://b:70000"}, "no usable host or port"),
        ({"url": "mqtt://[::1"}, "no usable host or port"),
        ({"url": "mqtt://ada:pw@b"}, "user=NAME&password_file=FILE"),
        ({"url": "mqtt://b?pass=x"}, "unknown key 'pass'"),
        ({"url": "mqtt://b?user="}, "exactly one value"),
        ({"url": "mqtt://b?user=a&user=b"}, "exactly one value"),
        ({"url": "mqtt://b?user=a", "user_name": "a"}, "give it once"),
        ({"url": "mqtt://b", "server_ca": "x"}, "belongs to an mqtts:// URL"),
        ({"certificate": "x"}, "certificate and key together"),
        ({"password_file": "x"}, "needs a user_name"),
        ({"share": "a/b"}, "pattern"),
        ({"reconnect": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        ForeignBusSettings(**fields)
