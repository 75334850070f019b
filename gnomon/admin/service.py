"""Requests of operators by MQTT: `$gnomon/admin/v1/{area}/{verb}`, answered to the requester alone.

Knows: which verb has which form and handler, where an answer may go, what is audited.
Does not know: what a verb does, connections, sockets.
Spec: v5 §4.10.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import structlog

from broker.access import ADMIN_REPLIES, OPERATOR_ROLE
from broker.api import Bus, BusClosedError, Message
from broker.protocol.errors import PeerError
from broker.protocol.properties import Properties
from broker.protocol.topics import check_topic_name

from .requests import (
    AdminError,
    AdminRequest,
    KickSession,
    ListDrift,
    ListSessions,
    ListShadows,
    ListThings,
    Requester,
    ShowHistory,
    ShowSession,
    ShowVersion,
    StartTrace,
    StopTrace,
    parse_request,
)
from .sessions import SessionHandlers, Sessions
from .shadows import ShadowHandlers, Shadows
from .traces import Traced, Traces

ROOT: Final = "$gnomon/admin/v1/"
_RESPONSE_TOPIC_MAXIMUM: Final = 512
_CORRELATION_DATA_MAXIMUM: Final = 128
#: Characters of anything from outside in one line of the audit log.
_AUDITED_MAXIMUM: Final = 200

_log = structlog.get_logger("admin")


class Administered(Sessions, Traced, Protocol):
    """What is administered: the broker."""


class Verb(NamedTuple):
    """The form of a request, and who carries it out."""

    form: type[AdminRequest]
    handle: Callable[[Requester, Any], Awaitable[dict[str, Any]]]


class AdminService:
    """Serves the operators of one tenant until its bus is closed; `shadows` are those of the tenant."""

    def __init__(self, bus: Bus, broker: Administered, shadows: Shadows, *, tenant: str) -> None:
        self._bus = bus
        self._broker = broker
        self._shadows = shadows
        self._tenant = tenant
        bus.subscribe(f"{ROOT}+/+")

    async def run(self) -> None:
        """Answer requests, one after the other; traces run beside them."""
        async with asyncio.TaskGroup() as group:
            traces = Traces(self._broker, group)
            verbs = _verbs(SessionHandlers(self._broker), ShadowHandlers(self._shadows), traces)
            try:
                while True:
                    batch = await self._bus.receive()
                    for message in batch:
                        await self._serve(verbs, message)
                    self._bus.acknowledge(len(batch))
            except BusClosedError:
                traces.close()

    async def _serve(self, verbs: Mapping[str, Verb], message: Message) -> None:
        """Carry one request out and answer it; whatever goes wrong is an answer, and audited."""
        name = message.topic.removeprefix(ROOT)
        log = _log.bind(verb=_short(name), client_id=None, identity=None)
        try:
            requester = self._requester(message)
        except AdminError as error:
            # Nobody can be told: who asks has no right to an answer, or no place of its own for it.
            origin = message.origin
            client_id = None if origin is None else _short(origin.client_id)
            log.warning("admin.refused", client_id=client_id, verdict=error.code, reason=str(error))
            return
        log = log.bind(client_id=_short(requester.client_id), identity=_short(requester.identity))
        target = None
        try:
            verb = _known(verbs, name)
            request = parse_request(verb.form, message.payload)
            target = _short(request.audited)
            answer = await verb.handle(requester, request)
        except AdminError as error:
            log.warning("admin.refused", target=target, verdict=error.code, reason=str(error))
            requester.send({"code": error.code, "message": str(error)}, 1)
        except Exception:  # The boundary of one request.
            log.exception("admin.failed", target=target, verdict="InternalError")
            requester.send({"code": "InternalError", "message": "the server's log knows more"}, 1)
        else:
            log.info("admin.done", target=target, verdict="done")
            requester.send(answer, 1)

    def _requester(self, message: Message) -> Requester:
        """Return who asks, and where the answers go: below a topic that nobody else may receive.

        Raises:
            AdminError: NotAuthorized, or InvalidRequest where the Response Topic is another.
        """
        origin, properties = message.origin, message.properties
        principal = None if origin is None else origin.principal
        if origin is None or principal is None or origin.is_will or principal.tenant != self._tenant:
            raise AdminError("NotAuthorized", "not a connected client's request")
        if OPERATOR_ROLE not in principal.roles:
            raise AdminError("NotAuthorized", "the client is no operator")
        topic, correlation = properties.response_topic or "", properties.correlation_data
        if not _is_own(topic, origin.client_id):
            raise AdminError(
                "InvalidRequest", f"the Response Topic is not below {ADMIN_REPLIES}{{client id}}/"
            )
        if correlation is not None and len(correlation) > _CORRELATION_DATA_MAXIMUM:
            raise AdminError("InvalidRequest", "the Correlation Data is too long")
        told = Properties(correlation_data=correlation, content_type="application/json")
        return Requester(
            tenant=self._tenant,
            client_id=origin.client_id,
            identity=principal.identity,
            send=partial(self._send, topic, told),
        )

    def _send(self, topic: str, properties: Properties, body: dict[str, Any], qos: int) -> None:
        payload = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        with contextlib.suppress(BusClosedError):  # The server ends.
            self._bus.publish(topic, payload, qos=qos, properties=properties)


def _verbs(sessions: SessionHandlers, shadows: ShadowHandlers, traces: Traces) -> Mapping[str, Verb]:
    return {
        "session/list": Verb(ListSessions, sessions.list),
        "session/show": Verb(ShowSession, sessions.show),
        "session/kick": Verb(KickSession, sessions.kick),
        "shadow/things": Verb(ListThings, shadows.things),
        "shadow/names": Verb(ListShadows, shadows.names),
        "shadow/show": Verb(ShowVersion, shadows.show),
        "shadow/history": Verb(ShowHistory, shadows.history),
        "shadow/drift": Verb(ListDrift, shadows.drift),
        "trace/start": Verb(StartTrace, traces.start),
        "trace/stop": Verb(StopTrace, traces.stop),
    }


def _known(verbs: Mapping[str, Verb], name: str) -> Verb:
    verb = verbs.get(name)
    if verb is None:
        raise AdminError("UnknownRequest", f"known are {', '.join(verbs)}")
    return verb


def _is_own(topic: str, client_id: str) -> bool:
    """Say whether `topic` is `$gnomon/admin/v1/reply/{client_id}/...`; a ClientId with a slash has none."""
    if len(topic) > _RESPONSE_TOPIC_MAXIMUM or not topic.startswith(ADMIN_REPLIES):
        return False
    try:
        check_topic_name(topic.encode())
    except PeerError:
        return False
    owner, separator, rest = topic.removeprefix(ADMIN_REPLIES).partition("/")
    return owner == client_id and bool(separator) and bool(rest)


def _short(text: str | None) -> str | None:
    return None if text is None else text[:_AUDITED_MAXIMUM]
