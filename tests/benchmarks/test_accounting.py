import select
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.clients import Account
from benchmarks.load.measurement import Delivery, Measurement, summarize, with_ratios
from benchmarks.load.processes import ProcessMeter, Spent
from benchmarks.load.scenarios import PAYLOAD_SIZE

RUN_ID = 77


def payload(publisher: int, sequence: int, *, run_id: int = RUN_ID, sent_ns: int = 0) -> bytes:
    return struct.pack(">IIQQ", run_id, publisher, sequence, sent_ns).ljust(PAYLOAD_SIZE, b"\0")


def account() -> Account:
    return Account(RUN_ID, latency_mask=0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 15))))
def test_each_message_counts_once_whatever_the_order(arrivals: list[tuple[int, int]]) -> None:
    counted = account()
    for publisher, sequence in arrivals:
        counted.count(payload(publisher, sequence), 0)
    assert counted.delivered == len(set(arrivals))
    assert counted.duplicates == len(arrivals) - len(set(arrivals))
    assert counted.latency.counts.total() == counted.delivered
    assert (counted.reordered == 0) == all(
        sequence >= max((s for p, s in arrivals[:index] if p == publisher), default=0)
        for index, (publisher, sequence) in enumerate(arrivals)
        if (publisher, sequence) not in arrivals[:index]
    )


@pytest.mark.parametrize("strange", [payload(0, 0, run_id=78), b"", payload(0, 0) + b"\0"])
def test_messages_of_others_are_foreign(strange: bytes) -> None:
    counted = account()
    counted.count(strange, 0)
    assert (counted.delivered, counted.foreign) == (0, 1)


def test_a_new_phase_still_knows_what_came_before() -> None:
    counted = account()
    counted.count(payload(0, 0), 0)
    counted.reset()
    counted.count(payload(0, 0), 0)
    counted.count(payload(0, 1), 0)
    assert (counted.delivered, counted.duplicates) == (1, 1)


def test_the_meter_reads_the_cpu_of_another_process() -> None:
    code = (
        "import time\nprint(flush=True)\ninput()\nend = time.process_time() + 0.2\n"
        "while time.process_time() < end: pass\nprint(flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        meter = ProcessMeter(process.pid)
        meter.start()
        begun_own = time.process_time()
        process.stdin.write(b"\n")
        select.select([process.stdout], [], [], 20)
        meter.stop()
        own = time.process_time() - begun_own
        process.stdin.write(b"\n")
    spent = meter.spent()
    assert 0.2 <= spent.cpu_s < 0.3
    assert own < spent.cpu_s
    assert 0 <= spent.others_share <= 1


def test_a_summary_has_medians_and_the_ratio_to_the_reference() -> None:
    def run(peer: str, cpu_s: float, lost: int) -> Measurement:
        delivery = Delivery(
            expected=100 + lost,
            delivered=100,
            lost=lost,
            seconds=2.0,
            generator_cpu_s=0.1,
            p50_us=None,
            p99_us=5.0,
        )
        spent = Spent(cpu_s=cpu_s, others_share=0.5, rss_growth_kb=300)
        return Measurement(scenario="s", peer=peer, delivery=delivery, spent=spent)

    ours = [run("gnomon", cpu_s, lost) for cpu_s, lost in ((0.1, 0), (0.9, 2), (0.2, 1))]
    theirs = [run("mosquitto", 0.4, 0)]
    first, second = with_ratios(
        [summarize(runs, scale=1.0, counts_connections=True) for runs in (ours, theirs)]
    )
    assert first.cpu_us == pytest.approx(2000)
    assert first.cpu_us_least == pytest.approx(1000)
    assert first.cpu_us_most == pytest.approx(9000)
    assert first.ratio == pytest.approx(0.5)
    assert (first.lost, first.per_second, first.p50_us, first.p99_us) == (3, 50, None, 5.0)
    assert first.rss_kb_per_connection == pytest.approx(3.0)
    assert second.ratio == pytest.approx(1.0)
