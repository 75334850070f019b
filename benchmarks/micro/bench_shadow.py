"""What one shadow update costs: run `python benchmarks/micro/bench_shadow.py` (pyperf's options apply).

`update` is the pure work for a report on a document of usual size: parse the request, merge, stamp the
metadata, find the delta, and encode the document and its three messages. The others are parts of it.
"""

import sys
from pathlib import Path

import pyperf

sys.path.insert(0, str(Path(__file__).parents[2]))  # pyperf's workers start outside the project's folder

from shadow.commands import Command, parse
from shadow.document import Document
from shadow.engine import Decision, decide
from shadow.settings import ShadowSettings
from shadow.topics import Operation, ShadowKey, ShadowTopics

KEY = ShadowKey("thing-1")
SETTINGS = ShadowSettings()
TOPICS = ShadowTopics()
FIRST = (
    b'{"state":{"desired":{"led":"off","mode":"eco","temp":20,"net":{"mtu":1400}},'
    b'"reported":{"led":"off","uptime":1,"rssi":-60,"fw":"1.0.3"}}}'
)
REPORT = (
    b'{"state":{"reported":{"led":"on","temp":21.5,"net":{"mtu":1400,"dns":["a","b","c"]}}},'
    b'"clientToken":"b2c7f9d0-1234-4321-aaaa-0123456789ab"}'
)


def read(payload: bytes) -> Command:
    """Parse an update."""
    return parse(Operation.UPDATE, payload, SETTINGS)


def first_document() -> Document:
    """The document that the report meets."""
    document = decide(KEY, None, read(FIRST), now=1_699_999_999, settings=SETTINGS).change
    assert isinstance(document, Document)
    return document


DOCUMENT = first_document()
COMMAND = read(REPORT)


def update() -> Decision:
    """One update, from payload to encoded messages."""
    return decide(KEY, DOCUMENT, read(REPORT), now=1_700_000_000, settings=SETTINGS)


def decided() -> Decision:
    """The same without parsing."""
    return decide(KEY, DOCUMENT, COMMAND, now=1_700_000_000, settings=SETTINGS)


if __name__ == "__main__":
    assert len(update().messages) == 3
    runner = pyperf.Runner()
    runner.bench_func("shadow update", update)
    runner.bench_func("shadow update: parse", read, REPORT)
    runner.bench_func("shadow update: decide", decided)
    runner.bench_func("shadow topic", TOPICS.parse, "$aws/things/thing-1/shadow/update")
