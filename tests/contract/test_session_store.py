"""What every SessionStore must do; another adapter is one line in `_STORES`."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.engine.restore import restore
from broker.engine.state import EngineState
from broker.protocol.packets import ClientId, TopicFilter, TopicName
from broker.protocol.properties import Properties
from broker.protocol.subscription import Subscription
from broker.session import ApplicationMessage, Delivery, Flow, Journal, Operation, Session, Will
from broker.session.records import (
    DropInbound,
    DropOutbound,
    DropRetained,
    DropSession,
    DropSubscription,
    DropWill,
    MoveOutbound,
    PutInbound,
    PutOutbound,
    PutRetained,
    PutSession,
    PutSubscription,
    PutWill,
)
from broker.storage import MemoryStore, SessionStore, Snapshot, StoredOutbound, StoredSession
from engine_strategies import STEPS, TOPICS, Run, Step
from fakes import EngineDriver

_STORES: list[Callable[[], SessionStore]] = [MemoryStore]

_every_store = pytest.mark.parametrize("new_store", _STORES)

_C = ClientId("c")
_KEY = ("red", _C)
_MESSAGE = ApplicationMessage(
    TopicName("t/é".encode()),
    b"\x00\xff",
    2,
    True,
    Properties(content_type="x", user_properties=(("a", "1"), ("a", "2")), correlation_data=b"\x00"),
    1_800_000_000.25,
)
_SUBSCRIPTION = Subscription(TopicFilter(b"$share/g/+/#"), 2, False, True, 1, 268_435_455)
_SESSION = PutSession(*_KEY, 0xFFFFFFFF, None, "identity")


async def _commit(store: SessionStore, *operations: Operation) -> None:
    waiting = store.commit(operations)
    if waiting is not None:
        await waiting


async def _after(new_store: Callable[[], SessionStore], *operations: Operation) -> Snapshot:
    store = new_store()
    await _commit(store, *operations)
    return await store.load()


@_every_store
async def test_a_new_store_is_empty(new_store: Callable[[], SessionStore]) -> None:
    assert await new_store().load() == Snapshot()


@_every_store
async def test_a_session_is_kept_as_it_was_put_last(new_store: Callable[[], SessionStore]) -> None:
    put = PutSession(*_KEY, 60, 1_800_000_000.5, None)
    assert await _after(new_store, _SESSION, put) == Snapshot(
        sessions={_KEY: StoredSession(60, 1_800_000_000.5, None)}
    )
    assert (await _after(new_store, _SESSION)).sessions[_KEY] == StoredSession(0xFFFFFFFF, None, "identity")


@_every_store
async def test_putting_a_session_again_leaves_what_it_holds(new_store: Callable[[], SessionStore]) -> None:
    snapshot = await _after(
        new_store, _SESSION, PutSubscription(*_KEY, _SUBSCRIPTION), PutInbound(*_KEY, 7), _SESSION
    )
    assert snapshot.sessions[_KEY].subscriptions == {_SUBSCRIPTION.topic_filter: _SUBSCRIPTION}
    assert snapshot.sessions[_KEY].inbound == {7}


@_every_store
async def test_a_dropped_session_takes_everything_with_it_but_its_will(
    new_store: Callable[[], SessionStore],
) -> None:
    will = Will(_MESSAGE, 5)
    snapshot = await _after(
        new_store,
        _SESSION,
        PutSubscription(*_KEY, _SUBSCRIPTION),
        PutOutbound(*_KEY, 1, _MESSAGE, 1, False, ()),
        PutInbound(*_KEY, 7),
        PutWill(*_KEY, will.message, will.delay_s),
        DropSession(*_KEY),
        PutSession(*_KEY, 5, None, None),
    )
    assert snapshot == Snapshot(sessions={_KEY: StoredSession(5, None, None)}, wills={_KEY: will})


@_every_store
async def test_subscriptions_are_put_replaced_and_dropped(new_store: Callable[[], SessionStore]) -> None:
    replaced = Subscription(_SUBSCRIPTION.topic_filter, 0)
    other = Subscription(TopicFilter(b"t"), 1, True)
    snapshot = await _after(
        new_store,
        _SESSION,
        PutSubscription(*_KEY, _SUBSCRIPTION),
        PutSubscription(*_KEY, other),
        PutSubscription(*_KEY, replaced),
        DropSubscription(*_KEY, other.topic_filter),
        DropSubscription(*_KEY, TopicFilter(b"never there")),
    )
    assert snapshot.sessions[_KEY].subscriptions == {replaced.topic_filter: replaced}


@_every_store
async def test_deliveries_are_put_moved_replaced_and_dropped(new_store: Callable[[], SessionStore]) -> None:
    plain = ApplicationMessage(TopicName(b"t"), b"")
    snapshot = await _after(
        new_store,
        _SESSION,
        PutOutbound(*_KEY, 9, _MESSAGE, 2, True, (1, 2)),
        PutOutbound(*_KEY, 3, _MESSAGE, 1, False, ()),
        PutOutbound(*_KEY, 5, _MESSAGE, 1, False, ()),
        PutOutbound(*_KEY, 3, plain, 1, False, ()),
        MoveOutbound(*_KEY, 9, 65_535, Flow.AWAIT_PUBREC),
        MoveOutbound(*_KEY, 9, 65_535, Flow.AWAIT_PUBCOMP),
        DropOutbound(*_KEY, 5),
    )
    assert snapshot.sessions[_KEY].outbound == {
        9: StoredOutbound(_MESSAGE, 2, True, (1, 2), 65_535, Flow.AWAIT_PUBCOMP),
        3: StoredOutbound(plain, 1, False, ()),
    }


@_every_store
async def test_inbound_packet_ids_are_put_and_dropped(new_store: Callable[[], SessionStore]) -> None:
    snapshot = await _after(
        new_store,
        _SESSION,
        PutInbound(*_KEY, 1),
        PutInbound(*_KEY, 65_535),
        DropInbound(*_KEY, 1),
        DropInbound(*_KEY, 2),
    )
    assert snapshot.sessions[_KEY].inbound == {65_535}


@_every_store
async def test_wills_need_no_session(new_store: Callable[[], SessionStore]) -> None:
    other = ("red", ClientId("other"))
    snapshot = await _after(
        new_store,
        PutWill(*_KEY, _MESSAGE, 0),
        PutWill(*_KEY, _MESSAGE, 10),
        PutWill(*other, _MESSAGE, 1),
        DropWill(*other),
        DropWill(*other),
    )
    assert snapshot == Snapshot(wills={_KEY: Will(_MESSAGE, 10)})


@_every_store
async def test_retained_messages_are_put_replaced_and_dropped(new_store: Callable[[], SessionStore]) -> None:
    newer = ApplicationMessage(_MESSAGE.topic, b"newer", 0, True)
    other = ApplicationMessage(TopicName(b"other"), b"m", 0, True)
    snapshot = await _after(
        new_store,
        PutRetained("red", _MESSAGE),
        PutRetained("red", newer),
        PutRetained("red", other),
        DropRetained("red", other.topic),
        DropRetained("red", TopicName(b"never there")),
    )
    assert snapshot == Snapshot(retained={("red", newer.topic): newer})


@_every_store
async def test_tenants_and_clients_are_kept_apart(new_store: Callable[[], SessionStore]) -> None:
    keys = [(tenant, ClientId(client)) for tenant in ("red", "blue") for client in ("a", "b")]
    operations: list[Operation] = []
    for number, key in enumerate(keys, start=1):
        operations += [
            PutSession(*key, number, None, None),
            PutInbound(*key, number),
            PutOutbound(*key, number, _MESSAGE, 1, False, ()),
            PutWill(*key, _MESSAGE, number),
        ]
    operations += [PutRetained(tenant, _MESSAGE) for tenant in ("red", "blue")]
    operations += [DropSession(*keys[0]), DropWill(*keys[0]), DropRetained("red", _MESSAGE.topic)]
    snapshot = await _after(new_store, *operations)
    assert list(snapshot.sessions) == keys[1:]
    assert [stored.inbound for stored in snapshot.sessions.values()] == [{2}, {3}, {4}]
    assert [list(stored.outbound) for stored in snapshot.sessions.values()] == [[2], [3], [4]]
    assert [(key, will.delay_s) for key, will in snapshot.wills.items()] == [
        (keys[1], 2),
        (keys[2], 3),
        (keys[3], 4),
    ]
    assert list(snapshot.retained) == [("blue", _MESSAGE.topic)]


@_every_store
@settings(max_examples=60)
@given(steps=st.lists(STEPS, max_size=50), data=st.data())
async def test_a_store_holds_what_an_engine_told_it_however_that_was_grouped(
    new_store: Callable[[], SessionStore], steps: list[Step], data: st.DataObject
) -> None:
    driver = _after_steps(steps)
    store = new_store()
    operations: Sequence[Operation] = driver.operations
    while operations:
        size = data.draw(st.integers(1, len(operations)))
        await _commit(store, *operations[:size])
        operations = operations[size:]
    assert await store.load() == driver.snapshot()


@settings(max_examples=120)
@given(steps=st.lists(STEPS, max_size=60))
def test_an_engine_restored_from_the_store_equals_the_live_one(steps: list[Step]) -> None:
    """To the clients, the death of the process is the loss of all connections at one moment."""
    live = _after_steps(steps)
    restored = _restored(live)
    # A Will is for whoever has a Session then, connected or not: nobody takes it at once.
    connected = [client for client in live.clients.values() if not client.is_closed]
    for client in connected:
        client.set_writable(False)
    for client in connected:
        client.lose()
    live.sleep(1)
    restored.sleep(1)
    assert _description(live) == _description(restored)
    live.sleep(100)
    restored.sleep(100)
    assert _description(live) == _description(restored)
    assert _keys(live.snapshot()) == _keys(restored.snapshot())


def _after_steps(steps: list[Step]) -> EngineDriver:
    driver = EngineDriver()
    run = Run(driver)
    for step in steps:
        run.perform(step)
    return driver


def _restored(live: EngineDriver) -> EngineDriver:
    """Another engine on a store of its own that was told the same."""
    driver = EngineDriver(now=live.now)
    assert driver.store is not None
    driver.store.commit(live.operations)
    driver.take_down()
    return driver


def _keys(snapshot: Snapshot) -> tuple[set[Any], set[Any], set[Any]]:
    return set(snapshot.sessions), set(snapshot.wills), set(snapshot.retained)


def _description(driver: EngineDriver) -> dict[str, Any]:
    """What Clients can ever learn of the state; nobody is connected."""
    tenant = driver.engine.state.tenant("default")
    return {
        "sessions": {client_id: _session(session) for client_id, session in tenant.sessions.items()},
        "retained": sorted((topic, message) for topic, message in tenant.retained.match(TopicFilter(b"#"))),
        "routes": {
            topic: sorted(
                (session.client_id, subscription.topic_filter, subscription.qos)
                for session, subscription in tenant.tree.match(TopicName(topic)).direct
            )
            for topic in TOPICS
        },
        "shared": {
            topic: sorted(
                (group.share_name, session.client_id)
                for group in tenant.tree.match(TopicName(topic)).shared
                for session in group.members
            )
            for topic in TOPICS
        },
    }


def _session(session: Session) -> dict[str, Any]:
    by_kind: dict[tuple[Any, ...], list[Any]] = {}
    rows: list[tuple[int, Delivery | None, int, Flow | None]] = [
        (outbound.row, outbound.delivery, packet_id, outbound.flow)
        for packet_id, outbound in session.in_flight.items()
    ]
    rows += [(queued.row, queued.delivery, 0, None) for queued in session._pending.waiting]
    for _, delivery, packet_id, flow in sorted(rows, key=lambda row: row[0]):
        if delivery is None:
            by_kind.setdefault(("released",), []).append((packet_id, flow))
            continue
        # The packet id of a QoS 1 delivery is no state, and its order among other topics none either.
        place = (packet_id, flow) if delivery.qos == 2 else None
        by_kind.setdefault((delivery.message.topic, delivery.qos), []).append(
            (delivery.message.payload, delivery.is_retain, delivery.identifiers, place)
        )
    return {
        "expiry_interval": session.expiry_interval,
        "disconnected_at": session.disconnected_at,
        "identity": session.identity,
        "subscriptions": session.subscriptions,
        "inbound": session.inbound,
        "will": session.will,
        "outbound": by_kind,
    }


def test_a_restored_engine_numbers_its_rows_above_the_stored_ones() -> None:
    snapshot = Snapshot(
        sessions={
            ("default", _C): StoredSession(
                100, None, None, outbound={41: StoredOutbound(_MESSAGE, 1, False, ())}
            )
        }
    )
    driver = EngineDriver()
    state = EngineState(
        driver.limits,
        journal=Journal(),
        new_client_id=lambda: ClientId("x"),
        now=driver.now,
        methods=(),
    )
    restore(state, snapshot, driver.now)
    assert state.journal is not None
    assert state.journal.row() == 42
