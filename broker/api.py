"""The broker's public face: the broker itself, in-process clients, and the ports that others implement.

Knows: how a service takes part without a socket.
Does not know: what services do.
Spec: design: services speak to a `Bus`, and never reach into the broker.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from .access.asking import Action, AskingPermissions, PolicyDecision
from .access.ports import (
    AccessRefusedError,
    Authenticator,
    ConnectRequest,
    Continue,
    EnhancedAuthenticator,
    Success,
)
from .access.principal import Permissions, Principal
from .engine import (
    Census,
    Origin,
    PacketNote,
    SessionInfo,
    Stats,
    count_receivers,
    follow,
    kick,
    page_of_client_ids,
    session_info,
    subscriptions_of,
)
from .protocol.errors import BrokerError, LocalUsageError
from .protocol.packets import ClientId, TopicFilter, TopicName
from .protocol.properties import NO_PROPERTIES, Properties
from .protocol.subscription import Subscription
from .protocol.topics import check_topic_filter, check_topic_name
from .server import Server
from .session.message import ApplicationMessage
from .settings import BrokerSettings
from .storage import MIGRATIONS, MemoryStore, PostgresqlStore, SessionStore, SqliteStore
from .transport import ListenerAddress, TLSFilesError

__all__ = [
    "MIGRATIONS",
    "AccessRefusedError",
    "Action",
    "AskingPermissions",
    "Authenticator",
    "Broker",
    "BrokerError",
    "Bus",
    "BusClosedError",
    "Census",
    "ConnectRequest",
    "Continue",
    "EnhancedAuthenticator",
    "InProcessClient",
    "ListenerAddress",
    "MemoryStore",
    "Message",
    "Origin",
    "PacketNote",
    "Permissions",
    "PolicyDecision",
    "PostgresqlStore",
    "Principal",
    "SessionInfo",
    "SessionStore",
    "SqliteStore",
    "Stats",
    "Subscription",
    "Success",
    "TLSFilesError",
]


class BusClosedError(BrokerError):
    """The bus was closed; no more messages will come."""


class Message(Struct, frozen=True, gc=False):
    """An Application Message as services see it.

    `origin` is None for messages of services, and for all beside a foreign broker, which does not tell.
    `is_dup` and `packet_id` (0 for none) are those of the foreign broker's PUBLISH: one that is sent again to
    the same Session has both (v5 [MQTT-3.3.1-1], [MQTT-4.4.0-1]). Inside a process nothing comes again.
    """

    topic: str
    payload: bytes
    qos: int = 0
    is_retain: bool = False
    properties: Properties = NO_PROPERTIES
    origin: Origin | None = None
    is_dup: bool = False
    packet_id: int = 0


class Bus(Protocol):
    """How a service of one tenant takes part in messaging, here or beside a foreign broker."""

    def subscribe(self, *topic_filters: str, qos: int = 1) -> None:
        """Receive what matches the filters, from now on."""

    async def receive(self) -> Sequence[Message]:
        """Wait for the next batch of at least one message, in the order of arrival.

        Raises:
            BusClosedError: there will be none.
        """

    def acknowledge(self, count: int) -> None:
        """Say that the oldest `count` messages received, not yet acknowledged, are dealt with.

        A foreign broker sends those of QoS 1 again, to whoever serves next, until this was said; and it
        sends no more than its Receive Maximum without. Here the publisher was answered before.
        """

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        supersede_key: bytes | None = None,
    ) -> None:
        """Publish a message.

        With `supersede_key`, one that still waits for a Session may be replaced by a later one of the
        same topic and key; one that is in flight never is.
        """

    def close(self) -> None:
        """Receive nothing more; a waiting `receive` raises BusClosedError."""


class InProcessClient:
    """A service's place in the broker of its own process; made by `Broker.in_process_client`.

    Messages come in batches and are never dropped: when too many wait, those who publish them are
    not read from until the batch is taken.
    """

    def __init__(self, server: Server, name: str, tenant: str) -> None:
        self._server = server
        self._tenant = tenant
        self._filters: list[TopicFilter] = []
        self._arrival = asyncio.Event()
        self._mailbox = server.engine.open_mailbox(name, self._arrival.set)
        self._is_closed = False

    def subscribe(self, *topic_filters: str, qos: int = 1) -> None:
        """Receive what matches the filters, from now on; `qos` bounds nothing inside a process.

        Raises:
            TopicFilterInvalidError: a filter breaks the rules of v5 §4.7.
            LocalUsageError: the client is closed.
        """
        if self._is_closed:
            raise LocalUsageError("subscribe on a closed client")
        encoded = [TopicFilter(topic_filter.encode()) for topic_filter in topic_filters]
        for topic_filter in encoded:
            check_topic_filter(topic_filter)
        for topic_filter in encoded:
            self._server.engine.subscribe_mailbox(self._tenant, self._mailbox, topic_filter)
        self._filters += encoded

    async def receive(self) -> Sequence[Message]:
        """Wait for the next batch of at least one message, in the order of arrival.

        Raises:
            BusClosedError: the client is closed.
        """
        while not self._mailbox.messages:
            if self._is_closed:
                raise BusClosedError("the in-process client is closed")
            self._arrival.clear()
            await self._arrival.wait()
        messages = self._server.engine.take_mailbox(self._mailbox)
        self._server.settle()
        return [_message(message) for message in messages]

    def acknowledge(self, count: int) -> None:
        """Do nothing: messages do not outlive the process, and their publishers were answered."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        is_retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        supersede_key: bytes | None = None,
    ) -> None:
        """Publish a message; it is on its way at the end of this loop turn.

        Raises:
            TopicNameInvalidError: the topic breaks the rules of v5 §4.7.
        """
        name = TopicName(topic.encode())
        check_topic_name(name)
        now = self._server.now()
        interval = properties.message_expiry_interval
        message = ApplicationMessage(
            name,
            payload,
            qos,
            is_retain,
            properties,
            None if interval is None else now + interval,
            None,
            supersede_key,
        )
        self._server.engine.publish(self._tenant, message, now)
        self._server.settle()

    def close(self) -> None:
        """Receive nothing more; a waiting `receive` raises BusClosedError."""
        if not self._is_closed:
            self._is_closed = True
            self._server.engine.close_mailbox(self._tenant, self._mailbox, self._filters)
            self._server.settle()
            self._arrival.set()


