"""The PROXY protocol header, version 2: the client's address, told by a proxy in front of us.

Knows: the header's bytes.
Does not know: sockets, whom to believe; whoever can reach such a listener can claim any address.
Spec: PROXY protocol (HAProxy, doc/proxy-protocol.txt) §2.2.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from ..protocol.errors import BrokerError

#: Bytes of the part whose length is known beforehand.
PREFIX_SIZE: Final = 16
#: Bytes of addresses and extensions that are taken. A proxy that tells all it can about TLS needs one KiB.
REST_SIZE_MAXIMUM: Final = 4096

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_TCP_OVER_IPV4: Final = 0x11
_TCP_OVER_IPV6: Final = 0x21
_UNIX_STREAM: Final = 0x31
#: Bytes of both addresses and ports; extensions may follow.
_ADDRESSES_SIZE: Final[Mapping[int, int]] = {
    _UNSPECIFIED: 0,
    _TCP_OVER_IPV4: 12,
    _TCP_OVER_IPV6: 36,
    _UNIX_STREAM: 216,
}


class ProxyHeaderError(BrokerError):
    """What the peer sent is no PROXY protocol v2 header for a TCP connection."""


def rest_size(prefix: bytes) -> int:
    """Return how many bytes follow the first 16.

    Raises:
        ProxyHeaderError: `prefix` is not the begin of a header, or the header would be too large.
    """
    if len(prefix) != PREFIX_SIZE or not prefix.startswith(_SIGNATURE):
        raise ProxyHeaderError("not a PROXY protocol v2 header")
    command, family = prefix[12], prefix[13]
    if command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError("neither version 2 nor one of its commands")
    size = int.from_bytes(prefix[14:16], "big")
    if size > REST_SIZE_MAXIMUM:
        raise ProxyHeaderError(f"header longer than {REST_SIZE_MAXIMUM} bytes")
    if command == _PROXY and size < _addresses_size(family):
        raise ProxyHeaderError("no room for the addresses")
    return size


def source_address(prefix: bytes, rest: bytes) -> str | None:
    """Return the client's address, None where the header tells none: the proxy speaks for itself then.

    `rest` are the bytes that `rest_size(prefix)` asked for. Extensions are skipped.
    """
    command, family = prefix[12], prefix[13]
    if command == _LOCAL:
        return None
    if family == _TCP_OVER_IPV4:
        return str(IPv4Address(rest[:4]))
    if family == _TCP_OVER_IPV6:
        address = IPv6Address(rest[:16])
        return str(address.ipv4_mapped or address)
    return None


def _addresses_size(family: int) -> int:
    size = _ADDRESSES_SIZE.get(family)
    if size is None:
        raise ProxyHeaderError("neither TCP nor a Unix stream")
    return size
