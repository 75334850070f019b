"""What every SessionStore keeps; another adapter is one line in `session_stores.every_place`."""

from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.properties import Properties
from broker.protocol.subscription import Subscription
from broker.session.flow import Flow
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, DeliveryRow, Will
from broker.storage import Page, Snapshot, StoredSession, SweptDelivery
from session_stores import (
    CLIENT,
    Place,
    after,
    commit,
    every_place,
    new_delivery,
    new_message,
    new_session,
    opened,
    put,
    read,
    row_numbers,
)

_EVERY_PROPERTY = Properties(
    payload_format_indicator=0,
    message_expiry_interval=0,
    content_type="text/é",
    response_topic="r/t",
    correlation_data=b"\x00\xff",
    user_properties=(("a", "1"), ("a", "2"), ("", "")),
)
_RARE = ApplicationMessage(
    TopicName("t/é".encode()),
    b"\x00\xff\xc0\x00",
    2,
    True,
    _EVERY_PROPERTY,
    1_800_000_000.1234567,
    supersede_key=b"\x00",
)
_SUBSCRIPTION = Subscription(TopicFilter(b"$share/g/+/#"), 2, False, True, 1, 268_435_455)


# What comes back is what was put.


@every_place
async def test_a_new_store_is_empty(place: Place) -> None:
    assert await after(place) == Snapshot()


@every_place
async def test_a_session_is_kept_as_it_was_put_last(place: Place) -> None:
    put = new_session(expiry_interval=60, disconnected_at=1_800_000_000.1234567, identity=None, dropped=7)
    assert (await after(place, Changes(sessions={1: new_session()}))).sessions == {
        1: StoredSession(new_session())
    }
    snapshot = await after(place, Changes(sessions={1: new_session()}), Changes(sessions={1: put}))
    assert snapshot.sessions == {1: StoredSession(put)}


@every_place
async def test_two_sessions_of_one_client_are_kept_apart(place: Place) -> None:
    changes = put(new_delivery(1, session=1), new_delivery(2, session=2), sessions=(1, 2))
    async with opened(place, changes) as store:
        assert [await row_numbers(store, number) for number in (1, 2)] == [[1], [2]]
        assert list((await store.load()).sessions) == [1, 2]


@every_place
async def test_putting_a_session_again_leaves_what_it_holds(place: Place) -> None:
    held = put(new_delivery(1))
    held.subscriptions[1, _SUBSCRIPTION.topic_filter] = _SUBSCRIPTION
    held.inbound[1, 7] = True
    stored = (await after(place, held, Changes(sessions={1: new_session(dropped=1)}))).sessions[1]
    assert stored == StoredSession(
        new_session(dropped=1), {_SUBSCRIPTION.topic_filter: _SUBSCRIPTION}, [], {7}, 1, 2
    )


@every_place
async def test_subscriptions_are_put_replaced_and_dropped(place: Place) -> None:
    replaced = Subscription(_SUBSCRIPTION.topic_filter, 0)
    other = Subscription(TopicFilter(b"t"), 1, True)
    snapshot = await after(
        place,
        Changes(
            sessions={1: new_session()},
            subscriptions={(1, _SUBSCRIPTION.topic_filter): _SUBSCRIPTION, (1, other.topic_filter): other},
        ),
        Changes(
            subscriptions={
                (1, replaced.topic_filter): replaced,
                (1, other.topic_filter): None,
                (1, TopicFilter(b"never there")): None,
            }
        ),
    )
    assert snapshot.sessions[1].subscriptions == {replaced.topic_filter: replaced}


@every_place
async def test_inbound_packet_ids_are_put_and_dropped(place: Place) -> None:
    snapshot = await after(
        place,
        Changes(sessions={1: new_session()}, inbound={(1, 1): True, (1, 65_535): True}),
        Changes(inbound={(1, 1): False, (1, 2): False, (1, 65_535): True}),
    )
    assert snapshot.sessions[1].inbound == {65_535}


@every_place
async def test_wills_need_no_session(place: Place) -> None:
    other = ("red", ClientId("other"))
    snapshot = await after(
        place,
        Changes(wills={("red", CLIENT): Will(new_message(), 0), other: Will(new_message(), 1)}),
        Changes(wills={("red", CLIENT): Will(_RARE, 0xFFFFFFFF), other: None, ("blue", CLIENT): None}),
    )
    assert snapshot == Snapshot(wills={("red", CLIENT): Will(_RARE, 0xFFFFFFFF)})


@every_place
async def test_retained_messages_are_put_replaced_and_dropped(place: Place) -> None:
    other = new_message(b"other")
    snapshot = await after(
        place,
        Changes(
            retained={(tenant, each.topic): each for tenant in ("red", "blue") for each in (_RARE, other)}
        ),
        Changes(
            retained={
                ("red", other.topic): new_message(b"newer"),
                ("red", _RARE.topic): None,
                ("blue", TopicName(b"never there")): None,
            }
        ),
    )
    assert snapshot.retained == {
        ("red", other.topic): new_message(b"newer"),
        ("blue", other.topic): other,
        ("blue", _RARE.topic): _RARE,
    }


