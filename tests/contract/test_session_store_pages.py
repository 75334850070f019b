"""How every SessionStore gives out what is pending, and forgets what has expired."""

import asyncio

from broker.session.flow import Flow
from broker.session.records import Changes
from broker.storage import Page, SweptDelivery
from session_stores import (
    Place,
    commit,
    every_place,
    new_delivery,
    new_message,
    opened,
    put,
    read,
    row_numbers,
)


@every_place
async def test_a_page_ends_with_its_messages(place: Place) -> None:
    rows = [new_delivery(row) for row in range(1, 6)]
    async with opened(place, put(*rows)) as store:
        assert await read(store, messages=2) == Page(rows[:2], False)
        assert await read(store, after=2, messages=2) == Page(rows[2:4], False)
        assert await read(store, after=4, messages=1) == Page(rows[4:], True)
        assert await read(store, messages=5) == Page(rows, True)
        assert await read(store, after=5) == Page([], True)
        assert await read(store, 99) == Page([], True)


@every_place
async def test_a_page_ends_once_it_weighs_enough(place: Place) -> None:
    rows = [
        new_delivery(row, new_message(b"x" * 9)) for row in range(1, 6)
    ]  # Ten bytes each, with the topic.
    async with opened(place, put(*rows)) as store:
        assert await read(store, size_bytes=1) == Page(rows[:1], False)
        assert await read(store, size_bytes=20) == Page(rows[:2], False)
        assert await read(store, size_bytes=21) == Page(rows[:3], False)
        assert await read(store, after=4, size_bytes=1) == Page(rows[4:], True)
        assert await read(store, size_bytes=41) == Page(rows, True)


@every_place
async def test_a_message_that_weighs_more_than_a_page_comes_alone(place: Place) -> None:
    rows = [new_delivery(1, new_message(b"x" * 1_000)), new_delivery(2)]
    async with opened(place, put(*rows)) as store:
        assert await read(store, size_bytes=10) == Page(rows[:1], False)


@every_place
async def test_a_page_passes_over_what_is_in_flight(place: Place) -> None:
    groups = (put(*(new_delivery(row) for row in range(1, 5))), Changes(moved={2: (1, Flow.AWAIT_PUBACK)}))
    async with opened(place, *groups) as store:
        assert await row_numbers(store) == [1, 3, 4]
        assert [delivery.row for delivery in (await read(store, messages=2)).deliveries] == [1, 3]


@every_place
async def test_a_page_shows_every_commit_that_is_done(place: Place) -> None:
    async with opened(place, put()) as store:
        for row in range(1, 30):
            await commit(store, Changes(put={row: new_delivery(row)}))
            assert await row_numbers(store) == list(range(1, row + 1))


@every_place
async def test_pages_of_several_sessions_are_read_at_the_same_time(place: Place) -> None:
    rows = [new_delivery(row, session=1 + row % 10) for row in range(1, 101)]
    async with opened(place, put(*rows, sessions=range(1, 11))) as store:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(row_numbers(store, number)) for number in range(1, 11)]
        assert [task.result() for task in tasks] == [
            [row for row in range(1, 101) if 1 + row % 10 == number] for number in range(1, 11)
        ]


# What expires.


@every_place
async def test_pending_deliveries_expire_on_time(place: Place) -> None:
    times = [None, 5.0, 1_800_000_000.25, 1_800_000_000.5]
    rows = [new_delivery(row, new_message(b"x", time)) for row, time in enumerate(times, 1)]
    async with opened(place, put(*rows)) as store:
        assert list(await store.sweep(4.9, messages=10)) == []
        assert list(await store.sweep(1_800_000_000.25, messages=10)) == [
            SweptDelivery(1, 2, 2),
            SweptDelivery(1, 3, 2),
        ]
        assert await read(store) == Page([rows[0], rows[3]], True)
        stored = (await store.load()).sessions[1]
        assert (stored.pending_messages, stored.pending_bytes) == (2, 4)


@every_place
async def test_what_is_in_flight_does_not_expire(place: Place) -> None:
    groups = (put(new_delivery(1, new_message(expires_at=5.0))), Changes(moved={1: (1, Flow.AWAIT_PUBACK)}))
    async with opened(place, *groups) as store:
        assert list(await store.sweep(6.0, messages=10)) == []
        assert len((await store.load()).sessions[1].in_flight) == 1


@every_place
async def test_a_sweep_takes_no_more_than_it_was_asked_for(place: Place) -> None:
    async with opened(
        place, put(*(new_delivery(row, new_message(expires_at=5.0)) for row in range(1, 8)))
    ) as store:
        swept = [await store.sweep(5.0, messages=3) for _ in range(4)]
        assert [len(each) for each in swept] == [3, 3, 1, 0]
        assert {each.row for part in swept for each in part} == set(range(1, 8))
        assert await row_numbers(store) == []


@every_place
async def test_rows_that_shared_a_message_may_all_be_put_again(place: Place) -> None:
    """As a delivery is that expires and gets its packet id, or that another one supersedes."""
    shared = new_message(b"shared")
    again = [new_delivery(row, new_message(b"again %d" % row)) for row in (1, 2, 3)]
    groups = (put(*(new_delivery(row, shared) for row in (1, 2, 3))), put(*again[:2]), put(again[2]))
    async with opened(place, *groups) as store:
        await store.sweep(0.0, messages=10)
        assert await read(store) == Page(again, True)
