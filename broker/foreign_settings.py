"""Settings of the way to a foreign broker.

Knows: every key of the `[foreign_broker]` section, its unit, range and default; the form of a broker URL.
Does not know: where the values come from, files' contents, sockets.
Spec: v5 §3.1.2.11, §4.8.2.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Scheme = Literal["mqtt", "mqtts"]

_PORTS: Final[Mapping[Scheme, int]] = {"mqtt": 1883, "mqtts": 8883}
_WANTED: Final = "use mqtt://HOST:PORT or mqtts://HOST:PORT, IPv6 as [::1]"
#: Query key of a broker URL -> field of `ForeignBusSettings`.
_QUERY_FIELDS: Final[Mapping[str, str]] = {
    "cert": "certificate",
    "key": "key",
    "ca": "server_ca",
    "user": "user_name",
    "password_file": "password_file",
    "client_id": "client_id",
}
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+").fullmatch
_MIB: Final = 1024 * 1024

Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Size = Annotated[int, Field(ge=1, le=2**40)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class ForeignBusSettings(BaseModel):
    """The `[foreign_broker]` section: where services connect that run beside somebody else's broker.

    `url` may carry files and names as a query: `mqtts://HOST:8883?cert=..&key=..&ca=..&user=..&password_file=..`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    url: str = "mqtts://127.0.0.1:8883"
    """Address: mqtt://HOST:PORT (plain TCP) or mqtts://HOST:PORT (TLS); the broker must speak MQTT 5."""
    certificate: Path | None = None
    """PEM file of the client certificate chain, for mutual TLS (mqtts)."""
    key: Path | None = None
    """PEM file of the client's private key, not encrypted (mqtts)."""
    server_ca: Path | None = None
    """PEM file of the authorities of the broker's certificate (mqtts). Absent: the system's."""
    user_name: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """User name to log in with."""
    password_file: Path | None = None
    """File that holds the password; the end of its last line is not part of it."""
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """Client id, which must be unique and stay the same. Absent: gnomon-services-HOSTNAME."""
    share: Annotated[str, StringConstraints(pattern=r"^[^/+#\x00]{1,64}$")] | None = None
    """Shared subscription whose processes share the work; they need one storage.url. Absent: no sharing."""
    keep_alive_s: Annotated[int, Field(ge=5, le=65_535)] = 30
    """Keep alive, in seconds; a broker that is silent for one and a half of them is given up."""
    session_expiry_s: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 3600
    """How long the broker keeps requests while no process of this client id is connected, in seconds."""
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 512
    """QoS 1 requests that the broker may send before they are acknowledged, after their commits."""
    maximum_packet_size: Annotated[int, Field(ge=1024, le=268_435_460)] = _MIB
    """Largest packet that is accepted from the broker, in bytes."""
    batch_messages_maximum: Count = 512
    """Messages that a service is given at once."""
    held_bytes_high: Size = 16 * _MIB
    """Memory for messages not yet acknowledged, in bytes; beyond it, or its fourfold while replies wait for
    the broker, nothing is read."""
    in_flight_maximum: Annotated[int, Field(ge=1, le=60_000)] = 512
    """QoS 1 messages that may be sent without the broker's acknowledgement; the broker may ask for fewer."""
    outgoing_messages_maximum: Count = 10_000
    """Messages that the broker has not taken; beyond it one is dropped, above a quarter requests wait."""
    outgoing_bytes_maximum: Size = 64 * _MIB
    """Bytes of messages that the broker has not taken, with the same acts."""
    connect_timeout_s: Seconds = 10.0
    """Wait for the connection with its TLS handshake and the broker's answer to CONNECT, in seconds."""
    reconnect_delay_s: Seconds = 0.2
    """First wait before connecting again, in seconds; it doubles with every failure, and varies by chance."""
    reconnect_delay_maximum_s: Seconds = 30.0
    """Longest wait before connecting again, in seconds; a connection that stood so long starts anew."""
    drain_s: Seconds = 5.0
    """At the end: longest wait for the broker to take the last messages, in seconds."""

    @model_validator(mode="before")
    @classmethod
    def _split_query(cls, values: Any) -> Any:  # noqa: ANN401  (untrusted input; ends at this validator)
        if not isinstance(values, Mapping) or not isinstance(values.get("url"), str):
            return values
        bare_url, _, query = values["url"].partition("?")
        queried = _parse_query(query)
        if twice := sorted(queried.keys() & values.keys()):
            raise ValueError(f"{twice[0]} is given both in the URL and as a key of its own; give it once")
        return {**values, **queried, "url": bare_url}

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        scheme, host, port = _parse_address(url)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        for field in ("certificate", "key", "server_ca"):
            if getattr(self, field) is not None and not self.is_tls:
                raise ValueError(f"{field} belongs to an mqtts:// URL, and this one is mqtt://")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give certificate and key together, or none of them")
        if self.password_file is not None and self.user_name is None:
            raise ValueError("password_file needs a user_name")
        return self

    @property
    def is_tls(self) -> bool:
        """Whether TLS is spoken before MQTT."""
        return _parse_address(self.url)[0] == "mqtts"

    @property
    def host(self) -> str:
        """Host name or address, IPv6 without brackets."""
        return _parse_address(self.url)[1]

    @property
    def port(self) -> int:
        """Port 1..65535."""
        return _parse_address(self.url)[2]


def _parse_query(query: str) -> dict[str, str]:
    """Return field -> text of a broker URL's query (`+` stays a plus, `%2B` and the like are decoded)."""
    fields: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, text = part.partition("=")
        field = _QUERY_FIELDS.get(key)
        if field is None:
            raise ValueError(f"unknown key {key!r} in the broker URL; known are {', '.join(_QUERY_FIELDS)}")
        if not text or field in fields:
            raise ValueError(f"key {key!r} of the broker URL needs exactly one value, as in {key}=VALUE")
        fields[field] = unquote(text)
    return fields


def _parse_address(url: str) -> tuple[Scheme, str, int]:
    """Take scheme, host and port out of a broker URL without a query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{url!r} has no usable host or port; {_WANTED}") from None
    scheme: Scheme
    match parts.scheme:
        case "mqtt" | "mqtts" as scheme:
            pass
        case _:
            raise ValueError(f"{url!r} is not a broker URL; {_WANTED}")
    if not host or not _HOST(host) or port == 0 or parts.path or parts.fragment:
        raise ValueError(f"{url!r} is not a broker URL; {_WANTED}")
    if parts.username is not None:
        raise ValueError("the broker URL holds a user name; give it as ?user=NAME&password_file=FILE")
    return scheme, host, port or _PORTS[scheme]
