"""The Bus over MQTT 5 to somebody else's broker.

Knows: connecting and connecting again, the end of a turn, when the service is given messages.
Does not know: what services do, what packets mean (session), sockets and TLS (link).
Spec: v5 §3.1, §3.14, §4.8.2, §4.9.
"""

import asyncio
import contextlib
import random
import socket
import ssl
from collections.abc import Sequence
from typing import Final

import structlog

from ..api import BusClosedError, Message
from ..foreign_settings import ForeignBusSettings
from ..protocol.client_connection import ClientConnection, ClientState
from ..protocol.errors import LocalUsageError
from ..protocol.packets import (
    V5,
    ClientId,
    ConnAck,
    Connect,
    ControlPacket,
    Disconnect,
    Publish,
    SubscriptionRequest,
    TopicFilter,
    TopicName,
)
from ..protocol.properties import NO_PROPERTIES, Properties
from ..protocol.topics import check_topic_filter, check_topic_name
from .errors import BusFullError, BusRefusedError
from .link import Link, read_password, tls_context
from .outbound import OutboundStats
from .session import BusStats, ForeignSession

_log = structlog.get_logger("bus")

_NO_RETAINED: Final = 2
#: Above this part of the limits on what is published, the service is given no more requests.
_CONGESTED: Final = 1 / 4
#: So many times the limit is held while that lasts.
_HELD_LONGER: Final = 4


