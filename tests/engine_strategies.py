"""Random lives of a few clients on one engine: they come, subscribe, publish, answer or not, and go.

Knows: the steps, and how a driver performs them.
Does not know: what should come of it.
"""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from broker.engine import ServedConnection
from broker.protocol.connection import ConnectionState
from broker.protocol.packets import (
    V3_1_1,
    V5,
    Connect,
    Disconnect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    TopicName,
    Will,
)
from broker.protocol.properties import NO_PROPERTIES, Properties
from broker.protocol.reason_codes import ReasonCode
from fakes import EngineDriver
from fakes_client import FakeClient, connect_packet, request_for, will

CLIENTS = 3
TOPICS = (b"a", b"a/b", b"c", b"$x/a")
FILTERS = (b"a", b"a/b", b"a/#", b"+/b", b"#", b"will/#", b"$x/+", b"$share/g/a", b"$share/h/+")


@dataclass(frozen=True)
class Step:
    """One thing that a client does; `options` are what it needs to know for that."""

    verb: str
    client: int
    options: tuple[Any, ...] = ()


def _step(verb: str, *options: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.just(verb), st.integers(0, CLIENTS - 1), st.tuples(*options))


_QOS = st.integers(0, 2)
_OFTEN = st.sampled_from([True, True, True, False])

#: One step; publishing and subscribing come most often.
STEPS: st.SearchStrategy[Step] = st.one_of(
    _step(
        "connect",
        st.sampled_from([V3_1_1, V5]),
        st.booleans(),
        st.sampled_from([0, 50, 0xFFFFFFFF]),
        st.none() | st.tuples(_QOS, st.booleans(), st.sampled_from([None, 0, 20])),
    ),
    _step("subscribe", st.sampled_from(FILTERS), _QOS, st.booleans()),
    _step("subscribe", st.sampled_from(FILTERS), _QOS, st.booleans()),
    _step("unsubscribe", st.sampled_from(FILTERS)),
    _step("publish", st.sampled_from(TOPICS), _QOS, st.booleans(), _OFTEN, st.sampled_from([None, 1, 100])),
    _step("publish", st.sampled_from(TOPICS), _QOS, st.booleans(), _OFTEN, st.none()),
    _step("answer", st.integers(1, 5)),
    _step("answer_all"),
    _step("leave", st.sampled_from([ReasonCode.SUCCESS, ReasonCode.DISCONNECT_WITH_WILL_MESSAGE])),
    _step("lose"),
    _step("sleep", st.sampled_from([1, 10, 30])),
)


