"""What making and reading a small immutable value costs, for each way to write one (docs/adr/0003).

Run: .venv/bin/python benchmarks/micro/bench_values.py --rigorous -o values.json
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pyperf
from pydantic import BaseModel, ConfigDict

_TOPIC = b"dt/device-17/temperature"
_PAYLOAD = bytes(64)


class Struct(msgspec.Struct, frozen=True, gc=False):
    """What we use."""

    topic: bytes
    payload: bytes
    qos: int


class TrackedStruct(msgspec.Struct, frozen=True):
    """The same, known to the garbage collector."""

    topic: bytes
    payload: bytes
    qos: int


class Tuple(NamedTuple):
    """A named tuple."""

    topic: bytes
    payload: bytes
    qos: int


@dataclass(slots=True)
class SlottedDataclass:
    """A mutable dataclass with slots."""

    topic: bytes
    payload: bytes
    qos: int


@dataclass(frozen=True, slots=True)
class FrozenDataclass:
    """What the standard library offers for an immutable value."""

    topic: bytes
    payload: bytes
    qos: int


class Model(BaseModel):
    """A validating model."""

    model_config = ConfigDict(frozen=True)

    topic: bytes
    payload: bytes
    qos: int


Make = Callable[[], object]

_MAKERS: dict[str, Make] = {
    "msgspec.Struct, frozen, gc=False": lambda: Struct(_TOPIC, _PAYLOAD, 1),
    "msgspec.Struct, frozen": lambda: TrackedStruct(_TOPIC, _PAYLOAD, 1),
    "NamedTuple": lambda: Tuple(_TOPIC, _PAYLOAD, 1),
    "dataclass, slots": lambda: SlottedDataclass(_TOPIC, _PAYLOAD, 1),
    "dataclass, frozen, slots": lambda: FrozenDataclass(_TOPIC, _PAYLOAD, 1),
    "pydantic model, frozen": lambda: Model(topic=_TOPIC, payload=_PAYLOAD, qos=1),
}


def time_collections(loops: int, make: Make) -> float:
    """Return the seconds that `loops` full collections take while 100,000 values are alive."""
    values = [make() for _ in range(100_000)]
    gc.collect()
    start = time.perf_counter()
    for _ in range(loops):
        gc.collect()
    seconds = time.perf_counter() - start
    assert len(values) == 100_000
    return seconds


def main() -> None:
    """Run the benchmarks; pyperf reads the command line."""
    runner = pyperf.Runner()
    runner.metadata["description"] = "small values with three fields"
    for name, make in _MAKERS.items():
        runner.bench_func(f"make: {name}", make)
    for name, make in _MAKERS.items():
        runner.timeit(f"read 3 fields: {name}", "v.topic; v.payload; v.qos", globals={"v": make()})
    for name, make in _MAKERS.items():
        runner.bench_time_func(f"collect beside 100,000: {name}", time_collections, make)


if __name__ == "__main__":
    main()
