"""The wheel against a sorted list."""

from hypothesis import given
from hypothesis import strategies as st

from broker.engine.timers import Timer, TimerWheel

_TIMES = st.floats(0, 1000, allow_nan=False)


@given(dues=st.lists(_TIMES, max_size=30), moments=st.lists(_TIMES, max_size=10))
def test_what_is_due_is_called_once_never_early_and_a_quarter_second_late_at_most(
    dues: list[float], moments: list[float]
) -> None:
    wheel = TimerWheel(now=0)
    called: dict[int, float] = {}

    def call(index: int, now: float) -> None:
        assert index not in called
        called[index] = now

    for index, due in enumerate(dues):
        wheel.add(due, call, index)
    for now in sorted(moments):
        wheel.advance(now)
        for index, due in enumerate(dues):
            if index in called:
                assert due <= called[index]
            else:
                assert now < due + 0.25
    wheel.advance(2000)
    assert len(called) == len(dues)
    assert len(wheel) == 0
    assert wheel.next_due() is None


@given(dues=st.lists(_TIMES, min_size=1, max_size=20), data=st.data())
def test_what_was_cancelled_is_not_called_and_leaves_nothing(dues: list[float], data: st.DataObject) -> None:
    wheel = TimerWheel(now=0)
    called: set[int] = set()
    timers: list[Timer] = [
        wheel.add(due, lambda index, now: called.add(index), index) for index, due in enumerate(dues)
    ]
    cancelled = data.draw(st.sets(st.integers(0, len(dues) - 1)))
    for index in cancelled:
        wheel.cancel(timers[index])
        wheel.cancel(timers[index])
    assert len(wheel) == len(dues) - len(cancelled)
    wheel.advance(2000)
    assert called == set(range(len(dues))) - cancelled


def test_entries_of_a_moment_are_called_in_the_order_of_adding() -> None:
    wheel = TimerWheel(now=0)
    called: list[int] = []
    for index in range(5):
        wheel.add(1, lambda number, now: called.append(number), index)
    wheel.advance(2)
    assert called == [0, 1, 2, 3, 4]


def test_an_entry_may_put_itself_back() -> None:
    wheel = TimerWheel(now=0)
    called: list[float] = []

    def call(subject: str, now: float) -> None:
        called.append(now)
        wheel.add(now + 1, call, subject)

    wheel.add(1, call, "again")
    for tick in range(50):
        wheel.advance(tick / 10)
    assert len(called) == 3
    assert len(wheel) == 1


def test_an_entry_may_cancel_what_is_due_with_it_or_later() -> None:
    wheel = TimerWheel(now=0)
    called: list[str] = []
    later = wheel.add(3, lambda name, now: called.append(name), "later")
    wheel.add(1, lambda timer, now: wheel.cancel(timer), later)
    wheel.advance(5)
    assert called == []


def test_what_is_overdue_when_added_is_called_at_the_next_look() -> None:
    wheel = TimerWheel(now=100)
    called: list[float] = []
    wheel.add(5, lambda _, now: called.append(now), None)
    wheel.advance(100.1)
    assert called == []
    wheel.advance(100.25)
    assert called == [100.25]


def test_next_due_says_when_to_look_again() -> None:
    wheel = TimerWheel(now=0)
    wheel.add(10, lambda subject, now: None, None)
    due = wheel.next_due()
    assert due is not None
    assert 10 <= due <= 10.25