class Run:
    """The clients of one tenant; payloads begin with the tenant's name, and no two are equal."""

    def __init__(self, driver: EngineDriver, *, tenant: str = "default") -> None:
        self.driver = driver
        self.tenant = tenant
        self.clients: dict[int, FakeClient] = {}
        #: Everything that every client ever received.
        self.received: list[Publish] = []
        self._count = 0

    def perform(self, step: Step) -> None:
        """Do one step; a client that is not there connects first."""
        if step.verb == "sleep":
            self.driver.sleep(step.options[0])
        elif step.verb == "connect":
            self._connect(step.client, *step.options)
        else:
            client = self.clients.get(step.client)
            if client is None or client.is_closed:
                client = self._connect(step.client, V5, False, 50, None)
            getattr(self, f"_{step.verb}")(step.client, client, *step.options)
        for client in self.clients.values():
            self._look(client)

    def _connect(
        self, index: int, version: int, is_clean: bool, expiry: int, last: tuple[int, bool, int | None] | None
    ) -> FakeClient:
        client = self.driver.open(version, tenant=self.tenant)
        self.clients[index], earlier = client, self.clients.get(index)
        if earlier is not None:
            self._look(earlier)
        client.send(self._connect_packet(index, version, is_clean, expiry, last))
        return client

    def _connect_packet(
        self, index: int, version: int, is_clean: bool, expiry: int, last: tuple[int, bool, int | None] | None
    ) -> Connect:
        made: Will | None = None
        if last is not None:
            qos, is_retain, delay = last
            topic = b"will/%d" % index
            made = will(
                topic, self._payload(), qos=qos, retain=is_retain, delay=delay if version == V5 else None
            )
        return connect_packet(f"c{index}", version, is_clean_start=is_clean, expiry=expiry, will=made)

    def _payload(self) -> bytes:
        self._count += 1
        return f"{self.tenant}:{self._count}".encode()

    def _look(self, client: FakeClient) -> None:
        for packet in client.take():
            if isinstance(packet, Publish):
                self.received.append(packet)
            client.unanswered.append(packet)

    def _subscribe(
        self, index: int, client: FakeClient, topic_filter: bytes, qos: int, is_no_local: bool
    ) -> None:
        is_no_local = is_no_local and not topic_filter.startswith(b"$share/")
        client.subscribe(request_for(topic_filter, qos, is_no_local=is_no_local))

    def _unsubscribe(self, index: int, client: FakeClient, topic_filter: bytes) -> None:
        client.unsubscribe(topic_filter)

    def _publish(
        self,
        index: int,
        client: FakeClient,
        topic: bytes,
        qos: int,
        is_retain: bool,
        has_payload: bool,
        expiry: int | None,
    ) -> None:
        has_properties = expiry is not None and client.version == V5
        properties = Properties(message_expiry_interval=expiry) if has_properties else NO_PROPERTIES
        payload = self._payload() if has_payload or not is_retain else b""
        packet_id = client.packet_id() if qos else 0
        client.send(Publish(TopicName(topic), payload, qos, is_retain, False, packet_id, properties))

    def _answer(self, index: int, client: FakeClient, count: int) -> None:
        """Answer the oldest packets that wait for it."""
        for _ in range(min(count, len(client.unanswered))):
            packet = client.unanswered.pop(0)
            if isinstance(packet, Publish) and packet.qos:
                client.send((PubAck if packet.qos == 1 else PubRec)(packet.packet_id))
            elif isinstance(packet, PubRel):
                client.send(PubComp(packet.packet_id))
            elif isinstance(packet, PubRec) and packet.reason_code < ReasonCode.UNSPECIFIED_ERROR:
                client.send(PubRel(packet.packet_id))
            self._look(client)

    def _answer_all(self, index: int, client: FakeClient) -> None:
        while client.unanswered:
            self._answer(index, client, len(client.unanswered))

    def _leave(self, index: int, client: FakeClient, reason_code: ReasonCode) -> None:
        client.send(Disconnect(reason_code))

    def _lose(self, index: int, client: FakeClient) -> None:
        client.lose()


def check_consistent(driver: EngineDriver) -> None:
    """Say whether what the engine holds in several places is the same in all of them."""
    state = driver.engine.state
    sessions = [session for tenant in state.tenants.values() for session in tenant.sessions.values()]
    assert state.session_count == len(sessions)
    for session in sessions:
        connection = session.connection
        if connection is None:
            assert session.disconnected_at is not None
            assert not session.is_writable
        else:
            assert isinstance(connection, ServedConnection)
            assert connection.state is ConnectionState.CONNECTED
            assert connection.session is session
            assert session.outgoing is connection.outgoing
        assert len(session.in_flight) <= driver.limits.in_flight_maximum
        assert session.pending_messages <= driver.limits.pending_messages_maximum
    for tenant in state.tenants.values():
        held = sum(len(session.subscriptions) for session in tenant.sessions.values())
        assert len(tenant.tree) == held
    assert state.session_timers.keys() <= {session for session in sessions if session.connection is None}
    if driver.store is not None:
        stored = {(kept.row.tenant, kept.row.client_id): kept for kept in driver.snapshot().sessions.values()}
        durable = {(session.tenant, session.client_id): session for session in sessions if session.is_durable}
        assert stored.keys() == durable.keys()
        for key, session in durable.items():
            assert stored[key].subscriptions == session.subscriptions
            assert stored[key].inbound == session.inbound
            assert stored[key].pending_messages + len(stored[key].in_flight) == (
                len(session.in_flight) + session.pending_messages
            )
            assert stored[key].row.number == session.number
