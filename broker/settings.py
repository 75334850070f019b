"""Settings of the broker: listeners, limits, access.

Knows: every key of the `[broker]` section, its unit, range and default.
Does not know: where the values come from (file, environment, command line), files' contents, sockets.
Spec: v5 §2.1.4, §3.1.2.11, §3.2.2.3; v3.1.1 §2.2.3, §3.1.2.10.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from .listener_url import (
    TLS_SCHEMES,
    WEBSOCKET_SCHEMES,
    Address,
    Scheme,
    format_address,
    parse_address,
    parse_query,
)

#: Largest Control Packet that the Remaining Length can express (v5 §2.1.4), header included.
PACKET_SIZE_CEILING: Final = 268_435_460
#: A Session Expiry Interval of this value never ends (v5 §3.1.2.11.2).
SESSION_NEVER_EXPIRES: Final = 0xFFFF_FFFF

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
#: Where clients of other brokers expect MQTT over WebSocket.
_WEBSOCKET_PATH: Final = "/mqtt"
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

    `url` may carry other fields as a query:
    `mtls://127.0.0.1:8883?cert=..&key=..&ca=..&name=..&tenant=..&proxy=v2`.
    They are moved into their fields, so `url` has no query afterwards.
    """

    url: str
    """Address: tcp, tls, mtls, ws or wss as in mtls://HOST:PORT, where port 0 takes a free one, or unix:///PATH."""
    certificate: Path | None = None
    """PEM file of the server's certificate chain (tls, mtls, wss). Absent: that of the development PKI."""
    key: Path | None = None
    """PEM file of the server's private key, not encrypted (tls, mtls, wss)."""
    client_ca: Path | None = None
    """PEM file of the authorities of client certificates: must be shown to mtls and wss, may be to tls."""
    session_tickets: bool = False
    """Whether TLS clients may resume a session; of their certificate only the dates are then checked."""
    proxy_protocol: bool = False
    """Whether connections begin with a PROXY protocol v2 header; let only the proxy reach such a listener."""
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
        queried = parse_query(query)
        if twice := sorted(queried.keys() & values.keys()):
            raise ValueError(f"{twice[0]} is given both in the URL and as a key of its own; give it once")
        return {**values, **queried, "url": bare_url}

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        return format_address(parse_address(url))

    @model_validator(mode="after")
    def _check_tls_files(self) -> Self:
        given = [field for field in _TLS_FIELDS if getattr(self, field) is not None]
        if (given or self.session_tickets) and not self.is_tls:
            field = given[0] if given else "session_tickets"
            raise ValueError(
                f"{field} belongs to a tls, mtls or wss listener, and this one is {self.scheme}://"
            )
        needed = _TLS_FIELDS if self.scheme == "mtls" else _TLS_FIELDS[:2]
        if given and (missing := [field for field in needed if field not in given]):
            raise ValueError(f"{missing[0]} is missing; give {', '.join(needed)} together, or none")
        if self.proxy_protocol and self.scheme == "unix":
            raise ValueError("proxy_protocol belongs to a listener with a port, and this one is unix://")
        return self

    @property
    def scheme(self) -> Scheme:
        """What is spoken on the connection before MQTT."""
        return parse_address(self.url).scheme

    @property
    def is_tls(self) -> bool:
        """Whether the server shows a certificate."""
        return self.scheme in TLS_SCHEMES

    @property
    def is_websocket(self) -> bool:
        """Whether MQTT travels in WebSocket messages."""
        return self.scheme in WEBSOCKET_SCHEMES

    @property
    def host(self) -> str:
        """Host name or address, IPv6 without brackets; empty for unix."""
        return parse_address(self.url).host

    @property
    def port(self) -> int:
        """Port 0..65535; 0 takes a free one, and stands for none with unix."""
        return parse_address(self.url).port

    def with_port(self, port: int) -> Self:
        """Return the settings with another port."""
        scheme, host, _, path = parse_address(self.url)
        return self.model_copy(update={"url": format_address(Address(scheme, host, port, path))})

    @property
    def path(self) -> str:
        """Path of the Unix socket, or of the WebSocket; empty for the others."""
        address = parse_address(self.url)
        return address.path or (_WEBSOCKET_PATH if self.is_websocket else "")


