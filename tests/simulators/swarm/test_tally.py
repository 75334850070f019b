"""Counts of several processes become one, and nothing is lost on the way."""

import pickle

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, fields

from simulators.swarm import Counts, Scenario, Tally
from simulators.swarm.report import make_report
from simulators.swarm.tally import LATENCIES

NAMES = [field.name for field in fields(Counts)]


@st.composite
def tallies(draw: st.DrawFn) -> Tally:
    tally = Tally()
    for name in NAMES:
        setattr(tally.counts, name, draw(st.integers(0, 1000)))
    for name in LATENCIES:
        for value in draw(st.lists(st.integers(0, 10**10), max_size=5)):
            tally.latencies[name].add(value)
    for code in draw(st.lists(st.sampled_from([400, 429, 0x87]), max_size=5)):
        tally.refusals[code] += 1
    for reason in draw(st.lists(st.sampled_from("abc"), max_size=5)):
        tally.fail(reason)
    tally.last_answer_ns = draw(st.integers(0, 10**12))
    return tally


def merged(*tallies: Tally) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole


def content(tally: Tally) -> object:
    latencies = {name: tally.latencies[name].counts for name in LATENCIES}
    return asdict(tally.counts), latencies, tally.refusals, tally.failures, tally.last_answer_ns


@given(st.lists(tallies(), min_size=1, max_size=3))
def test_what_is_merged_is_the_sum_in_any_order(parts: list[Tally]) -> None:
    whole = merged(*parts)
    assert content(whole) == content(merged(*reversed(parts)))
    for name in NAMES:
        assert getattr(whole.counts, name) == sum(getattr(part.counts, name) for part in parts)
    for name in LATENCIES:
        assert whole.latencies[name].counts.total() == sum(p.latencies[name].counts.total() for p in parts)


@given(tallies())
def test_a_tally_travels_between_processes(tally: Tally) -> None:
    assert content(pickle.loads(pickle.dumps(tally))) == content(tally)  # noqa: S301  (our own)


def test_reasons_without_end_are_kept_within_bounds() -> None:
    tally = Tally()
    for number in range(1000):
        tally.fail(f"reason {number}")
    assert len(tally.failures) <= 21
    assert tally.failures.total() == 1000


def report_of(tally: Tally, *, ready: int = 2, drifting: int = 0) -> dict[str, int]:
    scenario = Scenario(devices=2)
    return make_report(
        scenario, "tcp://a:1", tally, seconds=1.0, ready=ready, drifting=drifting, cpu_s=[0.1]
    ).errors


def test_a_run_without_errors_has_none() -> None:
    tally = Tally()
    tally.counts.connects = tally.counts.updates_due = tally.counts.updates_sent = tally.counts.accepted = 2
    assert report_of(tally) == {}


def test_each_thing_that_goes_wrong_is_an_error() -> None:
    good = {
        "connects", "updates_due", "updates_sent", "pubacks", "accepted",
        "deltas", "deltas_stale", "deltas_followed", "edits_sent", "edits_converged",
    }  # fmt: skip
    for name in NAMES:
        tally = Tally()
        setattr(tally.counts, name, 3)
        assert list(report_of(tally).values()) == ([] if name in good else [3])
    assert report_of(Tally(), ready=1) == {"devices not connected": 1}
    assert report_of(Tally(), drifting=1) == {"devices drifting": 1}
