"""Settings of the broker: listeners, limits, access.

Knows: every key of the `[broker]` section, its unit, range and default; the form of a listener URL.
Does not know: where the values come from (file, environment, command line), files' contents, sockets.
Spec: v5 §2.1.4, §3.1.2.11, §3.2.2.3; v3.1.1 §2.2.3, §3.1.2.10.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

Scheme = Literal["tcp", "mtls"]

#: Largest Control Packet that the Remaining Length can express (v5 §2.1.4), header included.
PACKET_SIZE_CEILING: Final = 268_435_460
#: A Session Expiry Interval of this value never ends (v5 §3.1.2.11.2).
SESSION_NEVER_EXPIRES: Final = 0xFFFF_FFFF

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
_SCHEMES: Final[Mapping[str, Scheme]] = {"tcp": "tcp", "mtls": "mtls"}
_LATER_SCHEMES: Final = frozenset({"tls", "ws", "wss", "unix"})
#: Query key of a listener URL -> field of `ListenerSettings`.
_QUERY_FIELDS: Final[Mapping[str, str]] = {
    "cert": "certificate",
    "key": "key",
    "ca": "client_ca",
    "name": "name",
    "tenant": "tenant",
}
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+").fullmatch
_TLS_FIELDS: Final = ("certificate", "key", "client_ca")

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
UInt16 = Annotated[int, Field(ge=1, le=65_535)]
PacketSize = Annotated[int, Field(ge=1, le=PACKET_SIZE_CEILING)]
#: Bytes of a buffer or queue.
Size = Annotated[int, Field(ge=1, le=2**40)]
#: A wait in seconds; long enough to be met, short enough to be noticed.
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class _Section(BaseModel):
    """A typo stops the start, and nothing changes after it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ListenerSettings(_Section):
    """One address to listen on.

    `url` may carry the other fields as a query: `mtls://127.0.0.1:8883?cert=..&key=..&ca=..&name=..&tenant=..`.
    They are moved into their fields, so `url` is always `scheme://host:port` afterwards.
    """

    url: str
    """Address: tcp://HOST:PORT or mtls://HOST:PORT; IPv6 hosts stand in brackets, port 0 takes a free one."""
    certificate: Path | None = None
    """PEM file of the server's certificate chain (mtls). Absent: the development PKI of the data folder."""
    key: Path | None = None
    """PEM file of the server's private key, not encrypted (mtls)."""
    client_ca: Path | None = None
    """PEM file of the authorities that client certificates must come from (mtls)."""
    name: Label | None = None
    """Name in logs, rules and ready.json. Absent: scheme and position, such as mtls-1."""
    tenant: Label = "default"
    """Tenant of the clients that connect here."""

    @model_validator(mode="before")
    @classmethod
    def _split_query(cls, values: Any) -> Any:  # noqa: ANN401  (untrusted input; ends at this validator)
        if isinstance(values, str):
            values = {"url": values}
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
    def _check_tls_files(self) -> Self:
        given = [field for field in _TLS_FIELDS if getattr(self, field) is not None]
        if given and self.scheme != "mtls":
            raise ValueError(f"{given[0]} belongs to an mtls:// listener, and this one is {self.scheme}://")
        if given and len(given) < len(_TLS_FIELDS):
            missing = next(field for field in _TLS_FIELDS if field not in given)
            raise ValueError(f"{missing} is missing; give certificate, key and client_ca together, or none")
        return self

    @property
    def scheme(self) -> Scheme:
        """What is spoken on the connection before MQTT."""
        return _parse_address(self.url)[0]

    @property
    def host(self) -> str:
        """Host name or address, IPv6 without brackets."""
        return _parse_address(self.url)[1]

    @property
    def port(self) -> int:
        """Port 0..65535; 0 takes a free one."""
        return _parse_address(self.url)[2]


