"""An engine without loop and sockets: clients that speak bytes, a store whose commits a test holds, a clock.

Knows: the order in which a runner performs what the engine asks for, the client's side of the codec.
Does not know: what the engine should answer.
"""

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

from broker.access.ports import AccessRefusedError, ConnectRequest
from broker.access.principal import AlternativeNames, CertificateSubject, ClientCertificate, Principal
from broker.engine import (
    Authenticate,
    Close,
    Effect,
    Engine,
    Mailbox,
    PauseReading,
    Proceed,
    ReadPending,
    ResumeReading,
    ServedConnection,
)
from broker.protocol.packets import (
    V5,
    ClientId,
    ConnAck,
    ControlPacket,
    TopicFilter,
    TopicName,
)
from broker.protocol.reason_codes import ReasonCode
from broker.session import ApplicationMessage, Changes, Commit, Journal
from broker.session.pending import PAGE_BYTES, PAGE_MESSAGES
from broker.settings import LimitSettings
from broker.storage import MemoryStore, Snapshot
from fakes_client import FakeClient, connect_packet

_T = TypeVar("_T")
PacketT = TypeVar("PacketT", bound=ControlPacket)

#: Where the fake clock begins: epoch seconds, as the broker's own clock has them.
START = 1_800_000_000.0


class FakePermissions:
    """May do everything but what is listed; topics and filters are compared whole."""

    def __init__(
        self,
        *,
        no_publish: tuple[bytes, ...] = (),
        no_retain: tuple[bytes, ...] = (),
        no_subscribe: tuple[bytes, ...] = (),
        no_receive: tuple[bytes, ...] = (),
        maximum_qos: int = 2,
    ) -> None:
        self.no_publish = no_publish
        self.no_retain = no_retain
        self.no_subscribe = no_subscribe
        self.no_receive = no_receive
        self._maximum_qos = maximum_qos

    def may_publish(self, topic: TopicName, *, is_retain: bool) -> bool:
        return topic not in self.no_publish and not (is_retain and topic in self.no_retain)

    def may_subscribe(self, topic_filter: TopicFilter) -> bool:
        return topic_filter not in self.no_subscribe

    def may_receive(self, topic: TopicName) -> bool:
        return topic not in self.no_receive

    def maximum_qos(self, topic_filter: TopicFilter) -> int:
        return self._maximum_qos


def certificate_of(common_name: str) -> ClientCertificate:
    """A verified certificate with this common name."""
    now = datetime.now(UTC)
    return ClientCertificate(
        subject=CertificateSubject(common_name=common_name, rfc4514=f"CN={common_name}"),
        issuer_common_name="test CA",
        serial_number="01",
        subject_alternative_names=AlternativeNames(),
        fingerprint_sha256=common_name.encode().hex(),
        spki_sha256="00",
        not_before=now,
        not_after=now + timedelta(days=1),
        authority_key_id=None,
    )


