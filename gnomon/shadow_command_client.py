"""One shadow over its MQTT topics: get, update, delete, and what happens to it.

Knows: paho-mqtt, the shadow topics, which reply belongs to which request.
Does not know: how documents are shown, where the broker is (place).
Spec: AWS IoT device shadow service, MQTT topics; v5 §3.4.2.1, §3.9.3.

Everything runs in the caller's thread: while it does something else nothing is read, and nothing piles up.
A connection therefore serves one request, or one look at what happens.
"""

import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from shadow import Operation, Reply, ShadowKey, ShadowTopics

from .errors import EnvironmentFailureError, GnomonError
from .shadow_command_place import Place
from .shadow_command_text import plain
from .shadow_command_values import JsonObject, parse_object

_KEEP_ALIVE_S: Final = 30
#: Two documents with metadata, of the largest size that the service can be set to.
_PACKET_SIZE_MAXIMUM: Final = 16 * 1024 * 1024
#: What the broker says has no subscribers may still be served: a broker's own service is none.
_UNHEARD_TIMEOUT_S: Final = 2.0
_READ_S: Final = 1.0
_NO_MATCHING_SUBSCRIBERS: Final = 0x10

_WATCHED: Final = (
    Reply.UPDATE_DELTA,
    Reply.UPDATE_DOCUMENTS,
    Reply.UPDATE_REJECTED,
    Reply.DELETE_ACCEPTED,
)
_REPLIES: Final = {
    Operation.GET: (Reply.GET_ACCEPTED, Reply.GET_REJECTED),
    Operation.UPDATE: (Reply.UPDATE_ACCEPTED, Reply.UPDATE_REJECTED),
    Operation.DELETE: (Reply.DELETE_ACCEPTED, Reply.DELETE_REJECTED),
}
_T = TypeVar("_T")


