"""The scenario table, the same for both generators.

Knows: who connects, publishes and subscribes in each scenario, how much, and what one unit of it is.
Does not know: generators, brokers, sockets.
"""

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

Kind = Literal["fanin", "fanout", "pairs", "paced", "conns"]

#: Bytes of payload; the generators need 24 of them for their own accounting.
PAYLOAD_SIZE: Final = 64
#: Messages published and not yet delivered, over all publishers.
OUTSTANDING: Final = 800
#: QoS 1 and 2: unacknowledged messages per publisher (mosquitto closes on more than 20 at QoS 2 in 3.1.1).
WINDOW: Final = 16
#: Most messages in one write of one publisher.
BATCH: Final = 50
#: Connections that are opened at the same time.
PARALLEL: Final = 64
#: First level of all topics.
TOPIC: Final = "load"


class Scenario(Struct, frozen=True, kw_only=True):
    """One load.

    `clients` is the number of publishers (fanin, paced), subscribers (fanout), pairs or connections.
    `messages` counts published ones over all publishers. Paced devices send `rate` messages a second each.
    """

    name: str
    kind: Kind
    clients: int
    messages: int = 0
    qos: int = 0
    rate: float = 1.0
    is_mutual_tls: bool = False

    @property
    def counts_connections(self) -> bool:
        """Whether connections are counted, not messages."""
        return self.kind == "conns"

    @property
    def publishers(self) -> int:
        """How many clients publish."""
        return {"fanout": 1, "conns": 0}.get(self.kind, self.clients)

    @property
    def per_publisher(self) -> int:
        """Messages of one publisher."""
        return max(1, self.messages // self.publishers) if self.publishers else 0

    @property
    def warm_up_per_publisher(self) -> int:
        """Messages of one publisher before measuring starts."""
        return max(1, self.per_publisher // 10)

    def deliveries(self, per_publisher: int) -> int:
        """Return how many messages arrive at all subscribers together."""
        return per_publisher * self.publishers * (self.clients if self.kind == "fanout" else 1)

    def scaled(self, scale: float) -> "Scenario":
        """Return the same kind of load, smaller: for slow brokers, and for a quick look."""
        has_fixed_clients = self.kind in ("fanin", "fanout", "pairs")
        clients = self.clients if has_fixed_clients else max(1, round(self.clients * scale))
        return replace(self, clients=clients, messages=round(self.messages * scale))


_TABLE: Final = (
    Scenario(name="fanin-qos0", kind="fanin", clients=8, messages=240_000),
    Scenario(name="fanin-qos1", kind="fanin", clients=8, messages=80_000, qos=1),
    Scenario(name="fanin-qos2", kind="fanin", clients=8, messages=40_000, qos=2),
    Scenario(name="fanout-qos0", kind="fanout", clients=50, messages=10_000),
    Scenario(name="pairs-qos1", kind="pairs", clients=100, messages=80_000, qos=1),
    Scenario(name="paced-qos0", kind="paced", clients=5_000, messages=20_000),
    Scenario(name="conns", kind="conns", clients=2_000),
    Scenario(name="conns-mtls", kind="conns", clients=500, is_mutual_tls=True),
)
SCENARIOS: Final = {scenario.name: scenario for scenario in _TABLE}