@every_place
async def test_deliveries_are_put_replaced_moved_and_dropped(place: Place) -> None:
    rare = DeliveryRow(9, 1, _RARE, 2, True, (1, 268_435_455), TopicFilter(b"$share/g/t"))
    replaced = DeliveryRow(3, 1, new_message(b"newer"), 1, False, ())
    groups = (
        put(rare, new_delivery(3), new_delivery(5), new_delivery(7)),
        Changes(put={3: replaced}, moved={9: (65_535, Flow.AWAIT_PUBREC), 7: (1, Flow.AWAIT_PUBACK)}),
        Changes(moved={9: (65_535, Flow.AWAIT_PUBCOMP)}, dropped=[5]),
    )
    async with opened(place, *groups) as store:
        assert await read(store) == Page([replaced], True)
        stored = (await store.load()).sessions[1]
    assert stored.in_flight == [
        DeliveryRow(7, 1, new_message(b"7"), 1, False, (), None, 1, Flow.AWAIT_PUBACK),
        DeliveryRow(
            9, 1, _RARE, 2, True, (1, 268_435_455), TopicFilter(b"$share/g/t"), 65_535, Flow.AWAIT_PUBCOMP
        ),
    ]
    assert (stored.pending_messages, stored.pending_bytes) == (1, len(b"t" + b"newer"))


@every_place
async def test_any_bytes_of_any_length_come_back(place: Place) -> None:
    payloads = [b"", b"\x00", bytes(range(256)) * 3, b"\x00" * 2_000_000, b'"\\\xc3(', b"after"]
    rows = [new_delivery(row, new_message(payload)) for row, payload in enumerate(payloads, 1)]
    in_flight = [new_delivery(row + 100, new_message(payload)) for row, payload in enumerate(payloads, 1)]
    for delivery in in_flight:
        delivery.packet_id, delivery.flow = delivery.row, Flow.AWAIT_PUBACK
    async with opened(place, put(*rows, *in_flight)) as store:
        assert await read(store, size_bytes=10_000_000) == Page(rows, True)
        assert (await store.load()).sessions[1].in_flight == in_flight


@every_place
async def test_a_message_for_many_comes_back_as_one_value_to_each(place: Place) -> None:
    shared, own = _RARE, new_message(b"own")
    rows = [new_delivery(row, shared, session=row) for row in (1, 2, 3)]
    rows += [new_delivery(4, own), new_delivery(5, shared), DeliveryRow(6, 1, shared, 0, False, (7,))]
    async with opened(place, put(*rows, sessions=(1, 2, 3))) as store:
        page = await read(store)
        assert page == Page([rows[0], rows[3], rows[4], rows[5]], True)
        assert page.deliveries[0].message is page.deliveries[2].message
        assert await read(store, 2) == Page([rows[1]], True)
        await commit(store, Changes(dropped=[1, 2, 5, 6]), Changes(sessions={2: None}))
        await store.sweep(0.0, messages=10)
        assert await read(store, 3) == Page([rows[2]], True)


# Numbers.


@every_place
async def test_numbers_never_come_again_though_nothing_is_left(place: Place) -> None:
    snapshot = await after(
        place,
        Changes(at=5.25, sessions={8: new_session(8)}, put={41: new_delivery(41, session=8)}),
        Changes(at=7.125, sessions={8: None}, dropped=[41]),
        Changes(at=6.0, retained={("red", TopicName(b"t")): None}),
    )
    assert snapshot == Snapshot(next_row=42, next_session=9, at=7.125)


@every_place
async def test_row_numbers_may_grow_beyond_what_a_float_can_count(place: Place) -> None:
    rows = [new_delivery(2**53 + offset, new_message(b"%d" % offset)) for offset in (1, 2, 3)]
    groups = (
        put(*rows),
        Changes(moved={2**53 + 1: (1, Flow.AWAIT_PUBACK)}, dropped=[2**53 + 2]),
    )
    async with opened(place, *groups) as store:
        assert (await read(store, after=2**53)).deliveries == [rows[2]]
        snapshot = await store.load()
        assert [delivery.row for delivery in snapshot.sessions[1].in_flight] == [2**53 + 1]
        assert snapshot.next_row == 2**53 + 4


# Sessions that end.


@every_place
async def test_a_dropped_session_takes_everything_with_it_but_its_will(place: Place) -> None:
    held = put(new_delivery(1), new_delivery(2), sessions=(1, 2))
    held.put[2].session = 2
    held.subscriptions = {(number, _SUBSCRIPTION.topic_filter): _SUBSCRIPTION for number in (1, 2)}
    held.inbound = {(1, 7): True, (2, 7): True}
    held.wills = {("red", CLIENT): Will(_RARE, 5)}
    dropped = Changes(sessions={1: None}, put={3: new_delivery(3)}, inbound={(1, 8): True})
    dropped.subscriptions[1, TopicFilter(b"late")] = Subscription(TopicFilter(b"late"))
    async with opened(place, held, dropped) as store:
        for _ in range(2):  # Before and after what is left is swept.
            snapshot = await store.load()
            assert list(snapshot.sessions) == [2]
            assert snapshot.sessions[2].inbound == {7}
            assert snapshot.wills == held.wills
            assert [await row_numbers(store, number) for number in (1, 2)] == [[], [2]]
            assert list(await store.sweep(0.0, messages=100)) == []


@every_place
async def test_what_a_dropped_session_left_does_not_expire(place: Place) -> None:
    held = put(
        new_delivery(1, new_message(expires_at=5.0)),
        new_delivery(2, new_message(expires_at=5.0)),
        sessions=(1, 2),
    )
    held.put[2].session = 2
    async with opened(place, held, Changes(sessions={1: None})) as store:
        assert list(await store.sweep(5.0, messages=1)) == [SweptDelivery(2, 2, 1)]


@every_place
async def test_rows_that_are_gone_may_be_dropped(place: Place) -> None:
    async with opened(place, put(new_delivery(1), new_delivery(2))) as store:
        await commit(
            store,
            Changes(dropped=[1]),
            Changes(dropped=[1, 99]),
            Changes(sessions={1: None}),
            Changes(dropped=[2]),
        )
        assert (await store.load()).sessions == {}