class EngineDriver:
    """Runs an engine in turns, as the server does, on a clock that only the test moves.

    A turn: perform the effects, hand one group of changes to the store, write what is dirty. With
    `is_holding_commits` a group stays on its way until `finish_commit`. `take_down` forgets whatever
    was not committed and starts a new engine on the same store.
    """

    def __init__(self, *, is_durable: bool = True, now: float = START, **limits: Any) -> None:
        self.now = now
        self.limits = LimitSettings(**limits)
        self.store = MemoryStore() if is_durable else None
        self.is_holding_commits = False
        self.is_holding_answers = False
        self.committing: tuple[Changes, Commit] | None = None
        self.unanswered: list[Authenticate] = []
        self.changes: list[Changes] = []
        self.permissions: dict[str, FakePermissions] = {}
        self.refusals: dict[str, AccessRefusedError] = {}
        self.clients: dict[ServedConnection, FakeClient] = {}
        self._proceeding: list[ServedConnection] = []
        self._ids = count(1)
        self.engine = self._new_engine()

    def _new_engine(self) -> Engine:
        return Engine(
            self.limits,
            journal=None if self.store is None else Journal(),
            new_client_id=lambda: ClientId(f"assigned-{next(self._ids)}"),
            now=self.now,
        )

    # Clients.

    def open(
        self, version: int = V5, *, tenant: str = "default", certificate: ClientCertificate | None = None
    ) -> FakeClient:
        """A peer connects and says nothing yet."""
        connection = self.engine.open(
            listener="test", tenant=tenant, peer_address="192.0.2.1", certificate=certificate, now=self.now
        )
        client = FakeClient(self, connection, version)
        self.clients[connection] = client
        return client

    def connect(
        self,
        client_id: str = "c",
        version: int = V5,
        *,
        tenant: str = "default",
        certificate: ClientCertificate | None = None,
        **fields: Any,
    ) -> FakeClient:
        """A client connects and is let in; its CONNACK is in `connack`."""
        client = self.open(version, tenant=tenant, certificate=certificate)
        client.send(connect_packet(client_id, version, **fields))
        client.connack = client.take_one(ConnAck)
        assert client.connack.reason_code is ReasonCode.SUCCESS, client.connack
        return client

    # Time, turns, commits.

    def sleep(self, seconds: float) -> None:
        """Let time pass, and what is due happen, in steps of a quarter of a second or what is next."""
        until = self.now + seconds
        while (due := self.engine.next_timer()) is not None and due <= until:
            self.now = max(self.now, due)
            self.engine.handle_timer(self.now)
            self.settle()
        self.now = until
        self.engine.handle_timer(self.now)
        self.settle()

    def settle(self) -> None:
        """Run turns until there is nothing more to do."""
        while self.turn():
            pass

    def turn(self) -> bool:
        """Run one turn; returns whether the engine asks for another."""
        state = self.engine.state
        proceeding, self._proceeding = self._proceeding, []
        for connection in proceeding:
            self.engine.proceed(connection, self.now)
        for effect in self.engine.take_effects():
            self._perform(effect)
        self.engine.release()
        self._commit()
        for mailbox in state.filled:
            mailbox.wake()
        state.filled.clear()
        for dirty in state.dirty:
            assert isinstance(dirty, ServedConnection)
            data = dirty.data_to_send()
            client = self.clients[dirty]
            if not client.is_closed:
                client.feed(data)
        state.dirty.clear()
        return bool(state.effects or self._proceeding or (state.journal and self.committing is None))

    def finish_commit(self) -> None:
        """The store has the group that is on its way."""
        assert self.committing is not None
        self._finish_commit()
        self.settle()

    def finish_commits(self) -> None:
        """Let every group become durable, one after the other."""
        while self.committing is not None:
            self.finish_commit()

    def take_down(self, *, now: float | None = None) -> None:
        """The process dies; another one starts with what the store has, and holds no commits."""
        assert self.store is not None
        snapshot = self.snapshot()
        self.committing = None
        self.is_holding_commits = False
        self.clients.clear()
        self._proceeding.clear()
        self.now = self.now if now is None else now
        self.engine = self._new_engine()
        self.engine.restore(snapshot, self.now)
        self.settle()

    def snapshot(self) -> Snapshot:
        """What the store holds; `MemoryStore.load` never waits."""
        assert self.store is not None
        return _result(self.store.load())

    def answer(self, effect: Authenticate) -> Principal | AccessRefusedError:
        """What the Authenticator says: everybody is let in, unless `refusals` has the ClientId."""
        request: ConnectRequest = effect.request
        if request.client_id in self.refusals:
            return self.refusals[request.client_id]
        return Principal(
            tenant=request.tenant,
            client_id=request.client_id,
            user_name=None,
            certificate=request.certificate,
            thing_name=None,
            roles=frozenset(),
            permissions=self.permissions.get(request.client_id, FakePermissions()),
        )

    def answer_all(self) -> None:
        """Give the answers that were held back."""
        unanswered, self.unanswered = self.unanswered, []
        for effect in unanswered:
            self.engine.authenticated(effect.connection, self.answer(effect), self.now)
        self.settle()

    def _commit(self) -> None:
        if self.committing is not None:
            return
        self.committing = self.engine.take_changes(self.now)
        if self.committing is not None and not self.is_holding_commits:
            self._finish_commit()

    def _finish_commit(self) -> None:
        assert self.store is not None
        assert self.committing is not None
        changes, commit = self.committing
        self.committing = None
        self.changes.append(changes)
        self.store.commit(changes)
        self.engine.committed(commit, self.now)

    def sweep(self) -> None:
        """The store forgets what expired."""
        assert self.store is not None
        self.engine.take_swept(_result(self.store.sweep(self.now, messages=1_000)))

    def _read(self, effect: ReadPending) -> None:
        assert self.store is not None
        reading = self.store.read_pending(
            effect.session.number, after=effect.after, messages=PAGE_MESSAGES, size_bytes=PAGE_BYTES
        )
        self.engine.take_page(effect, _result(reading), self.now)

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, ReadPending):
            self._read(effect)
            return
        client = self.clients[effect.connection]
        if isinstance(effect, Authenticate):
            if self.is_holding_answers:
                self.unanswered.append(effect)
            else:
                self.engine.authenticated(effect.connection, self.answer(effect), self.now)
        elif isinstance(effect, Close):
            client.feed(effect.connection.data_to_send())
            client.close_reason = effect.reason_code
        elif isinstance(effect, PauseReading):
            client.is_paused = True
        elif isinstance(effect, ResumeReading):
            self.engine.proceed(effect.connection, self.now)
            if not effect.connection.hold:
                client.is_paused = False
                client.send_on()
        elif isinstance(effect, Proceed):
            self._proceeding.append(effect.connection)
        else:
            raise NotImplementedError(effect)

    # Services.

    def mailbox(self, *topic_filters: bytes, tenant: str = "default") -> Mailbox:
        """Where a service receives what matches the filters."""
        mailbox = self.engine.open_mailbox("service", lambda: None)
        for topic_filter in topic_filters:
            self.engine.subscribe_mailbox(tenant, mailbox, TopicFilter(topic_filter))
        return mailbox

    def publish(self, topic: bytes, payload: bytes, *, tenant: str = "default", **fields: Any) -> None:
        """A service publishes."""
        self.engine.publish(tenant, ApplicationMessage(TopicName(topic), payload, **fields), self.now)
        self.settle()


def _result(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """What a coroutine returns that never waits, as those of `MemoryStore`."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: _T = stop.value
        return result
    raise AssertionError("it waits")