class Broker:
    """An MQTT 3.1.1 and 5 broker on the running event loop. Serves once.

    `methods` are those of enhanced authentication that v5 clients may name.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        *,
        authenticator: Authenticator,
        store: SessionStore | None = None,
        methods: Iterable[EnhancedAuthenticator] = (),
    ) -> None:
        self._server = Server(settings, authenticator=authenticator, store=store, methods=methods)

    @property
    def stats(self) -> Stats:
        """Counts since the start."""
        return self._server.engine.stats

    async def census(self) -> Census:
        """Count what there is at the moment; takes some turns of the loop where there is much."""
        return await self._server.census()

    async def serve(self, *, started: Callable[[Sequence[ListenerAddress]], None]) -> None:
        """Listen until `stop`, then tell everybody, drain and return; `started` learns the addresses.

        Raises:
            TLSFilesError, OSError: a listener cannot be opened.
            StorageError: the store failed; nothing was acknowledged for what it did not take.
        """
        await self._server.serve(started=started)

    def stop(self) -> None:
        """Let `serve` come to its end."""
        self._server.stop()

    def reload_certificates(self) -> None:
        """Use the listeners' certificate files as they are now, for handshakes from now on.

        Connections that stand are not touched. A listener whose files cannot be used keeps what it
        has; the log names the file.
        """
        self._server.reload_certificates()

    def authenticate_again(self) -> None:
        """Ask the Authenticator about every connected client again, in the background.

        Who is refused, or has become somebody else, is closed with 0x87; the others go on with their
        new permissions, without the subscriptions that these forbid. Clients of enhanced authentication
        cannot be asked again, and keep theirs.
        """
        self._server.authenticate_again()

    async def sessions(self, tenant: str, *, after: str = "", limit: int) -> Sequence[SessionInfo]:
        """Return the first `limit` Sessions whose ClientIds come after `after`, in order.

        Takes some turns of the loop where there are many.
        """
        state = self._server.engine.state
        page: list[ClientId] = []
        for _ in page_of_client_ids(state, tenant, after=after, limit=limit, page=page):
            await asyncio.sleep(0)
        found = (session_info(state, tenant, client_id) for client_id in page)
        return [info for info in found if info is not None]

    def session(self, tenant: str, client_id: str) -> SessionInfo | None:
        """Return how a Session is at the moment, None where there is no such Session."""
        return session_info(self._server.engine.state, tenant, client_id)

    def subscriptions(self, tenant: str, client_id: str) -> Sequence[Subscription]:
        """Return the Subscriptions of a Session."""
        return subscriptions_of(self._server.engine.state, tenant, client_id)

    def kick(self, tenant: str, client_id: str, *, end: bool = False) -> bool:
        """Close a client's connection with 0x98, Administrative action; its Will is published.

        With `end` its Session ends too, connected or not. Returns whether there is such a Session.
        """
        was_there = kick(self._server.engine.state, tenant, client_id, is_end=end, now=self._server.now())
        self._server.settle()
        return was_there

    def follow(
        self, tenant: str, client_id: str, listener: Callable[[PacketNote], None]
    ) -> Callable[[], None]:
        """Tell `listener` of every packet of a client, without contents, now and when it comes again.

        It is called between two packets: it must be quick and raise nothing. Returns what ends it.
        """
        return follow(self._server.engine.state, tenant, client_id, listener)

    def count_receivers(self, tenant: str, topic: str, *, publisher: str | None = None) -> int:
        """Return how many Sessions get a message on `topic` at the moment, one per shared subscription."""
        return count_receivers(self._server.engine.state, tenant, TopicName(topic.encode()), publisher)

    def in_process_client(self, name: str, *, tenant: str = "default") -> InProcessClient:
        """Return a new client without a socket; `name` is for logs and metrics."""
        return InProcessClient(self._server, name, tenant)


def _message(message: ApplicationMessage) -> Message:
    origin = message.origin
    return Message(
        message.topic.decode(),
        message.payload,
        message.qos,
        message.is_retain,
        message.properties,
        origin if isinstance(origin, Origin) else None,
    )
