"""One server, and paho clients on it: devices and operators, with certificates or without.

Knows: which topics the built-in rules give to whom.
Does not know: what a test says with it.
"""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

from fleet import DevelopmentPKI
from paho_peer import PahoPeer, Version, client_context
from running_server import RunningServer

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Site:
    """One server and the ways to it."""

    server: RunningServer
    scheme: Literal["mtls", "tcp"]

    @property
    def port(self) -> int:
        return self.server.port(self.scheme)

    @property
    def pki(self) -> DevelopmentPKI:
        return DevelopmentPKI(self.server.data / "pki")

    def device(self, name: str, version: Version, **options: Any) -> PahoPeer:
        """A client that is not connected yet: `dt/NAME/#` is its to publish, `cmd/NAME/#` to receive."""
        context = client_context(self.pki.ensure_device(name)) if self.scheme == "mtls" else None
        return PahoPeer(self.port, name, version, context=context, **options)

    def operator(self, version: Version, **options: Any) -> PahoPeer:
        """A client that is not connected yet: `cmd/#` is its to publish, `dt/#` to receive."""
        context = client_context(self.pki.ensure_operator("ada")) if self.scheme == "mtls" else None
        return PahoPeer(
            self.port, options.pop("client_id", unique("ada")), version, context=context, **options
        )


def unique(stem: str) -> str:
    """A name that no other test uses: they share servers."""
    return f"{stem}-{next(_numbers)}"