class LimitSettings(_Section):
    """The limits that keep the broker bounded; defaults are the specification's maxima plus safety limits."""

    maximum_packet_size: PacketSize = 16 * _MIB
    """Largest Control Packet that is accepted, in bytes; told to v5 clients as Maximum Packet Size."""
    connect_packet_size_maximum: PacketSize = 512 * _KIB
    """Largest first packet of a connection, in bytes: before CONNECT the peer is a stranger."""
    journal_bytes_maximum: Size = 256 * _MIB
    """Bytes of changes that wait for the disk; beyond it publishers of what must be stored are not read."""
    receive_maximum: UInt16 = 1024
    """QoS 1 and 2 messages that one client may have unacknowledged towards the broker."""
    in_flight_maximum: UInt16 = 1024
    """QoS 1 and 2 messages that one session may have unacknowledged; its client may ask for fewer."""
    pending_messages_maximum: Count = 10_000
    """Messages that wait for one session, connected or not; beyond it a new one is dropped and counted."""
    pending_bytes_maximum: Size = 16 * _MIB
    """Bytes of messages that wait for one session; as many may be in flight to it before more wait."""
    session_expiry_maximum_s: Annotated[int, Field(ge=0, le=SESSION_NEVER_EXPIRES)] = SESSION_NEVER_EXPIRES
    """Longest life of a session without its connection, in seconds; 4294967295 is forever."""
    sessions_maximum: Count = 1_000_000
    """Sessions kept, connected or not; beyond it a new client is refused with Quota exceeded."""
    connections_maximum: Count = 100_000
    """Connections at one time over all listeners; beyond it a new one is closed at once."""
    connections_per_source_maximum: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Connections of one address, or one /64 network, at one time; a further one is closed. 0: no limit."""
    connects_per_second_maximum: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """New connections in a second over all listeners; a further one is closed. 0: no limit."""
    handshakes_maximum: Count = 1_024
    """TLS handshakes and PROXY headers in progress on one listener; beyond it new connections must wait."""
    handshakes_per_turn: Count = 16
    """TLS handshakes that one listener begins before connected clients have their turn."""
    subscriptions_maximum: Count = 10_000
    """Subscriptions of one session."""
    filters_per_subscribe_maximum: Count = 1_000
    """Topic filters in one SUBSCRIBE or UNSUBSCRIBE packet."""
    retained_messages_maximum: Count = 1_000_000
    """Retained messages of one tenant; beyond it a new topic's message is delivered but not kept."""
    retained_bytes_maximum: Size = 1024 * _MIB
    """Bytes of the retained messages of one tenant; beyond it a message is delivered but not kept."""
    topic_alias_maximum: Annotated[int, Field(ge=0, le=65_535)] = 32
    """Topic aliases that one v5 client may set; 0 switches them off."""
    topic_levels_maximum: UInt16 = 256
    """Levels of a topic name or filter."""
    topic_bytes_maximum: UInt16 = 65_535
    """Length of a topic name or filter, in bytes of UTF-8."""
    connect_timeout_s: Seconds = 10.0
    """Wait for a whole CONNECT packet once the connection stands, in seconds."""
    authentication_timeout_s: Seconds = 10.0
    """Wait for the answer of an authenticator, or of somebody outside who decides on rights, in seconds."""
    password_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Passwords that are checked at one time; each check takes a core and, by default, 19 MiB."""
    password_checks_maximum: Count = 1_000
    """Passwords that wait for their check; beyond it a client is refused with Server busy."""
    handshake_timeout_s: Seconds = 10.0
    """Wait for the PROXY header, and again for the TLS handshake, in seconds."""
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
    publish_rate_maximum: Count | None = None
    """Messages that one client may publish per second; a faster one is read more slowly. Absent: any."""
    publish_rate_patience_s: Seconds = 30.0
    """A client that is over `publish_rate_maximum` for so many seconds on end is closed."""
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
    certificate_check_s: Seconds = 5.0
    """How often to look at certificate files, in seconds; they are used once two looks have seen the same."""
    rules_file: Path | None = None
    """TOML file of the rules that say who may publish and subscribe what. Absent: the built-in rules."""
    password_file: Path | None = None
    """File of users and password hashes, made by `gnomon password set`. Absent: passwords let nobody in."""
    allow_anonymous: bool = False
    """Whether clients without a certificate or a password may connect; they never reach reserved topics."""
    require_client_id_is_common_name: bool = True
    """Whether a device's client id must equal its certificate's common name."""
    topics_root: Annotated[str, StringConstraints(pattern=r"^[^/+#\x00]{1,64}$")] = "$aws"
    """First level of the reserved device topics. Device kits hard-code $aws: change it for closed fleets."""

    wills_outlive_crashes: bool = True
    """Whether the wills of clients without a kept session are stored, to be published after a crash, too."""
    commit_interval_s: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.005
    """Shortest time from one commit to the next, in seconds; what is delivered meanwhile is never written."""
    reason_strings: bool = False
    """Whether CONNACK and DISCONNECT tell v5 clients in words why; off saves bytes."""
    sys_interval_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 10.0
    """Pause between publications of statistics below $SYS, in seconds; 0 switches them off."""
    sys_tenant: Label | None = None
    """Tenant that may read $SYS, which tells of the whole server. Absent: that of the first listener."""

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
        _check_unique("path", [item.path for item in named if item.scheme == "unix"])
        return named


def _check_unique(what: str, values: list[str]) -> None:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"two listeners have the {what} {value}; give each its own")
