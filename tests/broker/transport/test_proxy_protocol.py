"""The PROXY protocol header: literal bytes as HAProxy and others send them, and anything else."""

import contextlib
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.transport.proxy_protocol import (
    PREFIX_SIZE,
    REST_SIZE_MAXIMUM,
    ProxyHeaderError,
    rest_size,
    source_address,
)

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
#: 192.0.2.7:40000 to 198.51.100.1:8883, as the specification's `struct proxy_hdr_v2` lays it out.
IPV4 = SIGNATURE + bytes.fromhex("21 11 000c c0000207 c6336401 9c40 22b3")
IPV6 = SIGNATURE + bytes.fromhex("21 21 0024") + IPv6Address("2001:db8::7").packed + bytes(20)
LOCAL = SIGNATURE + bytes.fromhex("20 00 0000")


def parse(header: bytes) -> str | None:
    """Take the header as a listener does: the prefix, then exactly the rest."""
    prefix = header[:PREFIX_SIZE]
    rest = header[PREFIX_SIZE : PREFIX_SIZE + rest_size(prefix)]
    assert len(rest) == rest_size(prefix)
    return source_address(prefix, rest)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (IPV4, "192.0.2.7"),
        (IPV6, "2001:db8::7"),
        (
            SIGNATURE + bytes.fromhex("21 21 0024") + IPv6Address("::ffff:192.0.2.7").packed + bytes(20),
            "192.0.2.7",
        ),
        (LOCAL, None),
        (SIGNATURE + bytes.fromhex("20 11 000c") + bytes(12), None),
        (SIGNATURE + bytes.fromhex("21 00 0000"), None),
        (SIGNATURE + bytes.fromhex("21 31 00d8") + b"/run/x" + bytes(210), None),
        # PP2_TYPE_AUTHORITY and PP2_TYPE_NOOP after the addresses.
        (
            SIGNATURE + bytes.fromhex("21 11 0016 c0000207 c6336401 9c40 22b3 02 0004 61622e63 04 0000"),
            "192.0.2.7",
        ),
    ],
)
def test_a_header_tells_the_address_of_the_client(header: bytes, address: str | None) -> None:
    assert parse(header) == address


@pytest.mark.parametrize(
    "header",
    [
        b"",
        IPV4[:15],
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01t",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 8883\r\n",
        SIGNATURE + bytes.fromhex("11 11 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("22 11 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("21 12 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("21 41 000c") + bytes(12),
        SIGNATURE + bytes.fromhex("21 11 000b") + bytes(11),
        SIGNATURE + bytes.fromhex("21 21 0023") + bytes(35),
        SIGNATURE + bytes.fromhex("21 31 00d7") + bytes(215),
        SIGNATURE + bytes.fromhex("21 11") + (REST_SIZE_MAXIMUM + 1).to_bytes(2, "big"),
    ],
)
def test_what_is_no_header_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        rest_size(header[:PREFIX_SIZE])


@given(st.ip_addresses(), st.binary(max_size=64))
def test_every_address_comes_through_whatever_follows(
    address: IPv4Address | IPv6Address, extensions: bytes
) -> None:
    family = 0x11 if address.version == 4 else 0x21
    rest = address.packed + bytes(len(address.packed) + 4) + extensions
    header = SIGNATURE + bytes([0x21, family]) + len(rest).to_bytes(2, "big") + rest
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    assert parse(header) == str(mapped or address)


@given(st.binary(min_size=4, max_size=4), st.data())
def test_any_bytes_are_refused_or_taken_within_the_bound(fields: bytes, data: st.DataObject) -> None:
    prefix = SIGNATURE + fields
    with contextlib.suppress(ProxyHeaderError):
        size = rest_size(prefix)
        assert size <= REST_SIZE_MAXIMUM
        rest = data.draw(st.binary(min_size=size, max_size=size))
        assert source_address(prefix, rest) is None or fields[0] == 0x21