class ShadowRefusedError(GnomonError):
    """The shadow service, or the broker before it, said no; `code` is the service's, None for the broker."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message if code is None else f"{message} ({code})")
        self.code = code


class Happening(NamedTuple):
    """A message about the shadow; `body` is None where it is no JSON object."""

    reply: Reply
    body: JsonObject | None


class ShadowClient:
    """One connection for one shadow; `with` connects and disconnects it.

    Args:
        place: the broker.
        key: the shadow.
        root: first level of the shadow topics.
        timeout_s: how long each answer may take.
    """

    def __init__(self, place: Place, key: ShadowKey, *, root: str, timeout_s: float) -> None:
        self._place = place
        self._key = key
        self._topics = ShadowTopics(root)
        self._timeout_s = timeout_s
        self._accepted: ReasonCode | None = None
        self._granted: list[ReasonCode] | None = None
        self._published: ReasonCode | None = None
        self._ended: ReasonCode | None = None
        self._happenings: deque[Happening] = deque()
        self._subscribed: dict[str, Reply] = {}
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=place.client_id or f"gnomon-cli-{secrets.token_hex(8)}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._paho.on_connect = self._on_connect
        self._paho.on_subscribe = self._on_subscribe
        self._paho.on_publish = self._on_publish
        self._paho.on_message = self._on_message
        self._paho.on_disconnect = self._on_disconnect

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            EnvironmentFailureError: there is no way to the broker.
            ShadowRefusedError: the broker refuses the client.
        """
        place = self._place
        if place.context is not None:
            self._paho.tls_set_context(place.context)
        if place.user_name is not None:
            self._paho.username_pw_set(place.user_name, place.password)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        properties.MaximumPacketSize = _PACKET_SIZE_MAXIMUM
        self._paho.connect_timeout = self._timeout_s
        try:
            self._paho.connect(place.host, place.port, _KEEP_ALIVE_S, clean_start=True, properties=properties)
        except (OSError, ValueError) as error:
            raise EnvironmentFailureError(
                f"{place}: {plain(str(error))}; check that the broker runs, its address and its certificates"
            ) from None
        accepted = self._until(
            lambda: self._accepted, f"{place} does not answer; check that it is an MQTT 5 broker"
        )
        if accepted.is_failure:
            raise ShadowRefusedError(f"{place} refuses the connection: {accepted}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._paho.disconnect()

    def get(self) -> JsonObject:
        """Return the body of `get/accepted`: it has a `state` and a `version`.

        Raises:
            ShadowRefusedError: 404 where there is no shadow, or another refusal.
            EnvironmentFailureError: no answer in time, or none of a shadow; or the connection is lost.
        """
        document = self._request(Operation.GET, {})
        if not isinstance(document.get("state"), dict) or type(document.get("version")) is not int:
            raise EnvironmentFailureError(f"what answers at {self._place} is no shadow service; check --root")
        return document

    def update(self, state: JsonObject, *, version: int | None = None) -> JsonObject:
        """Ask for a change, of this version only where one is given; the body of `update/accepted`.

        Raises:
            ShadowRefusedError: 409 where the version is another, or another refusal.
            EnvironmentFailureError: as in `get`; the change may have been made.
        """
        return self._request(
            Operation.UPDATE, {"state": state, **({} if version is None else {"version": version})}
        )

    def delete(self) -> JsonObject:
        """Remove the shadow; the body of `delete/accepted`.

        Raises:
            ShadowRefusedError, EnvironmentFailureError: as in `get`.
        """
        return self._request(Operation.DELETE, {})

    def watch(self) -> Iterator[Happening]:
        """Subscribe, and then yield deltas, documents, refusals and deletes for ever.

        Raises:
            ShadowRefusedError: the broker does not let us.
            EnvironmentFailureError: the connection is lost.
        """
        self._subscribe(_WATCHED)
        return self._happening()

    def _happening(self) -> Iterator[Happening]:
        while True:
            while self._happenings:
                yield self._happenings.popleft()
            self._read(_READ_S)

    def _request(self, operation: Operation, body: JsonObject) -> JsonObject:
        accepted, rejected = _REPLIES[operation]
        self._subscribe((accepted, rejected))
        token = f"gnomon-cli-{secrets.token_hex(8)}"
        topic = self._topics.reply(self._key, accepted).removesuffix("/accepted")
        self._paho.publish(topic, json.dumps({**body, "clientToken": token}).encode(), qos=1)
        unheard = f"nobody answered on {topic}/...; check that a shadow service runs there, and --root"
        published = self._until(lambda: self._published, f"{self._place} did not take the request in time")
        if published.is_failure:
            raise ShadowRefusedError(f"{self._place} does not let us publish {topic}: {published}")
        is_unheard = published.value == _NO_MATCHING_SUBSCRIBERS
        timeout_s = min(self._timeout_s, _UNHEARD_TIMEOUT_S) if is_unheard else self._timeout_s
        reply, answer = self._until(lambda: self._reply_to(token), unheard, timeout_s)
        if reply is rejected:
            code, message = answer.get("code"), answer.get("message")
            raise ShadowRefusedError(plain(str(message)), code if isinstance(code, int) else 0)
        return {key: value for key, value in answer.items() if key != "clientToken"}

    def _reply_to(self, token: str) -> tuple[Reply, JsonObject] | None:
        while self._happenings:
            reply, body = self._happenings.popleft()
            if body is not None and body.get("clientToken") == token:
                return reply, body
        return None

    def _subscribe(self, replies: tuple[Reply, ...]) -> None:
        self._subscribed = {self._topics.reply(self._key, reply): reply for reply in replies}
        self._paho.subscribe([(topic, 1) for topic in self._subscribed])
        granted = self._until(lambda: self._granted, f"{self._place} did not answer SUBSCRIBE in time")
        for topic, reason in zip(self._subscribed, granted, strict=False):
            if reason.is_failure:
                raise ShadowRefusedError(f"{self._place} does not let us subscribe to {topic}: {reason}")

    def _until(self, value_of: Callable[[], _T | None], late: str, timeout_s: float | None = None) -> _T:
        """Read until there is a value; `late` is what to say when the time is over."""
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        while (value := value_of()) is None:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                raise EnvironmentFailureError(late)
            self._read(min(remaining_s, _READ_S))
        return value

    def _read(self, timeout_s: float) -> None:
        if self._paho.loop(timeout_s) is MQTTErrorCode.MQTT_ERR_SUCCESS or self._accepted_failure:
            return
        why = "" if self._ended is None else f": {self._ended}"
        raise EnvironmentFailureError(
            f"the connection to {self._place} was lost{why}; check that it runs and takes our certificate"
        )

    @property
    def _accepted_failure(self) -> bool:
        return self._accepted is not None and self._accepted.is_failure

    # Called by paho inside `_read`.

    def _on_connect(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._accepted = reason

    def _on_subscribe(
        self, _client: paho.Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._granted = reasons

    def _on_publish(
        self, _client: paho.Client, _data: object, _mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        self._published = reason

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        reply = self._subscribed.get(message.topic)
        if reply is not None:
            self._happenings.append(Happening(reply, _body(bytes(message.payload))))

    def _on_disconnect(
        self, _client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._ended = reason


def _body(payload: bytes) -> JsonObject | None:
    try:
        return parse_object(payload)
    except ValueError:
        return None
