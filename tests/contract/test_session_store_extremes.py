"""What every SessionStore takes although it is long, strange or much."""

from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.subscription import Subscription
from broker.session.flow import Flow
from broker.session.message import ApplicationMessage
from broker.session.records import Changes, Will
from session_stores import Place, after, commit, every_place, new_delivery, new_session, opened, put, read

#: As long as MQTT allows, and no compression makes it short.
_LONGEST = "".join(chr(0x4E00 + place * 7919 % 20_000) for place in range(65_535 // 3))
_ALMOST = _LONGEST[:-1] + "x"


@every_place
async def test_names_may_be_as_long_as_mqtt_allows(place: Place) -> None:
    filters = [TopicFilter(name.encode()) for name in (_LONGEST, _ALMOST)]
    messages = [ApplicationMessage(TopicName(name.encode()), b"") for name in (_LONGEST, _ALMOST)]
    wills = {("red", ClientId(name)): Will(messages[0], 1) for name in (_LONGEST, _ALMOST)}
    held = Changes(
        sessions={1: new_session(client_id=ClientId(_LONGEST), identity=_LONGEST)},
        subscriptions={(1, each): Subscription(each) for each in filters},
        put={1: new_delivery(1, messages[0])},
        wills=dict(wills),
        retained={("red", message.topic): message for message in messages},
    )
    changed = Changes(
        subscriptions={(1, filters[0]): None, (1, filters[1]): Subscription(filters[1], 2)},
        wills={("red", ClientId(_LONGEST)): None},
        retained={("red", messages[0].topic): None},
    )
    snapshot = await after(place, held, changed)
    stored = snapshot.sessions[1]
    assert stored.row == held.sessions[1]
    assert stored.subscriptions == {filters[1]: Subscription(filters[1], 2)}
    assert snapshot.wills == {("red", ClientId(_ALMOST)): Will(messages[0], 1)}
    assert snapshot.retained == {("red", messages[1].topic): messages[1]}


@every_place
async def test_any_character_comes_back(place: Place) -> None:
    strange = "\x00 \x1f'\"\\%{}$1\ufeff\uffff\U0010ffff"
    changes = Changes(
        sessions={1: new_session(tenant=strange, client_id=ClientId(strange), identity=strange)},
        wills={(strange, ClientId(strange)): Will(ApplicationMessage(TopicName(b"\x00"), b""), 0)},
        retained={(strange, TopicName(b"\x00")): ApplicationMessage(TopicName(b"\x00"), b"")},
    )
    snapshot = await after(place, changes)
    assert snapshot.sessions[1].row == changes.sessions[1]
    assert snapshot.wills == changes.wills
    assert snapshot.retained == changes.retained


@every_place
async def test_one_commit_may_hold_what_came_through_an_outage(place: Place) -> None:
    count = 6_000
    rows = range(1, count + 1)
    large, filters = b"x" * 100_000, [TopicFilter(b"%d" % row) for row in rows]
    held = put(*(new_delivery(row) for row in rows))
    for row in rows[:100]:
        held.put[row].message = ApplicationMessage(TopicName(b"t"), large, 1)
    shared = [ApplicationMessage(TopicName(b"s"), b"%d" % row) for row in rows[:2_000]]
    for row in range(count + 1, count + 4_001):
        held.put[row] = new_delivery(row, shared[row % 2_000])
    held.subscriptions = {(1, each): Subscription(each) for each in filters}
    held.inbound = {(1, row): True for row in rows}
    undone = Changes(
        moved={row: (row, Flow.AWAIT_PUBACK) for row in rows[:3_000]},
        dropped=list(rows[3_000:]),
        subscriptions={(1, each): None for each in filters[1:]},
        inbound={(1, row): False for row in rows[1:]},
    )
    async with opened(place, held) as store:
        stored = (await store.load()).sessions[1]
        assert (stored.pending_messages, len(stored.subscriptions)) == (count + 4_000, count)
        assert stored.inbound == set(rows)
        await commit(store, undone)
        stored = (await store.load()).sessions[1]
        assert [each.row for each in stored.in_flight] == list(rows[:3_000])
        assert stored.in_flight[99].message.payload == large
        assert (list(stored.subscriptions), stored.inbound) == ([filters[0]], {1})
        page = await read(store, messages=10_000)
        assert [each.message for each in page.deliveries] == [
            shared[row % 2_000] for row in range(count + 1, count + 4_001)
        ]
