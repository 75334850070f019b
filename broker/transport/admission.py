"""Who may connect at all: counts of connections in all, per source, and per second.

Knows: the limits, what a source is.
Does not know: sockets, TLS, clocks (`now` comes in).
Spec: design: bounded by construction.
"""

from ipaddress import AddressValueError, IPv6Address
from typing import Final

from ..engine import Stats
from ..settings import LimitSettings

#: What one customer of a provider has in IPv6, at least.
_IPV6_NETWORK_BYTES: Final = 8


class Admission:
    """Counts connections from before their TLS handshake until they are gone.

    Every `enter` that returns True is followed by one `leave` with the same address.
    """

    def __init__(self, limits: LimitSettings, stats: Stats, *, now: float) -> None:
        self._limits = limits
        self._stats = stats
        self._count = 0
        self._sources: dict[str, int] = {}
        #: Connections that may come at once; grows with time up to one second's worth.
        self._allowance = float(limits.connects_per_second_maximum)
        self._updated_at = now

    def enter(self, address: str, now: float) -> bool:
        """Count a new connection, False where there are too many; `address` is empty for a Unix socket."""
        limits = self._limits
        if self._count >= limits.connections_maximum:
            self._stats.connections_rejected += 1
            return False
        if limits.connects_per_second_maximum and not self._is_in_time(now):
            self._stats.connects_rejected_by_rate += 1
            return False
        if limits.connections_per_source_maximum and address:
            source = _source(address)
            count = self._sources.get(source, 0)
            if count >= limits.connections_per_source_maximum:
                self._stats.connections_rejected_by_source += 1
                return False
            self._sources[source] = count + 1
        self._count += 1
        return True

    def leave(self, address: str) -> None:
        """A connection that was let in is gone."""
        self._count -= 1
        if self._limits.connections_per_source_maximum and address:
            source = _source(address)
            count = self._sources[source] - 1
            if count:
                self._sources[source] = count
            else:
                del self._sources[source]

    def _is_in_time(self, now: float) -> bool:
        rate = self._limits.connects_per_second_maximum
        self._allowance = min(rate, self._allowance + (now - self._updated_at) * rate)
        self._updated_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def _source(address: str) -> str:
    """Return whom an address stands for: itself, or its network in IPv6."""
    if ":" not in address:
        return address
    try:
        return IPv6Address(address.partition("%")[0]).packed[:_IPV6_NETWORK_BYTES].hex()
    except AddressValueError:
        return address
