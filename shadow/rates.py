"""How many requests a second: one count per thing, and one for all.

Knows: counts of the present second.
Does not know: clocks, what happens to a request too many.
Spec: AWS IoT device shadow service, quotas: requests per second per thing.
"""


class Rates:
    """Counts in seconds of the clock; each is forgotten with its end, so no more is held than one brings."""

    def __init__(self, *, per_thing: int, in_all: int) -> None:
        self._per_thing = per_thing
        self._in_all = in_all
        self._second = 0
        self._total = 0
        self._counts: dict[str, int] = {}

    def admit(self, thing_name: str, now: float) -> bool:
        """Count a request at `now` (seconds), and return whether it is within the limits; 0 is none."""
        second = int(now)
        if second != self._second:
            self._second, self._total = second, 0
            self._counts.clear()
        if self._per_thing:
            count = self._counts[thing_name] = self._counts.get(thing_name, 0) + 1
            if count > self._per_thing:
                return False  # Nobody's flood uses up what is for all.
        self._total += 1
        return not self._in_all or self._total <= self._in_all
