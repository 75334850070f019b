"""What an effect costs: a value per receiver, a value per message, or an append to the outbox (ADR 0005).

Run: .venv/bin/python benchmarks/micro/bench_effects.py
"""

from collections.abc import Callable

import pyperf
from msgspec import Struct

_FRAME = bytes(80)


class Outbox:
    """A connection, as far as frames are concerned."""

    __slots__ = ("is_writable", "outgoing")

    def __init__(self) -> None:
        self.outgoing: list[bytes] = []
        self.is_writable = True


class Send(Struct, frozen=True):
    """One frame for one receiver."""

    receiver: Outbox
    frame: bytes


class Deliver(Struct, frozen=True):
    """One frame for many receivers."""

    frame: bytes
    receivers: list[Outbox]


def per_receiver(receivers: list[Outbox]) -> None:
    """Option 1."""
    effects = [Send(receiver, _FRAME) for receiver in receivers]
    for effect in effects:
        if isinstance(effect, Send):
            effect.receiver.outgoing.append(effect.frame)


def per_message(receivers: list[Outbox]) -> None:
    """Option 2."""
    effects = [Deliver(_FRAME, receivers)]
    for effect in effects:
        if isinstance(effect, Deliver):
            frame = effect.frame
            for receiver in effect.receivers:
                receiver.outgoing.append(frame)


def append(receivers: list[Outbox]) -> None:
    """Option 3, with the look at whether the receiver is dirty."""
    dirty = []
    for receiver in receivers:
        outgoing = receiver.outgoing
        if outgoing:
            outgoing.append(_FRAME)
        elif receiver.is_writable:
            dirty.append(receiver)
            outgoing.append(_FRAME)


def _time(loops: int, deliver: Callable[[list[Outbox]], None], receivers: list[Outbox]) -> float:
    total = 0.0
    done = 0
    while done < loops:
        # A turn brings some fifty messages; then everything is written.
        for receiver in receivers:
            receiver.outgoing.clear()
        batch = min(50, loops - done)
        start = pyperf.perf_counter()
        for _ in range(batch):
            deliver(receivers)
        total += pyperf.perf_counter() - start
        done += batch
    return total


def main() -> None:
    """Measure each option for one receiver and for fifty."""
    runner = pyperf.Runner()
    for count in (1, 50):
        receivers = [Outbox() for _ in range(count)]
        for option in (per_receiver, per_message, append):
            runner.bench_time_func(f"{option.__name__}, {count} receivers", _time, option, receivers)


if __name__ == "__main__":
    main()
