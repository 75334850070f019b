import pytest
from hypothesis import given
from hypothesis import strategies as st

from shadow.reconciler import Drift, Reconciler
from shadow.records import Drifting
from shadow.settings import ShadowSettings
from shadow.topics import ShadowKey

A, B, NAMED = ShadowKey("a"), ShadowKey("b"), ShadowKey("a", "fw")
T = 1000.0
SETTINGS = ShadowSettings(resend_after_connect_s=2, resend_first_s=60, resend_maximum_s=200)


class FakePresence:
    def __init__(self, **connected: float) -> None:
        self.connected = connected

    def connected_since(self, thing_name: str) -> float | None:
        return self.connected.get(thing_name)


def drift(told_at: float = T, tellings: int = 1, since: float = T) -> Drifting:
    return Drifting(since=since, told_at=told_at, tellings=tellings, keys=1)


def due(of: Drifting, at: float, *, presence: FakePresence | None = None) -> bool:
    return Reconciler(SETTINGS, presence).is_due(A, of, at)


@pytest.mark.parametrize(("tellings", "pause"), [(1, 60), (2, 120), (3, 200), (4, 200), (10**6, 200)])
@pytest.mark.parametrize("presence", [None, FakePresence(a=T - 1)])
def test_pauses_double_up_to_the_longest(tellings: int, pause: int, presence: FakePresence | None) -> None:
    assert not due(drift(tellings=tellings), T + pause - 0.1, presence=presence)
    assert due(drift(tellings=tellings), T + pause, presence=presence)


def test_who_is_away_is_told_nothing() -> None:
    assert not due(drift(), T + 1e6, presence=FakePresence(b=T))


def test_who_came_back_is_told_when_it_had_time_to_subscribe() -> None:
    presence = FakePresence(a=T + 10)
    assert not due(drift(), T + 11.9, presence=presence)
    assert due(drift(), T + 12, presence=presence)
    assert not due(drift(told_at=T + 12, tellings=2), T + 13, presence=presence)


@pytest.mark.parametrize("presence", [None, FakePresence(a=T - 100)])
def test_a_clock_that_went_back_silences_nobody(presence: FakePresence | None) -> None:
    assert due(drift(told_at=T + 1e6), T, presence=presence)
    assert not due(drift(told_at=T), T, presence=presence)


def test_what_follows_is_forgotten() -> None:
    reconciler = Reconciler(SETTINGS)
    reconciler.note(A, drift())
    reconciler.note(A, None)
    reconciler.note(B, None)
    assert len(reconciler) == 0
    assert reconciler.due(T + 1e6) == []
    assert reconciler.oldest_since is None


@given(st.sets(st.integers(0, 3000), max_size=2500))
def test_every_shadow_has_its_turn_once_a_round(numbers: set[int]) -> None:
    reconciler = Reconciler(SETTINGS)
    keys = {ShadowKey(str(number)) for number in numbers}
    for key in keys:
        reconciler.note(key, drift())
    rounds = -(-len(keys) // 1000)
    seen = [key for _ in range(rounds) for key in reconciler.due(T + 60)]
    assert len(seen) == len(keys)
    assert set(seen) == keys


def test_the_longest_drifting_come_first_and_tell_what_is_known() -> None:
    reconciler = Reconciler(SETTINGS, FakePresence(a=T))
    reconciler.note(A, drift(since=T))
    reconciler.note(NAMED, drift(since=T - 5, told_at=T + 3))
    reconciler.note(B, drift(since=T - 1))
    assert reconciler.oldest(2) == [
        Drift(thing_name="a", shadow_name="fw", since=T - 5, last_told=T + 3, is_connected=True, keys=1),
        Drift(thing_name="b", shadow_name=None, since=T - 1, last_told=T, is_connected=False, keys=1),
    ]
    assert reconciler.oldest_since == T - 5


def test_without_presence_nobody_knows_who_is_connected() -> None:
    reconciler = Reconciler(SETTINGS)
    reconciler.note(A, drift())
    assert reconciler.oldest(1)[0].is_connected is None


def test_more_than_may_be_followed_waits_for_room() -> None:
    reconciler = Reconciler(SETTINGS.model_copy(update={"drifts_maximum": 10}))
    keys = [ShadowKey(str(number)) for number in range(11)]
    for key in keys:
        reconciler.note(key, drift())
    assert (len(reconciler), reconciler.is_partial, reconciler.has_room) == (10, True, False)
    reconciler.note(keys[0], drift(tellings=2))
    assert len(reconciler) == 10
    reconciler.note(keys[0], None)
    assert reconciler.has_room


def test_what_the_store_says_is_older_than_what_is_followed() -> None:
    reconciler = Reconciler(SETTINGS)
    reconciler.note(A, drift(since=T))
    reconciler.load([(A, drift(since=T - 5)), (B, drift(since=T - 1))])
    assert {(each.thing_name, each.since) for each in reconciler.oldest(9)} == {("a", T), ("b", T - 1)}