class LimitSettings(_Section):
    """The limits that keep the broker bounded; defaults are the specification's maxima plus safety limits."""

    maximum_packet_size: PacketSize = 16 * _MIB
    """Largest Control Packet that is accepted, in bytes; told to v5 clients as Maximum Packet Size."""
    connect_packet_size_maximum: PacketSize = 512 * _KIB
    """Largest first packet of a connection, in bytes: before CONNECT the peer is a stranger."""
    receive_maximum: UInt16 = 1024
    """QoS 1 and 2 messages that one client may have unacknowledged towards the broker."""
    in_flight_maximum: UInt16 = 1024
    """QoS 1 and 2 messages that one session may have unacknowledged; its client may ask for fewer."""
    pending_messages_maximum: Count = 10_000
    """Messages that wait for one session, connected or not; beyond it a new one is dropped and counted."""
    pending_bytes_maximum: Size = 16 * _MIB
    """Bytes of messages that wait for one session."""
    session_expiry_maximum_s: Annotated[int, Field(ge=0, le=SESSION_NEVER_EXPIRES)] = SESSION_NEVER_EXPIRES
    """Longest life of a session without its connection, in seconds; 4294967295 is forever."""
    sessions_maximum: Count = 1_000_000
    """Sessions kept, connected or not; beyond it a new client is refused with Quota exceeded."""
    connections_maximum: Count = 100_000
    """Connections at one time over all listeners; beyond it a new one is closed at once."""
    subscriptions_maximum: Count = 10_000
    """Subscriptions of one session."""
    filters_per_subscribe_maximum: Count = 1_000
    """Topic filters in one SUBSCRIBE or UNSUBSCRIBE packet."""
    retained_messages_maximum: Count = 1_000_000
    """Retained messages of one tenant; beyond it a new topic's message is delivered but not kept."""
    topic_alias_maximum: Annotated[int, Field(ge=0, le=65_535)] = 32
    """Topic aliases that one v5 client may set; 0 switches them off."""
    topic_levels_maximum: UInt16 = 256
    """Levels of a topic name or filter."""
    topic_bytes_maximum: UInt16 = 65_535
    """Length of a topic name or filter, in bytes of UTF-8."""
    connect_timeout_s: Seconds = 10.0
    """Wait for a whole CONNECT packet once the connection stands, in seconds."""
    authentication_timeout_s: Seconds = 10.0
    """Wait for the authenticator's answer, in seconds."""
    handshake_timeout_s: Seconds = 10.0
    """Wait for the TLS handshake, in seconds."""
    server_keep_alive_s: UInt16 | None = None
    """Keep alive that v5 clients are told to use, in seconds. Absent: the client's own."""
    frame_budget: Count = 1024
    """Control Packets of one connection that are handled before another connection has its turn."""
    write_buffer_high_bytes: Size = _MIB
    """Bytes that wait in one connection's write buffer before the broker stops adding to it."""
    slow_consumer_s: Seconds = 30.0
    """A connection whose write buffer stays full for so many seconds is closed."""
    mailbox_messages_high: Count = 10_000
    """Messages that wait for one in-process service before publishers to it are held back."""
    drain_s: Seconds = 5.0
    """At the end: longest wait for clients to take their last packets, in seconds."""
    route_cache_maximum: Count = 10_000
    """Topics whose receivers one tenant remembers between messages."""


class BrokerSettings(_Section):
    """The `[broker]` section."""

    listeners: Annotated[tuple[ListenerSettings, ...], Field(min_length=1, max_length=64)] = Field(
        default_factory=lambda: (ListenerSettings(url="mtls://127.0.0.1:8883", name="mtls-1"),)
    )
    """Addresses to listen on: URLs, or tables with the keys of a listener."""
    limits: LimitSettings = LimitSettings()
    """The limits that keep the broker bounded."""
    rules_file: Path | None = None
    """TOML file of the rules that say who may publish and subscribe what. Absent: the built-in rules."""
    allow_anonymous: bool = False
    """Whether clients without a certificate may connect; they never reach reserved topics."""
    require_client_id_is_common_name: bool = True
    """Whether a device's client id must equal its certificate's common name."""
    topics_root: Annotated[str, StringConstraints(pattern=r"^[^/+#\x00]{1,64}$")] = "$aws"
    """First level of the reserved device topics. Device kits hard-code $aws: change it for closed fleets."""

    @field_validator("topics_root")
    @classmethod
    def _check_topics_root(cls, root: str) -> str:
        if root in {"$gnomon", "$SYS", "$share"}:
            raise ValueError(f"{root} has another meaning; use $aws or a name of your own")
        return root

    @field_validator("listeners")
    @classmethod
    def _check_listeners(cls, listeners: tuple[ListenerSettings, ...]) -> tuple[ListenerSettings, ...]:
        named = tuple(
            item if item.name else item.model_copy(update={"name": f"{item.scheme}-{position}"})
            for position, item in enumerate(listeners, 1)
        )
        _check_unique("name", [listener.name or "" for listener in named])
        _check_unique("address", [f"{item.host}:{item.port}" for item in named if item.port])
        return named


def _check_unique(what: str, values: list[str]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"two listeners have the {what} {value}; give each its own")


def _parse_query(query: str) -> dict[str, str]:
    """Return field -> text of a listener URL's query (`+` stays a plus, `%2B` and the like are decoded)."""
    fields: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, _, text = part.partition("=")
        field = _QUERY_FIELDS.get(key)
        if field is None:
            raise ValueError(f"unknown key {key!r} in the listener URL; known are {', '.join(_QUERY_FIELDS)}")
        if not text or field in fields:
            raise ValueError(f"key {key!r} of the listener URL needs exactly one value, as in {key}=VALUE")
        fields[field] = unquote(text)
    return fields


def _parse_address(url: str) -> tuple[Scheme, str, int]:
    """Take scheme, host and port out of a listener URL without a query."""
    name, separator, _ = url.partition("://")
    if name in _LATER_SCHEMES and separator:
        raise ValueError(f"{name}:// listeners come with a later release; use tcp:// or mtls://")
    if name not in _SCHEMES or not separator:
        raise ValueError(f"{url!r} is not a listener URL; use tcp://HOST:PORT or mtls://HOST:PORT")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(
            f"{url!r} has no usable host or port; use {name}://HOST:PORT, IPv6 as [::1]"
        ) from None
    if port is None:
        raise ValueError(f"{url!r} names no port; use {name}://HOST:PORT, where port 0 takes a free one")
    if not host or not _HOST(host) or parts.username is not None or parts.path or parts.fragment:
        raise ValueError(f"{url!r} is not a listener URL; use {name}://HOST:PORT and nothing more")
    return _SCHEMES[name], host, port
