"""What the swarm does: who it is, and what each device sends when. A seed decides all of it.

Knows: names, payloads, phases, the order in which devices are due.
Does not know: connections, clocks (times are nanoseconds and come in), what was answered.
Spec: AWS IoT device shadow service, document syntax.
"""

import re
from collections.abc import Iterator, Sequence
from hashlib import shake_128
from struct import unpack
from typing import Final, Literal

from msgspec import Struct

#: What devices do: report to their shadows, publish readings on plain topics, or only follow their shadows.
Profile = Literal["shadow", "telemetry", "idle"]

#: The key of `desired` that the swarm's operators edit.
EDITED_KEY: Final = "target"
#: Requests of one connection on one thing that a shadow service takes at a time.
IN_FLIGHT_MAXIMUM: Final = 10
_PREFIX: Final = re.compile(r"[a-zA-Z0-9:_-]{1,50}")
_LEVEL: Final = re.compile(r"[^/+#\x00]{1,64}")
_SECOND_NS: Final = 1_000_000_000
_FRACTION_BYTES: Final = 6


class Scenario(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One load.

    `rate` counts updates of one device in a second; None sends the next as soon as fewer than `in_flight`
    are unanswered. `edits` counts edits of one device's desired state in a second. `ramp` counts
    connects of the whole swarm in a second. `duration_s` None runs until it is stopped.

    Raises:
        ValueError: a number is out of its range; the text says which.
    """

    devices: int
    rate: float | None = 1.0
    duration_s: float | None = None
    ramp: float = 200.0
    processes: int = 1
    seed: int = 0
    fields: int = 4
    profile: Profile = "shadow"
    in_flight: int = IN_FLIGHT_MAXIMUM
    edits: float = 0.0
    prefix: str = "device"
    root: str = "$aws"

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        for name, is_good in (
            ("devices must be 1 or more", self.devices >= 1),
            ("rate must be above 0, or None for the highest", self.rate is None or self.rate > 0),
            ("ramp must be above 0", self.ramp > 0),
            ("processes must be 1 to the number of devices", 1 <= self.processes <= self.devices),
            ("seed must be 0 or more", self.seed >= 0),
            ("fields must be 1 or more", self.fields >= 1),
            (f"in_flight must be 1 to {IN_FLIGHT_MAXIMUM}", 1 <= self.in_flight <= IN_FLIGHT_MAXIMUM),
            ("edits must be 0 or more", self.edits >= 0),
            ("edits of telemetry must be 0: it follows no shadow", self.follows_shadow or not self.edits),
            ("prefix must be 1 to 50 characters of a-z A-Z 0-9 : _ -", _PREFIX.fullmatch(self.prefix)),
            ("root must be one level of a topic", _LEVEL.fullmatch(self.root)),
        ):
            if not is_good:
                raise ValueError(name)

    @property
    def follows_shadow(self) -> bool:
        """Whether devices speak to their shadows."""
        return self.profile != "telemetry"

    @property
    def is_closed_loop(self) -> bool:
        """Whether each answer is followed by the next update at once."""
        return self.profile != "idle" and self.rate is None

    def name(self, device: int) -> str:
        """Thing name and Client Identifier of a device, which counts from 0."""
        return f"{self.prefix}-{device + 1}"

    def share(self, process: int) -> range:
        """The devices of one process."""
        return range(process, self.devices, self.processes)

    def connect_at_ns(self, device: int) -> int:
        """When a device connects, after the beginning of the ramp."""
        return int(device * _SECOND_NS / self.ramp)

    def updates(self, devices: Sequence[int], begin_ns: int) -> "Schedule | None":
        """When these devices send updates; None where no schedule says it."""
        if self.profile == "idle" or self.rate is None:
            return None
        return Schedule(devices, self._phases("update", devices), self.rate, begin_ns)

    def edit_times(self, devices: Sequence[int], begin_ns: int) -> "Schedule | None":
        """When these devices' desired states are edited; None for never."""
        if not self.edits:
            return None
        return Schedule(devices, self._phases("edit", devices), self.edits, begin_ns)

    def values(self, device: int, number: int) -> tuple[int, ...]:
        """What an update carries: one value of 0 to 65535 for each field."""
        drawn = draw(self.seed, "values", device, number, size=2 * self.fields)
        return unpack(f">{self.fields}H", drawn)

    def reported(self, device: int, number: int) -> dict[str, int]:
        """Return the same by the names of the fields."""
        return {f"field-{field}": value for field, value in enumerate(self.values(device, number))}

    def payload_template(self) -> bytes:
        """The payload of an update, to be filled (`%`) with its values and its number."""
        fields = ",".join(f'"field-{field}":%d' for field in range(self.fields))
        if self.follows_shadow:
            return b'{"state":{"reported":{%b}},"clientToken":"%%d"}' % fields.encode()
        return b'{%b,"number":%%d}' % fields.encode()

    def _phases(self, what: str, devices: Sequence[int]) -> list[float]:
        return [fraction(self.seed, what, device) for device in devices]


class Schedule:
    """When each of some devices is due: every `1 / rate` seconds, beginning at its own part of the first.

    It hands out times in their order, each once.
    """

    def __init__(self, devices: Sequence[int], phases: Sequence[float], rate: float, begin_ns: int) -> None:
        self._interval_ns = _SECOND_NS / rate
        self._turns = sorted(
            (int(phase * self._interval_ns), device) for device, phase in zip(devices, phases, strict=True)
        )
        self._begin_ns = begin_ns
        self._number = 0
        self._position = 0

    @property
    def next_ns(self) -> int:
        """When the next one is due."""
        return self._begin_ns + int(self._number * self._interval_ns) + self._turns[self._position][0]

    def take(self, until_ns: int) -> Iterator[tuple[int, int, int]]:
        """Yield (device, number, when) for all that is due before `until_ns`; numbers count from 0."""
        turns = self._turns
        while True:
            offset_ns, device = turns[self._position]
            due_ns = self._begin_ns + int(self._number * self._interval_ns) + offset_ns
            if due_ns >= until_ns:
                return
            number = self._number
            self._position += 1
            if self._position == len(turns):
                self._position = 0
                self._number += 1
            yield device, number, due_ns


def fraction(seed: int, *what: object) -> float:
    """Return a number of 0 to below 1 that a seed and the other arguments decide."""
    return int.from_bytes(draw(seed, *what, size=_FRACTION_BYTES), "big") / (1 << 8 * _FRACTION_BYTES)


def draw(seed: int, *what: object, size: int) -> bytes:
    """Return `size` bytes that look like chance: any of them can be had without those before it."""
    return shake_128(f"{seed}/{what}".encode()).digest(size)
