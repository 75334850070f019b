"""A scenario: the seed decides what is sent when, however it is split and asked for."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.swarm import Scenario
from simulators.swarm.scenario import Schedule

SECOND_NS = 1_000_000_000
seeds = st.integers(0, 1 << 64)

Sent = list[tuple[int, int, int]]


def schedule(scenario: Scenario, devices: list[int] | None = None, begin_ns: int = 0) -> Schedule:
    made = scenario.updates(list(range(scenario.devices)) if devices is None else devices, begin_ns)
    assert made is not None
    return made


def sent(scenario: Scenario, until_ns: int = 3 * SECOND_NS) -> list[tuple[int, int, int, bytes]]:
    template = scenario.payload_template()
    return [
        (device, number, due_ns, template % (*scenario.values(device, number), number))
        for device, number, due_ns in schedule(scenario).take(until_ns)
    ]


@given(seeds)
def test_the_same_seed_sends_the_same_at_the_same_times(seed: int) -> None:
    one, other = (Scenario(devices=5, rate=2.5, seed=seed) for _ in range(2))
    assert sent(one) == sent(other)


def test_these_are_the_payloads_and_times_of_this_seed() -> None:
    scenario = Scenario(devices=2, rate=1.0, seed=42, fields=2)
    assert sent(scenario, SECOND_NS) == [
        (1, 0, 657_566_002, b'{"state":{"reported":{"field-0":46617,"field-1":31769}},"clientToken":"0"}'),
        (0, 0, 720_169_355, b'{"state":{"reported":{"field-0":19833,"field-1":36380}},"clientToken":"0"}'),
    ]


@given(seeds)
def test_another_seed_sends_something_else_at_other_times(seed: int) -> None:
    one, other = (sent(Scenario(devices=5, rate=2.5, seed=seed + step)) for step in (0, 1))
    assert {due_ns for _, _, due_ns, _ in one} != {due_ns for _, _, due_ns, _ in other}
    assert {payload for *_, payload in one} != {payload for *_, payload in other}


@given(st.integers(1, 20), st.integers(1, 5), seeds)
def test_processes_share_the_same_schedule(devices: int, processes: int, seed: int) -> None:
    scenario = Scenario(devices=devices, processes=min(processes, devices), rate=3.0, seed=seed)
    shares: Sent = []
    for process in range(scenario.processes):
        shares += schedule(scenario, list(scenario.share(process))).take(2 * SECOND_NS)
    assert sorted(shares) == sorted(schedule(scenario).take(2 * SECOND_NS))


@given(st.lists(st.integers(0, SECOND_NS), max_size=8), st.floats(0.1, 50.0), st.integers(1, 6))
def test_in_whatever_steps_it_is_taken_nothing_is_missing_or_out_of_order(
    steps: list[int], rate: float, devices: int
) -> None:
    scenario, until_ns = Scenario(devices=devices, rate=rate), 2 * SECOND_NS
    stepwise, taken = schedule(scenario), []
    for step in sorted(steps):
        taken += list(stepwise.take(step))
        assert stepwise.next_ns >= step
    taken += list(stepwise.take(until_ns))
    assert taken == list(schedule(scenario).take(until_ns))
    assert all(before[2] <= after[2] for before, after in pairwise(taken))


@given(st.floats(0.5, 50.0), st.integers(0, 1 << 40))
def test_a_device_is_due_once_in_each_interval(rate: float, begin_ns: int) -> None:
    for number, (_, taken, due_ns) in enumerate(
        schedule(Scenario(devices=1, rate=rate), begin_ns=begin_ns).take(begin_ns + 5 * SECOND_NS)
    ):
        assert taken == number
        assert -1 <= due_ns - begin_ns - number * SECOND_NS / rate <= SECOND_NS / rate + 1


@given(st.integers(0, 10**6), st.integers(0, 10**9), st.integers(1, 40))
def test_the_payload_is_the_reported_state_by_its_names(device: int, number: int, fields: int) -> None:
    scenario = Scenario(devices=1, fields=fields)
    payload = scenario.payload_template() % (*scenario.values(device, number), number)
    reported = scenario.reported(device, number)
    assert json.loads(payload) == {"state": {"reported": reported}, "clientToken": str(number)}
    assert len(reported) == fields


def test_telemetry_is_the_values_alone() -> None:
    scenario = Scenario(devices=1, fields=1, profile="telemetry")
    payload = json.loads(scenario.payload_template() % (*scenario.values(0, 5), 5))
    assert payload == {"field-0": scenario.values(0, 5)[0], "number": 5}


def test_who_has_no_rate_or_idles_has_no_schedule() -> None:
    assert Scenario(devices=1, rate=None).updates([0], 0) is None
    assert Scenario(devices=1, profile="idle").updates([0], 0) is None
    assert Scenario(devices=1).edit_times([0], 0) is None
    assert Scenario(devices=1, rate=None).is_closed_loop
    assert not Scenario(devices=1, rate=None, profile="idle").is_closed_loop


def test_the_ramp_spreads_connects_over_the_whole_swarm() -> None:
    scenario = Scenario(devices=10, ramp=5.0, processes=2)
    assert [scenario.connect_at_ns(number) for number in scenario.share(1)] == [
        number * SECOND_NS // 5 for number in (1, 3, 5, 7, 9)
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"devices": 0}, "devices must be"),
        ({"rate": 0.0}, "rate must be"),
        ({"ramp": 0.0}, "ramp must be"),
        ({"processes": 2}, "processes must be"),
        ({"seed": -1}, "seed must be"),
        ({"fields": 0}, "fields must be"),
        ({"in_flight": 11}, "in_flight must be 1 to 10"),
        ({"edits": -1.0}, "edits must be"),
        ({"edits": 1.0, "profile": "telemetry"}, "edits of telemetry must be 0"),
        ({"prefix": "a/b"}, "prefix must be"),
        ({"root": "a/+"}, "root must be"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Scenario(**{"devices": 1, **wrong})  # type: ignore[arg-type]  # wrong on purpose, too