class ForeignBus:
    """A service's place at a foreign broker; `run` keeps it connected, and the rest works meanwhile.

    Requests of QoS 1 are acknowledged to the broker by `acknowledge`. Those that are not, it keeps, and
    sends them to the next process of this client id, or of the same share. What is published waits for
    the connection. Messages have no origin: a broker does not tell who sent them.
    """

    def __init__(self, settings: ForeignBusSettings) -> None:
        self._settings = settings
        self._client_id = ClientId(settings.client_id or f"gnomon-services-{socket.gethostname()}")
        self._session = ForeignSession(settings)
        self._link: Link | None = None
        #: Set while a connection is being made: how long it may take.
        self._patience: asyncio.Timeout | None = None
        self._is_flush_due = False
        self._is_closed = False
        self._changed = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def stats(self) -> BusStats:
        """What the bus has done so far."""
        return self._session.stats

    @property
    def outbound_stats(self) -> OutboundStats:
        """What became of messages that the broker did not take."""
        return self._session.outbound.stats

    # The port.

    def subscribe(self, *topic_filters: str, qos: int = 1) -> None:
        """Receive what matches the filters, from now on; where there is a share, of it.

        A refusal by the broker ends `run`.

        Raises:
            TopicFilterInvalidError: a filter breaks the rules of v5 §4.7.
            LocalUsageError: the bus is closed, or the QoS is above 1.
        """
        if self._is_closed or not 0 <= qos <= 1:
            raise LocalUsageError("subscribe on a closed bus" if self._is_closed else f"QoS {qos} on a bus")
        share = self._settings.share
        encoded = [
            TopicFilter((f"$share/{share}/{topic_filter}" if share else topic_filter).encode())
            for topic_filter in topic_filters
        ]
        for topic_filter in encoded:
            check_topic_filter(topic_filter)
        self._session.subscribe(
            [
                SubscriptionRequest(each, qos, is_retain_as_published=True, retain_handling=_NO_RETAINED)
                for each in encoded
            ]
        )
        if self._link is not None:
            self._settle()

    async def receive(self) -> Sequence[Message]:
        """Wait for the next batch of at least one message, in the order of arrival.

        It also waits while the broker does not take what is published, so that replies do not pile up.

        Raises:
            BusClosedError: the bus is closed, or the broker refused it.
        """
        inbound = self._session.inbound
        while not self._is_closed and (not inbound.has_waiting or self._must_reply_first):
            await self._wait_for_change()
        if self._is_closed:
            raise BusClosedError("the bus is closed")
        publishes = inbound.take(self._settings.batch_messages_maximum)
        return [
            Message(
                each.topic.decode(),
                each.payload,
                each.qos,
                each.is_retain,
                each.properties,
                is_dup=each.is_dup,
                packet_id=each.packet_id,
            )
            for each in publishes
        ]

    def acknowledge(self, count: int) -> None:
        """Tell the broker that the oldest `count` messages received need not be sent again.

        Raises:
            LocalUsageError: not so many were received.
        """
        try:
            self._session.inbound.acknowledge(count)
        except ValueError as error:
            raise LocalUsageError(str(error)) from None
        self._settle()

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
        """Publish a message of QoS 0 or 1; without a connection it waits for the next one.

        Raises:
            TopicNameInvalidError: the topic breaks the rules of v5 §4.7.
            LocalUsageError: the QoS is above 1.
            BusFullError: too much waits for the broker; the message is dropped.
            BusClosedError: `run` has ended.
        """
        if self._finished.is_set():
            raise BusClosedError("the bus is closed")
        if not 0 <= qos <= 1:
            raise LocalUsageError(f"QoS {qos} on a bus")
        name = TopicName(topic.encode())
        check_topic_name(name)
        message = Publish(name, payload, qos, is_retain, properties=properties)
        interval = properties.message_expiry_interval
        expires_at = None if interval is None else asyncio.get_running_loop().time() + interval
        if not self._session.outbound.put(message, expires_at=expires_at, supersede_key=supersede_key):
            raise BusFullError("too many messages wait for the foreign broker")
        self._settle()

    def close(self) -> None:
        """Receive nothing more; a waiting `receive` raises BusClosedError. `finish` ends the rest."""
        self._is_closed = True
        self._session.inbound.close()
        self._pace_reading()
        self._changed.set()

    async def settled(self) -> None:
        """Wait until the broker has acknowledged (QoS 0: was sent) everything that was published so far.

        Raises:
            BusClosedError: `run` has ended before that.
        """
        outbound = self._session.outbound
        while outbound:
            if self._finished.is_set():
                raise BusClosedError("the bus is closed")
            await self._wait_for_change()

    # Its life.

    @property
    def is_connected(self) -> bool:
        """Whether the broker has let us in and granted every subscription."""
        return self._ready_link is not None and self._session.is_granted

    async def run(self) -> None:
        """Keep connected until `finish`.

        Raises:
            ForeignFilesError: a file of the settings cannot be used.
            BusRefusedError: the broker refuses the client or a subscription for good.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        try:
            context = tls_context(settings)
            password = read_password(settings.password_file)
            delay_s = settings.reconnect_delay_s
            while True:
                began = loop.time()
                detail = await self._connect_once(context, password)
                if self._finished.is_set():
                    return
                if loop.time() - began >= settings.reconnect_delay_maximum_s:
                    delay_s = settings.reconnect_delay_s
                # By chance, so that many processes do not come back all at once.
                wait_s = delay_s * random.uniform(0.5, 1)  # noqa: S311  (nobody gains by guessing it)
                delay_s = min(2 * delay_s, settings.reconnect_delay_maximum_s)
                _log.warning("bus.disconnected", broker=settings.url, detail=detail, retry_s=round(wait_s, 1))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._finished.wait()
                        return
        finally:
            self._finished.set()
            self.close()

    async def wait_connected(self) -> None:
        """Wait until the broker has let us in and granted every subscription.

        What it kept comes before that: whoever receives must go on doing so meanwhile.

        Raises:
            BusClosedError: `run` has ended.
        """
        while not self.is_connected:
            if self._finished.is_set():
                raise BusClosedError("the bus is closed")
            await self._wait_for_change()

    async def finish(self) -> None:
        """Receive nothing more, wait a bounded time until the broker has all messages, say goodbye."""
        self.close()
        with contextlib.suppress(TimeoutError, BusClosedError):
            async with asyncio.timeout(self._settings.drain_s):
                await self.settled()
        if waiting := len(self._session.outbound):
            _log.warning("bus.drain_incomplete", messages=waiting)
        self._finished.set()
        if (link := self._ready_link) is not None:
            self._flush()
            link.connection.send(Disconnect())
            link.close()
        elif self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _connect_once(self, context: ssl.SSLContext | None, password: bytes | None) -> str:
        """Serve one connection to its end, and return why it ended.

        Raises:
            BusRefusedError: the broker refuses for good.
        """
        settings = self._settings
        loop = asyncio.get_running_loop()
        connection = ClientConnection(
            self._connect_packet(password),
            packet_size_maximum=settings.maximum_packet_size,
            now=loop.time(),
        )
        self._link = link = Link(connection, self)
        try:
            async with asyncio.timeout(settings.connect_timeout_s) as self._patience:
                await loop.create_connection(
                    lambda: link,
                    settings.host,
                    settings.port,
                    ssl=context,
                    ssl_shutdown_timeout=None if context is None else settings.drain_s,
                )
                await link.answered.wait()
            self._patience = None
            await link.watch()
        except TimeoutError:
            link.abort("no answer in time")
        except (OSError, UnicodeError) as error:  # What the name of the host can be is told by the latter.
            link.abort(str(error))
        finally:
            link.abort("ended")
            self._link = self._patience = None
            self._session.disconnected()
        if isinstance(link.error, BusRefusedError):
            raise link.error
        return link.detail

    def _connect_packet(self, password: bytes | None) -> Connect:
        settings = self._settings
        return Connect(
            version=V5,
            client_id=self._client_id,
            is_clean_start=False,
            keep_alive=settings.keep_alive_s,
            user_name=settings.user_name,
            password=password,
            properties=Properties(
                session_expiry_interval=settings.session_expiry_s,
                receive_maximum=settings.receive_maximum,
                maximum_packet_size=settings.maximum_packet_size,
            ),
        )

    # The link's owner.

    def packets_received(self, packets: Sequence[ControlPacket]) -> None:
        """Take what the broker sent.

        Raises:
            BrokerError: this connection must end.
        """
        if (link := self._link) is None:
            return
        before = self.outbound_stats.refused
        self._session.handle(link.connection, packets)
        for packet in packets:
            if isinstance(packet, ConnAck):
                is_present = packet.is_session_present
                _log.info("bus.connected", broker=self._settings.url, is_session_present=is_present)
        if not before and self.outbound_stats.refused:
            _log.warning("bus.publish_refused", broker=self._settings.url)  # The rest is only counted.
        self._changed.set()
        self._settle()

    def writable(self) -> None:
        """The socket takes more again."""
        self._settle()

    # Private.

    @property
    def _ready_link(self) -> Link | None:
        link = self._link
        return link if link is not None and link.connection.state is ClientState.CONNECTED else None

    @property
    def _is_congested(self) -> bool:
        settings, outbound = self._settings, self._session.outbound
        return (
            len(outbound) >= _CONGESTED * settings.outgoing_messages_maximum
            or outbound.size_bytes >= _CONGESTED * settings.outgoing_bytes_maximum
        )

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def _is_full(self) -> bool:
        """Whether too much is held to read on.

        While replies wait for PUBACKs, which come behind what is not read, more is held: a broker may send
        all that it has at once, whatever our Receive Maximum says.
        """
        high = self._settings.held_bytes_high * (_HELD_LONGER if self._is_congested else 1)
        return self._session.inbound.size_bytes >= high

    @property
    def _must_reply_first(self) -> bool:
        # Where nothing is read either, the service alone can go on.
        return self._is_congested and (self._ready_link is None or not self._is_full)

    def _pace_reading(self) -> None:
        """Leave messages with the broker while too much is held here."""
        if self._link is not None:
            self._link.set_reading(is_reading=not self._is_full)

    def _settle(self) -> None:
        """See to it that what may be sent is written at the end of this turn."""
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        self._pace_reading()
        if (link := self._link) is not None:
            now, outbound = asyncio.get_running_loop().time(), self._session.outbound
            waited = bool(outbound)
            self._session.flush(link.connection, now, is_writable=link.is_writable)
            link.flush()
            if waited and not outbound:  # The last was of QoS 0, or dropped: no PUBACK will tell.
                self._changed.set()
